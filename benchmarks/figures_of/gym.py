"""Figures of docs/contrib/{gym,monitor}.md: many tasks, each on a few CPU minutes."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

import record

from figures_of.tables import NONE, columns, source
from stratos.contrib.monitor.calibration import Hits, Judged, hits_of
from stratos.core.formats import counted
from stratos.report.planned import Figures, PlannedRow, written_width

FREE = {
    "majority": "most frequent",
    "lookup": "nearest",
    "linear": "TF-IDF",
    "chance": "random guess",
}
"""What needs no model, by its role, as the table heads it."""
SIGNIFICANT = 0.05


def gym_students() -> str:
    """Each task: student, teacher, and what needs no model."""
    kept = record.load("gym")
    rows = kept["result"]["rows"]
    roles = {"teacher": "teacher", "untouched": "untouched", **FREE}
    lines = columns(
        rows,
        ("`task.name`", "`{task}`"),
        ("student", _student),
        *((title, lambda row, role=role: _exact(row, role)) for role, title in roles.items()),
        ("right alone", lambda row: _versus(row, "{only_student} / {only_teacher}")),
        ("p", lambda row: _versus(row, "{p_value:.1g}")),
    )
    return f"{lines}\n\n{_outcome(rows, len(kept['result']['chosen']))} {_settings(rows)}"


def _student(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    student = row["scores"]["student"]
    return f"{_exact(row, 'student')} ({100 * student['low']:.0f}–{100 * student['high']:.0f})"


def _exact(row: dict[str, Any], role: str) -> str:
    score = row.get("scores", {}).get(role)
    return NONE if score is None else f"{score['exact']:.1%}"


def _versus(row: dict[str, Any], form: str) -> str:
    return form.format_map(row["comparison"]) if row.get("comparison") else NONE


def _finished(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if "failed" not in row]


def _outcome(rows: list[dict[str, Any]], n_chosen: int) -> str:
    """Say how often the student is ahead of the teacher, and of what needs no model."""
    done = _finished(rows)
    compared = [row["comparison"] for row in done if row["comparison"] is not None]
    ahead = [pair for pair in compared if pair["only_student"] > pair["only_teacher"]]
    behind = [pair for pair in compared if pair["only_student"] < pair["only_teacher"]]
    sure = [sum(pair["p_value"] < SIGNIFICANT for pair in pairs) for pairs in (ahead, behind)]
    leads = {row["task"]: _lead(row["scores"]) for row in done}
    ties = [row for row in done if leads[row["task"]] == 0]
    tied = [f"`{row['task']}`" for row in ties if row["scores"]["student"]["exact"]]
    return (
        f"{len(rows)} of {n_chosen} chosen tasks were run, and {len(rows) - len(done)} of these "
        f"failed. On the test items that both answered the student is ahead of the teacher on "
        f"{len(ahead)} ({sure[0]} with p < {SIGNIFICANT:g}) and behind on {len(behind)} "
        f"({sure[1]}); on {len(compared) - len(ahead) - len(behind)} both have as many. It has "
        f"more right than each of {', '.join(FREE.values())} on "
        f"{counted(sum(lead > 0 for lead in leads.values()), 'task')}, fewer than the best of them "
        f"on {sum(lead < 0 for lead in leads.values())}, and as many on "
        f"{', '.join(tied) or 'no task'}; on {len(ties) - len(tied)} nobody of these has any. "
        "These are counts: their difference was not tested."
    )


def _lead(scores: dict[str, Any]) -> float:
    """Return the share of right answers by which the student leads the best without a model."""
    best: float = max(scores[role]["exact"] for role in FREE if role in scores)
    return float(scores["student"]["exact"]) - best


def _settings(rows: list[dict[str, Any]]) -> str:
    done = _finished(rows)
    minutes = sorted({row["cpu_minutes"] for row in rows})
    names = {role: done[0]["scores"][role]["name"] for role in ("student", "teacher")}
    tokens = sorted(row["train_tokens"] for row in done)
    asked = {role: _n_items(done, role) for role in ("student", "teacher", "untouched")}
    loads = sorted(row["load_before"] for row in rows)
    return (
        f"{' and '.join(f'{n:g}' for n in minutes)} CPU minutes were planned for each command "
        f"(median of what it took: {median(row['cpu_s'] for row in rows):.0f} CPU seconds, of "
        f"which {median(row['train_cpu_seconds'] for row in done):.0f} train {tokens[0]:,} to "
        f"{tokens[-1]:,} tokens). Student: {names['student']}, asked {asked['student']} test "
        f"items; teacher: {names['teacher']}, with two examples, asked {asked['teacher']}; "
        f"untouched, asked {asked['untouched']} alone. TF-IDF is logistic regression over TF-IDF, "
        f"which was fitted on the {sum('linear' in row['scores'] for row in done)} tasks whose "
        f"answers repeat. {source('gym')}, beside other work (load of {loads[0]:.0f} to "
        f"{loads[-1]:.0f} before a command)."
    )


def _n_items(done: list[dict[str, Any]], role: str) -> str:
    counts = sorted({row["scores"][role]["n_items"] for row in done})
    return " to ".join(dict.fromkeys([f"{counts[0]}", f"{counts[-1]}"]))


def gym_hits() -> str:
    """How often what was measured lies in its interval, how wide that is, and what failed."""
    kept = record.load("gym")["result"]
    predictions = list(_predictions(kept["rows"]))
    kinds = hits_of(predictions)
    lines = columns(
        [{"hits": hits} for hits in kinds if not hits.is_bound],
        ("quantity", "{hits.kind}"),
        ("in the interval", "{hits.n_inside} of {hits.n}"),
        ("share", _of_judged("{hits.share.mean:.0%}")),
        ("95% interval of the share", _of_judged("{hits.share.low:.0%} to {hits.share.high:.0%}")),
        ("median width", lambda row: _width(row["hits"])),
        (
            "measured / planned",
            lambda row: NONE if row["hits"].ratio is None else f"{row['hits'].ratio:.2f}×",
        ),
        ("not judged", "{hits.n_open}"),
        ("of these inside", lambda row: _open(row["hits"])),
    )
    bounds = [_bound(hits) for hits in kinds if hits.is_bound]
    return "\n\n".join([lines, *_hours(predictions), *bounds, _ran(kept)])


def _of_judged(form: str) -> Any:
    return lambda row: form.format_map(row) if row["hits"].n else NONE


def _width(hits: Hits) -> str:
    return NONE if hits.width is None else written_width(hits.width, hits.kind)


def _open(hits: Hits) -> str:
    return f"{hits.n_open_inside} of {hits.n_open_known}" if hits.n_open_known else NONE


def _hours(predictions: list[Judged]) -> Iterator[str]:
    """Yield how far the hours lie from the planned ones, whatever their intervals."""
    figures = [one.row.figures for one in predictions if one.row.kind == "hours" and one.row.width]
    ratios = sorted(of.measured / of.planned for of in figures if of.planned)
    if ratios:
        yield f"Hours measured / planned of single runs: {ratios[0]:.2f}× to {ratios[-1]:.2f}×."


def _bound(hits: Hits) -> str:
    below = "" if hits.ratio is None else f"; half of the runs use {hits.ratio:.0%} of it or less"
    return (
        f"Upper bound of {hits.kind}, which is no interval: {hits.n_inside} of {hits.n} runs stay "
        f"below it{below}."
    )


def _ran(kept: dict[str, Any]) -> str:
    failures = [f"`{row['task']}` ({row['failed']})" for row in kept["rows"] if "failed" in row]
    failed = f"Failed, and in no row above: {', '.join(failures)}." if failures else "None failed."
    return (
        f"{len(kept['rows'])} of {counted(len(kept['chosen']), 'chosen task')} were run. {failed}"
    )


def gym_misses() -> str:
    """Every miss."""
    predictions = _predictions(record.load("gym")["result"]["rows"])
    missed = [{"task": one.task, "row": one.row} for one in predictions
              if one.row.outcome == "outside"]  # fmt: skip
    if not missed:
        return "None."
    return columns(
        missed,
        ("task", "`{task}`"),
        ("quantity", "{row.quantity}"),
        ("planned", "{row.planned}"),
        ("95% interval", lambda miss: miss["row"].interval or NONE),
        ("measured", "{row.measured}"),
        ("", lambda miss: miss["row"].note if miss["row"].kind in ("latency", "rate") else ""),
    )


def _predictions(rows: list[dict[str, Any]]) -> Iterator[Judged]:
    """Yield every prediction of the runs; one that failed has none."""
    for row in rows:
        for fields in row.get("predicted", ()):
            predicted = PlannedRow(**{**fields, "figures": Figures(**fields["figures"])})
            yield Judged(row["task"], row["task"], "", predicted)


BLOCKS = {"gym_students": gym_students, "gym_hits": gym_hits, "gym_misses": gym_misses}
