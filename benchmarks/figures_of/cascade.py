"""Figures of cascades: accuracy, dollars and milliseconds of student, teacher and both."""

from __future__ import annotations

from typing import Any

import record

from figures_of.common import source, table
from stratos.core.formats import milliseconds, percent, usd
from stratos.core.intervals import wilson

TASKS = ("tickets", "sentiment")


def cascade() -> str:
    """Write what each comes to on the test items, and what the endpoint did."""
    rows, told = [], []
    for name in TASKS:
        kept = record.load(f"cascade/{name}")["result"]
        rows += _rows(name, kept)
        told.append(_endpoint(name, kept))
    head = [
        "task", "who answers", "right", "to the teacher", "1,000 answers", "a month", "an answer",
    ]  # fmt: skip
    first = record.load(f"cascade/{TASKS[0]}")["result"]
    a_day = first["cascade"]["month"]["requests_per_day"]
    note = (
        f"Test items, with the 95% interval of what is right. The month has {a_day:,.0f} requests "
        "a day, and its servers are paid when they are idle; 1,000 answers are priced as on a busy "
        f"server. The teacher is wrong on {first['wrong_share']:.0%} of the questions and has the "
        f"price of {first['priced_as']}; its milliseconds are those of the local server that plays "
        "it."
    )
    sources = source(*(f"cascade/{name}" for name in TASKS))
    return f"{table(head, rows)}\n\n{note} {' '.join(told)} {sources}."


def _rows(name: str, kept: dict[str, Any]) -> list[list[str]]:
    made, equal, n = kept["cascade"], kept["equal"], kept["equal"]["n"]
    month, per_1000 = made["month"], made["teacher_usd_per_1000"]
    share = equal["escalated"] / n

    def right(value: int) -> str:
        found = wilson(value, n)
        return f"{percent(found.mean)} ({percent(found.low)} to {percent(found.high)})"

    promised = round(made["measured"]["mean"] * n)
    both = made["student_usd_per_1000"] + share * per_1000
    monthly = month["student_usd"] + share * month["teacher_usd"]
    took = made["student_ms"] + share * made["teacher_ms"]
    return [
        [
            name, "student alone", right(equal["student_right"]), "none",
            usd(made["student_usd_per_1000"]), usd(month["student_usd"]),
            milliseconds(made["student_ms"]),
        ],
        [
            "", "teacher alone", right(equal["teacher_right"]), "all", usd(per_1000),
            usd(month["teacher_usd"]), milliseconds(made["teacher_ms"]),
        ],
        [
            "", f"cascade, {percent(made['accuracy'], 0)} promised", right(promised),
            percent(made["escalated"]["mean"]), usd(made["usd_per_1000"]),
            usd(month["cascade_usd"]), milliseconds(made["cascade_ms"]),
        ],
        [
            "", "cascade, as right as the teacher on the items that choose", right(equal["right"]),
            percent(share), usd(both), usd(monthly), milliseconds(took),
        ],
    ]  # fmt: skip


def _endpoint(name: str, kept: dict[str, Any]) -> str:
    asked = kept["endpoint"]
    right = percent(asked["right"] / asked["n"])
    first = "".join(f"{percent(one, 0)} was refused to {name}. " for one in kept["refused"])
    return (
        f"{first}The endpoint of {name} was asked {asked['n']:,} of the test items: "
        f"{asked['by']['teacher']:,} went to the teacher, and {right} came back right, in "
        f"{milliseconds(asked['mean_ms'])} on average."
    )


def cascade_resplits() -> str:
    """Write how often the promise was broken when the items that choose were drawn anew."""
    kept = record.load("cascade/resplits")["result"]
    rows = [
        [
            name, percent(one["accuracy"]), f"{one['n_choosing']:,} of {one['n_items']:,}",
            *(_broken(one[way]) for way in ("one_look", "asking_more")),
        ]
        for name, found in kept.items()
        for one in found["promises"]
    ]  # fmt: skip
    head = [
        "task", "promised", "items that choose", "broken: one look",
        "broken: more items until it passes",
    ]  # fmt: skip
    less = " ".join(
        f"In {name}, who asks for what the teacher alone has ({percent(one['first'])}) and lowers "
        f"it by {100 * one['step']:g} points until it passes is promised "
        f"{percent(one['mean_promised'])} on average, and that was broken in {one['broken']:,} of "
        f"{one['draws']:,} draws."
        for name, one in ((name, found["asking_less"]) for name, found in kept.items())
    )
    first = next(iter(kept.values()))["promises"][0]
    draws, delta = first["draws"], first["delta"]
    note = (
        f"All items that both answered stand for the requests; each of {draws:,} draws takes those "
        "that choose from them, with replacement. A promise is broken if the cascade is right less "
        "often on all items. The promises of a task go up to what its teacher alone has. One look "
        "is at all items that choose; who asks more looks at a quarter, a half, and all of them. "
        f"With {percent(1 - delta, 0)} confidence {delta * draws:.0f} of {draws:,} may break."
    )
    return f"{table(head, rows)}\n\n{note} {less} {source('cascade/resplits')}."


def _broken(came: dict[str, int]) -> str:
    return f"{came['broken']:,} ({came['promised']:,} promised)"


BLOCKS = {"cascade": cascade, "cascade_resplits": cascade_resplits}
