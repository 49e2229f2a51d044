"""The report page of a sweep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from stratos.core import formats
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.evaluate.verdict import Verdict, verdict
from stratos.records import CurvePoint, Interval, Plan, Scorecard, Student
from stratos.report import charts, costs
from stratos.report.charts import N_COLOURS, overlaid, render
from stratos.report.paired import figures_of, raw_settings_of, shown
from stratos.report.sweep_jobs import Job, alike, best_of, is_run, natural, read_jobs, validation

# What any two runs of a sweep are compared by on its page: figures, settings, right answers.

_MOST_ITEMS = 2_000
"""Test items of a run that are compared: a page of many runs has to stay small."""


class Run(msgspec.Struct, frozen=True):
    """One run; what all runs have in common stands in `Runs`."""

    name: str
    figures: dict[str, str]
    settings: dict[str, str]
    """Those in which runs of the sweep differ."""
    item_set: int
    """Which of `Runs.item_sets` it answered; -1 where it was not evaluated."""
    right: str
    """1 for each of these items that its student has right, else 0."""


class Runs(msgspec.Struct, frozen=True):
    """All runs of a sweep."""

    runs: list[Run]
    item_sets: list[list[int]]
    """Sets of test items, each by number: runs of one seed have one set."""
    questions: list[int]
    """Of each item its question, by number: items of one question differ in their label."""


class _Exact(msgspec.Struct):
    exact: float


class _Scored(msgspec.Struct):
    question: str
    gold: str
    score: _Exact


_DECODER = msgspec.json.Decoder(_Scored)


def runs_of(jobs: Sequence[Job]) -> Runs:
    """Read what two jobs can be compared by."""
    settings = [_settings(job.folder) for job in jobs]
    keys = {key for setting in settings for key in setting}
    varied = {key for key in keys if len({str(setting.get(key)) for setting in settings}) > 1}
    numbers: dict[tuple[str, str, str], int] = {}
    sets: dict[tuple[int, ...], int] = {}
    runs = []
    for job, own in zip(jobs, settings, strict=True):
        scored = _scored(job)
        items = tuple(numbers.setdefault(item, len(numbers)) for item in scored)
        runs.append(
            Run(
                name=job.name,
                figures=figures_of(job),
                settings={key: shown(key, own[key]) for key in sorted(varied & own.keys())},
                item_set=sets.setdefault(items, len(sets)) if items else -1,
                right="".join("01"[is_right] for is_right in scored.values()),
            )
        )
    by_number: dict[tuple[str, str], int] = {}
    questions = [by_number.setdefault(item[:2], len(by_number)) for item in numbers]
    return Runs(runs, [list(items) for items in sets], questions)


def _settings(folder: Path) -> dict[str, Any]:
    with suppress(ValueError, OSError):
        return raw_settings_of(folder)
    return {}


def _scored(job: Job) -> dict[tuple[str, str, str], bool]:
    """Return item to whether the student has it right; an item is the same as in `compare`."""
    scorecard: Scorecard | None = job.records.get("evaluate")
    if scorecard is None:
        return {}
    path = job.folder / "evaluate" / "answers.jsonl"
    try:
        answers = _DECODER.decode_lines(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}
    return {
        (scorecard.metric, answer.question, answer.gold): answer.score.exact == 1
        for answer in answers[:_MOST_ITEMS]
    }


_MOST_VALUES = 60
"""Of an override that can be filtered by; of more, the search finds them."""


class ReportError(StratosError):
    """There is nothing to make a page of."""


@dataclass(frozen=True)
class Row:
    """One job as a row of the comparison."""

    job: Job
    href: str
    """Its own page, relative to the sweep's; empty if there is none."""
    varied: tuple[str, ...]
    """The overrides in which the jobs differ."""
    validation: Interval | None
    """Exact match of the kept weights on validation items: what the best job is chosen by."""
    accuracy: Interval | None
    predicted: bool
    """True if `accuracy` is the plan's, because nothing was measured."""
    verdict: Verdict | None
    """How the student stands beside the best baseline; None where nobody compared them."""
    ratio_at_least: float | None
    usd: float | None
    hours: float | None
    here_hours: float | None
    latency_ms: float | None
    usd_per_1000: float | None
    plan: Plan | None


