"""Figures of docs/contrib/{gym,monitor}.md: many tasks, each on a few CPU minutes."""

from __future__ import annotations

from statistics import median
from typing import Any

import record

from figures_of.common import source, table
from figures_of.gym_rows import judged_again
from stratos.contrib.monitor.calibration import Hits, Judged, hits_of
from stratos.core.formats import counted
from stratos.report.planned import PlannedRow, written_width

NONE = "–"
_FREE = {
    "majority": "most frequent",
    "lookup": "nearest",
    "linear": "TF-IDF",
    "chance": "random guess",
}
"""What needs no model, by its role, as the table heads it."""
_SIGNIFICANT = 0.05


def gym_students() -> str:
    """Each task: student, teacher, and what needs no model."""
    kept, rows = _rows()
    head = ["`task.name`", "student", "teacher", "untouched", *_FREE.values(), "right alone", "p"]
    n_chosen = len(kept["result"]["chosen"])
    told = f"{_said_of(rows, n_chosen)} {_said_how(kept)}"
    return f"{table(head, map(_of_task, rows))}\n\n{told}"


def _of_task(row: dict[str, Any]) -> list[str]:
    name = f"`{row['task']}`"
    if "failed" in row:
        return [name, f"failed: {row['failed']}", *[NONE] * (4 + len(_FREE))]
    scores, versus = row["scores"], row["comparison"]
    alone = NONE if versus is None else f"{versus['only_student']} / {versus['only_teacher']}"
    return [
        name,
        _share(scores, "student", True),
        _share(scores, "teacher"),
        *(_share(scores, role) for role in ("untouched", *_FREE)),
        alone,
        NONE if versus is None else f"{versus['p_value']:.1g}",
    ]


def _share(scores: dict[str, Any], role: str, has_ends: bool = False) -> str:
    one = scores.get(role)
    if one is None:
        return NONE
    ends = f" ({100 * one['low']:.0f}–{100 * one['high']:.0f})" if has_ends else ""
    return f"{one['exact']:.1%}{ends}"


def _said_of(rows: list[dict[str, Any]], n_chosen: int) -> str:
    done = [row for row in rows if "failed" not in row]
    compared = [row["comparison"] for row in done if row["comparison"] is not None]
    ahead = [one for one in compared if one["only_student"] > one["only_teacher"]]
    behind = [one for one in compared if one["only_student"] < one["only_teacher"]]
    sure = [sum(one["p_value"] < _SIGNIFICANT for one in some) for some in (ahead, behind)]
    leads = [_lead_over_free(row["scores"]) for row in done]
    ties = [row["task"] for row, lead in zip(done, leads, strict=True) if lead == 0]
    some = [row for row in done if row["task"] in ties and row["scores"]["student"]["exact"]]
    tied = ", ".join(f"`{row['task']}`" for row in some) or "no task"
    n_leads = counted(sum(lead > 0 for lead in leads), "task")
    return (
        f"{len(rows)} of {n_chosen} chosen tasks were run, and {len(rows) - len(done)} of these "
        f"failed. On the test items that both "
        f"answered the student is ahead of the teacher on {len(ahead)} ({sure[0]} with p < "
        f"{_SIGNIFICANT:g}) and behind on {len(behind)} ({sure[1]}); on "
        f"{len(compared) - len(ahead) - len(behind)} both have as many. It has more right than "
        f"each of {', '.join(_FREE.values())} on {n_leads}, fewer than the best of them on "
        f"{sum(lead < 0 for lead in leads)}, and as many on {tied}; on {len(ties) - len(some)} "
        f"nobody of these has any. These are counts: their difference was not tested."
    )


def _lead_over_free(scores: dict[str, Any]) -> float:
    """Return the share of right answers by which the student leads the best without a model."""
    best: float = max(scores[role]["exact"] for role in _FREE if role in scores)
    return float(scores["student"]["exact"]) - best


def _said_how(kept: dict[str, Any]) -> str:
    rows = kept["result"]["rows"]
    minutes = sorted({row["cpu_minutes"] for row in rows})
    took = median(row["cpu_s"] for row in rows)
    done = [row for row in rows if "failed" not in row]
    names = {role: done[0]["scores"][role]["name"] for role in ("student", "teacher")}
    tokens = sorted(row["train_tokens"] for row in done)
    n_asked = {role: _asked(done, role) for role in ("student", "teacher", "untouched")}
    n_linear = sum("linear" in row["scores"] for row in done)
    return (
        f"{' and '.join(f'{one:g}' for one in minutes)} CPU minutes were planned for each command "
        f"(median of what it took: {took:.0f} CPU seconds, of which {_training(done):.0f} train "
        f"{tokens[0]:,} to {tokens[-1]:,} tokens). Student: {names['student']}, asked "
        f"{n_asked['student']} test items; teacher: {names['teacher']}, with two examples, asked "
        f"{n_asked['teacher']}; untouched, asked {n_asked['untouched']} alone. TF-IDF is logistic "
        f"regression over TF-IDF, which was fitted on the {n_linear} tasks whose answers repeat. "
        f"{source('gym')}, beside other work (load of "
        f"{_load(rows)} before a command)."
    )


