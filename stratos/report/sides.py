"""What two runs are compared by, read from their folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.evaluate.answer_files import KeptAnswer, answers_path, read_answers
from stratos.records import Scorecard
from stratos.report.run_figures import figures_of, settings_of
from stratos.report.sweep_jobs import Job, is_run, read_job

_ABSENT = "–"


@dataclass(frozen=True)
class Side:
    """One of two runs."""

    job: Job
    settings: Mapping[str, str]
    """Of its config, by dotted key."""
    metric: str
    answers: list[KeptAnswer]
    """Of its student to test items; none before they were asked."""


def read_side(folder: Path) -> Side:
    """Read a run.

    Raises:
        StratosError: it is none, or what it left cannot be read.
    """
    if not folder.is_dir() or not is_run(folder):
        raise StratosError(f"{folder} is no folder of a run. Type stratos status to list them.")
    job = read_job(folder.parent, folder)
    try:
        settings = settings_of(folder)
    except (ValueError, OSError) as error:
        raise StratosError(f"{folder}: {error}") from error
    scorecard: Scorecard | None = job.records.get("evaluate")
    answers = read_answers(folder, scorecard) if answers_path(folder).exists() else []
    return Side(job, settings, "" if scorecard is None else scorecard.metric, answers)


def changed(first: Side, second: Side) -> dict[str, tuple[str, str]]:
    """Return the settings that differ, each with both values."""
    keys = sorted(first.settings.keys() | second.settings.keys())
    pairs = {
        key: (first.settings.get(key, _ABSENT), second.settings.get(key, _ABSENT)) for key in keys
    }
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def figures(one: Side) -> dict[str, str]:
    """Return the figures of a run by what they are called; those that there are."""
    return figures_of(one.job)