def write_sweep_page(sweep_dir: Path) -> Path:
    """Write `index.html` into the folder of a sweep and return its path.

    Raises:
        ReportError: the folder holds no job.
    """
    if not sweep_dir.is_dir():
        raise ReportError(
            f"{sweep_dir}: no such folder. Give the folder of a sweep, as in sweeps/<time>."
        )
    jobs = read_jobs(sweep_dir)
    if not jobs:
        hint = f"; for the sweep that it is part of give {sweep_dir.parent}"
        raise ReportError(
            f"{sweep_dir}: no job of a sweep in it{hint if is_run(sweep_dir) else ''}. "
            "A sweep is made with -m, as in `python -m stratos -m +task=mahjong student=a,b`."
        )
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    rows = [_row(sweep_dir, job, common) for job in jobs]
    best = best_of(jobs)
    page = render(
        "sweep.html",
        title=f"{sweep_dir.resolve().name} · Stratos",
        name=sweep_dir.resolve().name,
        made=datetime.now().astimezone(),
        rows=rows,
        runs=runs_of(jobs),
        filters=_filters(rows),
        common=[line for line in jobs[0].overrides if line in common],
        statuses=Counter(job.status for job in jobs),
        best=next((row for row in rows if best and row.job is best[0]), None),
        alike=alike(best),
        plot=_plot(rows),
        curves=overlaid(_curves(rows)),
        n_curves=len(_curves(rows)),
        n_drawn=N_COLOURS,
    )
    path = sweep_dir / "index.html"
    write_atomically(path, page)
    return path


def _filters(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return what rows can be filtered by, with its values: the status, and varied overrides."""
    by_filter: dict[str, set[str]] = {"status": {row.job.status for row in rows}}
    for row in rows:
        for line in row.varied:
            key, _, value = line.partition("=")
            by_filter.setdefault(key, set()).add(value)
    return [
        (key, sorted(values, key=natural))
        for key, values in by_filter.items()
        if 1 < len(values) <= _MOST_VALUES
    ]


def _row(sweep_dir: Path, job: Job, common: set[str]) -> Row:
    plan: Plan | None = job.records.get("plan")
    scorecard: Scorecard | None = job.records.get("evaluate")
    deployment = job.records.get("deploy")
    measured = scorecard.score("student") if scorecard else None
    accuracy = (
        next((s.exact for s in measured.slices if s.slice == "all"), None) if measured else None
    )
    comparison = scorecard.comparison if scorecard else None
    spends = costs.read_ledger(job.folder / "ledger.jsonl")
    seconds = sum(costs.stage_seconds(job.records, spends).values())
    student: Student | None = job.records.get("distill")
    return Row(
        job=job,
        href=_href(sweep_dir, job),
        varied=tuple(line for line in job.overrides if line not in common),
        validation=None if student is None else validation(student),
        accuracy=accuracy or (plan.accuracy if plan and plan.accuracy.is_known else None),
        predicted=accuracy is None,
        verdict=verdict(scorecard) if scorecard else None,
        ratio_at_least=comparison.least_ratio if comparison else None,
        usd=plan.usd if plan else None,
        hours=plan.hours if plan else None,
        here_hours=seconds / 3600 if job.records else None,
        latency_ms=deployment.latency_p95_ms if deployment else None,
        usd_per_1000=measured.usd_per_1000 if measured else None,
        plan=plan,
    )


def _href(sweep_dir: Path, job: Job) -> str:
    page = job.folder / "report.html"
    return quote(os.path.relpath(page, sweep_dir).replace(os.sep, "/")) if page.exists() else ""


def _curves(rows: Sequence[Row]) -> dict[str, tuple[CurvePoint, ...]]:
    """Return the curve of each job that trained, the best on validation items first."""
    trained = [(row, row.job.records.get("distill")) for row in rows]
    ranked = sorted(
        ((row, student) for row, student in trained if student is not None and student.curve),
        key=lambda pair: -pair[1].validation_exact,
    )
    return {row.job.name: student.curve for row, student in ranked}


def _plot(rows: Sequence[Row]) -> charts.Plot | None:
    marks = [
        charts.Mark(
            label=f"Job {row.job.name}",
            values={
                "accuracy": row.accuracy.mean,
                "usd": row.usd,
                "hours": row.hours,
                "here": row.here_hours,
                "latency_ms": row.latency_ms,
            },
            kind="predicted" if row.predicted else "chosen",
            rows=(
                *((line.split("=", 1)[0], line.partition("=")[2]) for line in row.varied),
                *((("student", row.plan.student),) if row.plan else ()),
                (
                    "accuracy",
                    f"{formats.percent(row.accuracy.mean)} ({formats.interval(row.accuracy)})",
                ),
                ("planned", f"{formats.usd(row.usd)}, {formats.hours(row.hours)}"),
                ("this run", formats.hours(row.here_hours)),
                ("p95", formats.milliseconds(row.latency_ms)),
                ("status", row.job.status),
            ),
            href=row.href,
        )
        for row in rows
        if row.accuracy is not None
    ]
    if not marks:
        return None
    axes = (charts.USD, charts.HOURS, charts.RUN_HOURS, charts.LATENCY, charts.ACCURACY)
    return charts.plot(
        "Accuracy against cost in dollars", axes, (charts.ACCURACY, *axes[:-1]), marks
    )