def _asked(done: list[dict[str, Any]], role: str) -> str:
    """Return how many test items a role was asked, over all tasks."""
    counts = sorted({row["scores"][role]["n_items"] for row in done})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _training(done: list[dict[str, Any]]) -> float:
    return float(median(row["train_cpu_seconds"] for row in done))


def _load(rows: list[dict[str, Any]]) -> str:
    loads = sorted(row["load_before"] for row in rows)
    return f"{loads[0]:.0f} to {loads[-1]:.0f}"


def gym_hits() -> str:
    """How often what was measured lies in its interval, how wide that is, and what failed."""
    kept, rows = _rows()
    head = ["quantity", "in the interval", "share", "95% interval of the share", "median width",
            "measured / planned", "not judged", "of these inside"]  # fmt: skip
    judged = judged_again(rows)
    kinds = hits_of(judged)
    found = table(head, (_of_kind(one.kind, one) for one in kinds if not one.is_bound))
    bounds = " ".join(_bound(one) for one in kinds if one.is_bound)
    ran = _said_ran(rows, kept["result"]["chosen"])
    return "\n\n".join(filter(None, (found, _said_hours(judged), bounds, ran)))


def _said_hours(judged: list[Judged]) -> str:
    """Say how far the hours lie from the planned ones, whatever their intervals."""
    some = [one.row.figures for one in judged if one.row.kind == "hours" and one.row.width]
    ratios = sorted(one.measured / one.planned for one in some if one.planned)
    if not ratios:
        return ""
    return f"Hours measured / planned of single runs: {ratios[0]:.2f}× to {ratios[-1]:.2f}×."


def gym_server() -> str:
    """The same for each quantity of the server on this machine."""
    _, rows = _rows()
    by_quantity: dict[str, list[Any]] = {}
    for one in judged_again(rows):
        if one.row.kind in ("latency", "rate") and one.row.figures.low is not None:
            by_quantity.setdefault(one.row.quantity, []).append(one)
    head = ["quantity", "in the interval", "share", "95% interval of the share", "median width",
            "measured / planned", "not judged", "of these inside"]  # fmt: skip
    return table(
        head,
        (_of_kind(name, one) for name, some in by_quantity.items() for one in hits_of(some)),
    )


def _of_kind(name: str, one: Hits) -> list[str]:
    share = one.share
    return [
        name,
        f"{one.n_inside} of {one.n}",
        f"{share.mean:.0%}" if one.n else NONE,
        f"{share.low:.0%} to {share.high:.0%}" if one.n else NONE,
        NONE if one.width is None else written_width(one.width, one.kind),
        NONE if one.ratio is None else f"{one.ratio:.2f}×",
        f"{one.n_open}",
        f"{one.n_open_inside} of {one.n_open_known}" if one.n_open_known else NONE,
    ]


def _bound(one: Hits) -> str:
    below = "" if one.ratio is None else f"; half of the runs use {one.ratio:.0%} of it or less"
    return (
        f"Upper bound of {one.kind}, which is no interval: {one.n_inside} of {one.n} runs stay "
        f"below it{below}."
    )


def _said_ran(rows: list[dict[str, Any]], chosen: list[str]) -> str:
    failed = [row for row in rows if "failed" in row]
    names = ", ".join(f"`{row['task']}` ({row['failed']})" for row in failed)
    told = f"Failed, and in no row above: {names}." if failed else "None failed."
    return f"{len(rows)} of {counted(len(chosen), 'chosen task')} were run. {told}"


def gym_misses() -> str:
    """Every miss."""
    _, rows = _rows()
    missed = [one for one in judged_again(rows) if one.row.outcome == "outside"]
    if not missed:
        return "None."
    head = ["task", "quantity", "planned", "95% interval", "measured", ""]
    return table(
        head,
        (
            [
                f"`{one.task}`",
                row.quantity,
                row.planned,
                row.interval or NONE,
                row.measured,
                row.note if row.kind in ("latency", "rate") else "",
            ]
            for one in missed
            for row in [one.row]
        ),
    )


def gym_planned() -> str:
    """Accuracy and hours of each task, as planned and as measured; also of those that failed."""
    _, rows = _rows()
    found: dict[str, dict[str, PlannedRow]] = {row["task"]: {} for row in rows}
    failed = {row["task"]: row["failed"] for row in rows if "failed" in row}
    for one in judged_again(rows):
        found.setdefault(one.task, {})[one.row.kind] = one.row
    head = ["task", "accuracy planned", "95% interval", "measured", "", "time planned",
            "95% interval", "measured", ""]  # fmt: skip
    return table(
        head,
        (
            [f"`{task}`", f"failed: {failed[task]}", *[NONE] * 7]
            if task in failed
            else [f"`{task}`", *_cells(of_kind.get("accuracy")), *_cells(of_kind.get("hours"))]
            for task, of_kind in found.items()
        ),
    )


def _cells(row: PlannedRow | None) -> list[str]:
    if row is None:
        return [NONE] * 4
    said = {"inside": "held", "outside": "**missed**", "open": "not judged"}[row.outcome]
    return [row.planned, row.interval_with_width or NONE, row.measured, said]


def _rows() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kept = record.load("gym")
    return kept, kept["result"]["rows"]


BLOCKS = {
    "gym_students": gym_students,
    "gym_hits": gym_hits,
    "gym_server": gym_server,
    "gym_misses": gym_misses,
    "gym_planned": gym_planned,
}
