"""What would help next: a longer training, another student, another teacher, and their prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stratos.core.formats import duration, percent, usd
from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.records import Pilot, Plan, PlanPoint, Probe, Student
from stratos.report.frontier import command_again, command_of_point

LONGER = (2, 4)
"""How many times as long the trainings are that are asked about."""
_MOST_EPOCHS = 4
"""How often a row may be read for a prediction: up to there it is worth about as much as new ones
(Muennighoff et al. 2023, Scaling Data-Constrained Language Models)."""
_APART, _MOST_POINTS = 1.5, 5
"""Points of a curve that are taken: each this many times as long as the one before, at most."""


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
    *,
    is_taught: bool,
) -> tuple[Step, ...]:
    """Return what may raise the accuracy of a student that was trained.

    Everything rests on validation items, as a plan does: a choice by test items would spoil them.

    Args:
        run_dir: whose command is typed again with other settings.
        probe: what the teachers showed.
        pilot: the trainings before the plan.
        plan: what was chosen.
        student: that was trained.
        is_taught: whether it learnt what a teacher answered, so that a better one teaches more.

    Raises:
        ValueError: what Hydra kept of the run is corrupt.
    """
    if plan is None or student is None:
        return ()
    return (
        *_longer(run_dir, pilot, plan, student),
        *_larger(run_dir, plan, student),
        *(_teachers(probe, plan) if is_taught else ()),
    )


def _longer(run_dir: Path, pilot: Pilot | None, plan: Plan, student: Student) -> Iterator[Step]:
    """A longer training, along the learning curve of this one and of the pilot's."""
    if student.validation_exact < LEAST_SHOWN or not student.train_tokens:
        return
    points = _measured(student)
    points += [
        Measured(one.train_tokens, one.accuracy * one.n_items, one.n_items)
        for run in (pilot.runs if pilot else ())
        if (run.student, run.strategy) == (plan.student, plan.strategy)
        for one in run.points
    ]
    train_usd = sum(role.usd for role in plan.roles_of("train"))
    for factor in LONGER:
        tokens = factor * student.train_tokens
        epochs = factor * (student.epochs or 0)
        again = f", each row {epochs:.0f} times" if epochs >= 1.5 else ""
        yield Step(
            f"{factor}× the training: {tokens:,} tokens{again}",
            _longer_predicted(points, tokens, epochs, student.n_validation_reused),
            f"{usd(factor * train_usd)} as planned; about {duration(factor * student.seconds)}",
            command_again(
                run_dir,
                {"trainer.max_tokens": str(tokens), "trainer.max_epochs": "-1"},
            ),
        )


def _measured(student: Student) -> list[Measured]:
    """Return what the training measured: its end, and a few points of its curve before."""
    n = student.n_validation_items
    end = Measured(student.train_tokens, student.validation_exact * n, n)
    n = student.n_choosing_items
    before: list[Measured] = []
    for one in reversed(student.curve):
        last = before[-1].tokens if before else student.train_tokens
        if one.exact is not None and 0 < one.tokens <= last / _APART:
            before.append(Measured(one.tokens, one.exact * n, n))
    return [end, *before[:_MOST_POINTS]]


def _longer_predicted(points: Sequence[Measured], tokens: int, epochs: float, n_reused: int) -> str:
    """Return the accuracy of a longer training, and where that is an upper end, or not known."""
    if epochs > _MOST_EPOCHS:
        return f"unknown: each row would be read {epochs:.0f} times"
    if len({one.tokens for one in points}) < 2:
        return "unknown: this training was measured once"
    found = extrapolate(on_same_items(points), tokens)
    whys = [
        *(["rows are read again"] if epochs >= 1.5 else []),
        *(["the items also chose the weights"] if n_reused else []),
    ]
    upper = f"; an upper end: {' and '.join(whys)}" if whys else ""
    return f"{_predicted(found.mean, found.low, found.high)}{upper}"


def _larger(run_dir: Path, plan: Plan, student: Student) -> Iterator[Step]:
    """The plan's most accurate point with another student, if it promises more."""
    others = [one for one in plan.frontier if one.accuracy_known and one.student != plan.student]
    best = max(others, key=lambda one: (one.accuracy, -one.usd), default=None)
    if best is not None and best.accuracy > student.validation_exact:
        yield Step(
            f"Another student: {best.student} by {best.strategy}",
            _predicted(best.accuracy, best.accuracy_low, best.accuracy_high),
            _price(best, plan),
            command_of_point(best, plan, run_dir),
        )


def _teachers(probe: Probe | None, plan: Plan) -> Iterator[Step]:
    """Another teacher, where the student learns from what a teacher can do."""
    if probe is None:
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
