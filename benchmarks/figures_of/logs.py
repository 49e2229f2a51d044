"""Figures of docs/contrib/logs.md: what the checks of a log find, what that is worth, its cost."""

from __future__ import annotations

from typing import Any

import record

from figures_of.tables import NONE, columns, load_average, result, source, table

FILTERS, SIZE = "logs/filters", "logs/size"
N_REQUESTS = 9
"""Sentences of `benchmarks/contrib/logs.py` that decide a label."""


def log_filters() -> str:
    """Each way to spoil an answer, and how many its check finds."""
    measured = result(FILTERS)
    logs, replies = measured["logs"], measured["replies"]
    cells = [
        [kind["kind"], *(_found(log, number, "found_by_any_check") for log in logs)]
        for number, kind in enumerate(logs[0]["kinds"])
    ]
    cells.append(["nothing, and found all the same", *(str(log["found_unspoilt"]) for log in logs)])
    cells += [
        [f"{kind['kind']} among free texts", *(_found(log, number, "found") for log in replies)]
        for number, kind in enumerate(replies[0]["kinds"])
    ]
    wrongly = [str(sum(log["wrongly"].values())) for log in replies]
    cells.append(["nothing among free texts, and found all the same", *wrongly])
    heads = ["spoilt", *(f"found, {log['share']:.1%} of the rows each" for log in logs)]
    return (
        f"{table(heads, cells)}\n\n{source(FILTERS)}. {replies[0]['rows']:,} free texts "
        f"({', '.join(replies[0]['unspoilt'])}) are a log of their own."
    )


def _found(log: dict[str, Any], number: int, key: str) -> str:
    kind = log["kinds"][number]
    return f"{kind[key]}/{kind['spoilt']}"


def log_personal() -> str:
    """Each kind of personal data, planted and found."""
    return columns(
        result(FILTERS)["personal"],
        ("planted", "{kind}"),
        ("forms", "{forms}"),
        ("found", "{found}/{planted}"),
        ("not found", lambda row: _forms(row["missed"])),
        ("found where it is not", "{wrongly}/{others}"),
        ("there", lambda row: _forms(row["mistaken"])),
    )


def _forms(forms: list[str]) -> str:
    return ", ".join(f"`{form}`" for form in forms) or NONE


def log_size() -> str:
    """Rows, CPU seconds and memory of a log."""
    rows = columns(
        result(SIZE),
        ("command", "`{what}`"),
        ("rows", "{rows:,}"),
        ("MiB", "{file_mib:,.0f}"),
        ("CPU s", "{cpu_s:.1f}"),
        ("s", "{wall_s:.1f}"),
        ("peak MiB", "{peak_mib:,.0f}"),
    )
    return (
        f"{rows}\n\n{source(SIZE)}, with other work: load of {load_average(SIZE)}; CPU seconds are "
        "what a core takes that does nothing else."
    )


def log_students() -> str:
    """Students from what the filters leave and from the raw log."""
    names = [f"logs/students_{tokens}k" for tokens in (150, 300)]
    right = "{{{0}[right][0]:.1%}} ({{{0}[right][1]:.1%}} to {{{0}[right][2]:.1%}})"
    rows = columns(
        [run for name in names for run in result(name)["runs"]],
        (
            "tokens of training, filtered / raw",
            "{verify[train_tokens]:,} / {trust[train_tokens]:,}",
        ),
        ("seed", "{seed}"),
        ("rows spoilt", "{spoilt} of {rows:,}"),
        ("left out", "{left_out}"),
        ("from filtered", right.format("verify")),
        ("from raw", right.format("trust")),
        ("right alone, of the requests", "{only_filtered} / {only_raw}"),
    )
    n = result(names[0])["n_test"]
    return (
        f"{rows}\n\n{record.load(names[0])['student']}, {n:,} fresh requests. Each ends in one of "
        f"{N_REQUESTS} sentences, which alone decides its label; the words before it are drawn and "
        f"tell nothing. So these are {N_REQUESTS} different requests, each asked about "
        f"{n // N_REQUESTS} times: the intervals are too narrow for other requests, and no p-value "
        f"is given. {source(names[0])}."
    )


BLOCKS = {
    "log_students": log_students,
    "log_filters": log_filters,
    "log_personal": log_personal,
    "log_size": log_size,
}
