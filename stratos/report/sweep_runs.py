"""What any two runs of a sweep are compared by on its page: figures, settings, right answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from stratos.records import Scorecard
from stratos.report.run_figures import figures_of, raw_settings_of, shown
from stratos.report.sweep_jobs import Job

_MOST_ITEMS = 2_000
"""Test items of a run that are compared: a page of many runs has to stay small."""


class Run(msgspec.Struct, frozen=True):
    """One run; what all runs have in common stands in `Runs`."""

    name: str
    figures: dict[str, str]
    settings: dict[str, str]
    """Those in which runs of the sweep differ."""
    asked: int
    """Which of `Runs.asked` it was asked; -1 where it was not evaluated."""
    right: str
    """1 for each of these items that its student has right, else 0."""


class Runs(msgspec.Struct, frozen=True):
    """All runs of a sweep."""

    runs: list[Run]
    asked: list[list[int]]
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
    keys = {key for one in settings for key in one}
    varied = {key for key in keys if len({str(one.get(key)) for one in settings}) > 1}
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
                asked=sets.setdefault(items, len(sets)) if items else -1,
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
        found = _DECODER.decode_lines(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}
    return {
        (scorecard.metric, one.question, one.gold): one.score.exact == 1
        for one in found[:_MOST_ITEMS]
    }
