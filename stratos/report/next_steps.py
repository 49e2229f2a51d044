"""What would help next: a longer training, another student, another teacher, and their prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stratos.core.formats import duration, percent, usd
from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.records import Pilot, Plan, PlanPoint, Probe, Student
from stratos.report import to_type

LONGER = (2, 4)
"""How many times as long the trainings are that are asked about."""


@dataclass(frozen=True)
class Step:
    """One thing that may be done, what it may gain, and what to type."""

    what: str
    predicted: str
    """Accuracy on validation items with its interval, or why nobody knows."""
    price: str
    command: str = ""


def next_steps(
    run_dir: Path,
    probe: Probe | None,
    pilot: Pilot | None,
    plan: Plan | None,
    student: Student | None,
) -> tuple[Step, ...]:
    """Return what may raise the accuracy of a student that was trained.

    Everything rests on validation items, as a plan does: a choice by test items would spoil them.

    Raises:
        ValueError: what Hydra kept of the run is corrupt.
    """
    if plan is None or student is None or not student.n_validation_items:
        return ()
    return (
        *_longer(run_dir, pilot, plan, student),
        *_larger(run_dir, plan, student),
        *_teachers(probe, plan),
    )


def _longer(run_dir: Path, pilot: Pilot | None, plan: Plan, student: Student) -> Iterator[Step]:
    """A longer training, along the learning curve of this one and of the pilot's."""
    if student.validation_exact < LEAST_SHOWN or not student.train_tokens:
        return
    n = student.n_validation_items
    points = [Measured(student.train_tokens, student.validation_exact * n, n)]
    points += [
        Measured(one.train_tokens, one.accuracy * one.n_items, one.n_items)
        for run in (pilot.runs if pilot else ())
        if (run.student, run.strategy) == (plan.student, plan.strategy)
        for one in run.points
    ]
    train_usd = sum(role.usd for role in plan.roles_of("train"))
    for factor in LONGER:
        tokens = factor * student.train_tokens
        found = extrapolate(on_same_items(points), tokens)
        epochs = factor * (student.epochs or 0)
        again = f", each row {epochs:.0f} times" if epochs >= 1.5 else ""
        yield Step(
            f"{factor}× the training: {tokens:,} tokens{again}",
            _predicted(found.mean, found.low, found.high),
            f"{usd(factor * train_usd)} as planned; about {duration(factor * student.seconds)}",
            to_type.repeat(
                run_dir,
                {"trainer.max_tokens": str(tokens), "trainer.max_epochs": "-1"},
            ),
        )


def _larger(run_dir: Path, plan: Plan, student: Student) -> Iterator[Step]:
    """The plan's most accurate point with another student, if it promises more."""
    others = [one for one in plan.frontier if one.accuracy_known and one.student != plan.student]
    best = max(others, key=lambda one: (one.accuracy, -one.usd), default=None)
    if best is not None and best.accuracy > student.validation_exact:
        yield Step(
            f"Another student: {best.student} by {best.strategy}",
            _predicted(best.accuracy, best.accuracy_low, best.accuracy_high),
            _price(best, plan),
            to_type.of_point(best, plan, run_dir),
        )


def _teachers(probe: Probe | None, plan: Plan) -> Iterator[Step]:
    """Another teacher, where the student learns from what a teacher can do."""
    if probe is None or plan.strategy == "injection" or plan.strategy == "supervised":
        return
    rates = {one.teacher: one.exact for one in probe.teachers}
    ours = rates.get(plan.teacher)
    better = [
        (exact, name)
        for name, exact in rates.items()
        if ours is not None and name != plan.teacher and exact.mean > ours.mean
    ]
    if better:
        exact, name = max(better, key=lambda one: one[0].mean)
        yield Step(
            f"Another teacher: {name}",
            f"it answers {percent(exact.mean)} ({percent(exact.low)} to {percent(exact.high)}) "
            "right itself",
            "see the frontier",
        )
    elif probe.unreachable:
        names = ", ".join(sorted(probe.unreachable)[:3])
        yield Step(
            "A better teacher",
            f"unknown: {names} could not be asked",
            "their probe is priced before it is paid",
        )


def _price(point: PlanPoint, plan: Plan) -> str:
    more = point.usd - plan.usd
    return f"{usd(point.usd)} in all, {usd(abs(more))} {'more' if more >= 0 else 'less'}"


def _predicted(mean: float, low: float, high: float) -> str:
    return f"{percent(mean)} ({percent(low)} to {percent(high)})"
