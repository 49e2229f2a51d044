"""The items of a run that student and teacher have both answered, in two halves.

Both are test items, which no choice of the run has read: one half chooses the threshold, the other
measures the cascade. Which half an item is in depends on its text alone.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stratos.cascade.threshold import Pair
from stratos.core.errors import StratosError
from stratos.evaluate.answer_files import read_answers
from stratos.records import Plan, Scorecard, load
from stratos.report.sweep_jobs import is_run


@dataclass(frozen=True)
class Answered:
    """What a cascade of a run is chosen and measured by."""

    plan: Plan
    choosing: list[Pair]
    measuring: list[Pair]
    usd_per_1000: float | None
    """Of the student on its planned server."""
    teacher_usd_per_1000: float | None
    student: float
    """Share that it has right of all these items."""
    teacher: float

    @property
    def n(self) -> int:
        """Items in all."""
        return len(self.choosing) + len(self.measuring)


def answered(folder: Path) -> Answered:
    """Read a run.

    Raises:
        StratosError: it has no items that both answered, or does not say how sure the student was.
    """
    if not folder.is_dir() or not is_run(folder):
        raise StratosError(
            f"{folder} is no folder of a run. Type python -m stratos.status to list them."
        )
    try:
        plan = load(folder / "plan.json", None, Plan)
        scorecard = load(folder / "evaluate.json", None, Scorecard)
    except msgspec.DecodeError as error:
        raise StratosError(f"{folder}: a record cannot be read ({error}).") from error
    if plan is None or scorecard is None:
        raise StratosError(f"{folder} was not evaluated yet. Give its command again.")
    by_teacher = _right_by_teacher(folder, scorecard)
    kept = [one for one in read_answers(folder, scorecard) if one.id in by_teacher]
    if not kept:
        raise StratosError(
            f"{folder}: the teacher answered no test item, so there is nothing to escalate to. "
            "Give the command again with evaluate.n_teacher_items=<number>."
        )
    if any(one.logprob is None for one in kept):
        raise StratosError(
            f"{folder} was evaluated by an earlier version, which did not keep how sure the "
            f"student was. Delete {folder / 'evaluate.json'} and give the command again."
        )
    halves: tuple[list[Pair], list[Pair]] = ([], [])
    for one in kept:
        confidence = one.logprob if one.score.parsed and one.logprob is not None else -math.inf
        pair = Pair(confidence, one.score.exact >= 1, by_teacher[one.id])
        halves[_half(one.question)].append(pair)
    both = [*halves[0], *halves[1]]
    student, teacher = scorecard.score("student"), scorecard.score("teacher")
    return Answered(
        plan,
        *halves,
        None if student is None else student.usd_per_1000,
        None if teacher is None else teacher.usd_per_1000,
        sum(one.student for one in both) / len(both),
        sum(one.teacher for one in both) / len(both),
    )


def _half(question: str) -> int:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[0] % 2


def _right_by_teacher(folder: Path, scorecard: Scorecard) -> dict[str, bool]:
    """Return whether the teacher's answer to each item is right, by the item's id."""
    path = folder / "evaluate" / "examples.jsonl"
    if not path.exists():
        path = Path(scorecard.examples_path)
    try:
        rows: list[dict[str, Any]] = [
            msgspec.json.decode(line) for line in path.read_bytes().splitlines()
        ]
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"The teacher's answers cannot be read from {path} ({error}). Delete "
            f"{folder / 'evaluate.json'} and give the command again."
        ) from error
    return {
        row["id"]: row["scores"]["teacher"]["exact"] >= 1
        for row in rows
        if "teacher" in row.get("scores", {})
    }
