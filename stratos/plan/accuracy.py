"""Predicted accuracy of a student: from runs, a pilot, the probe, or said to be unknown."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from stratos.plan.learning_curve import Measured, extrapolate, on_same_items
from stratos.plan.problem import UNKNOWN
from stratos.records import CardRun, Interval, ModelCard, Pilot, PilotPoint, TeacherProbe
from stratos.words import counted

ALIKE = 0.05
"""Relative distance of two token budgets below which they count as one."""
LEAST_SHOWN = 0.1
"""Accuracy from which shorter trainings say anything of a longer one. Below it a student is still
before the steep part of its curve: one was at 9% after 2M tokens and at 88% after 4M."""
MAX_RUNS = 24
"""Runs of a pair that count: those nearest in budget, of which more would say nothing new."""


def predict(
    card: ModelCard,
    task: str,
    strategy: str,
    probe: TeacherProbe,
    *,
    history: Sequence[CardRun] = (),
    pilot: Pilot | None = None,
    tokens: int | None = None,
) -> Interval:
    """Return the accuracy that a student may be expected to reach, and what that rests on.

    Finished runs of the student on the task by the strategy and its pilot come first; those of
    another budget of tokens are carried to the planned one along a learning curve. Without any,
    alignment is bounded by the teacher, whose answers it learns from; injection is bounded by
    nothing that was measured.

    Args:
        card: the student, with the runs that are recorded on its card.
        task: the task's name.
        strategy: the strategy's name.
        probe: what the teacher showed.
        history: past runs of this machine, of any student.
        pilot: short trainings before this plan.
        tokens: budget of the planned training; None takes the longest of the runs.
    """
    points = _pilot_points(pilot, card.name, strategy, probe.teacher)
    runs = _runs(card, task, strategy, history)
    if not runs and not points:
        return _without_trainings(card, task, strategy, probe)
    planned = float(tokens or max([run.train_tokens for run in runs] or [points[-1].train_tokens]))
    runs.sort(key=lambda run: (abs(log(run.train_tokens / planned)), run.date, run.seed))
    runs = runs[:MAX_RUNS]
    measured = [Measured(r.train_tokens, r.accuracy * r.n_items, r.n_items) for r in runs]
    measured += on_same_items(
        [Measured(p.train_tokens, p.accuracy * p.n_items, p.n_items) for p in points]
    )
    best = max(one.right / one.n_items for one in measured)
    longest = max(one.tokens for one in measured)
    if best < LEAST_SHOWN and longest < planned and not _alike(longest, planned):
        return Interval(0.5, 0.0, 1.0, _too_little(best, runs, points, planned))
    found = extrapolate(tuple(measured), planned)
    if not points and all(_alike(run.train_tokens, planned) for run in runs):
        mean = sum(one.right for one in measured) / sum(one.n_items for one in measured)
        n_items = sum(run.n_items for run in runs)
        source = f"{_dated(runs)}, {counted(n_items, 'test item')}"
        return Interval(mean, min(mean, found.low), max(mean, found.high), source)
    source = f"power law through {_said(runs, points)}, carried to {_magnitude(planned)} tokens"
    return Interval(found.mean, found.low, found.high, source)


def _without_trainings(card: ModelCard, task: str, strategy: str, probe: TeacherProbe) -> Interval:
    if strategy.startswith("alignment"):
        return Interval(
            probe.exact.mean,
            0.0,
            probe.exact.high,
            f"bounded by the teacher {probe.teacher} on "
            f"{counted(probe.n_items, 'validation item')}",
        )
    return Interval(0.5, 0.0, 1.0, f"{UNKNOWN}: no recorded run of {card.name} on {task}")


def _too_little(
    best: float, runs: Sequence[CardRun], points: Sequence[PilotPoint], planned: float
) -> str:
    """Say that the trainings there are were too short, and what would be long enough."""
    longer = f": plan.pilot_tokens={4 * points[-1].train_tokens}" if points else ""
    return (
        f"{UNKNOWN}: at most {best:.1%} right after {_said(runs, points)}, which says nothing of "
        f"{_magnitude(planned)} tokens; a longer pilot may{longer}"
    )


def _runs(card: ModelCard, task: str, strategy: str, history: Sequence[CardRun]) -> list[CardRun]:
    """Return the runs that speak for the pair; one that stands on the card and here counts once."""
    found: dict[tuple[float, ...], CardRun] = {}
    for run in (*card.runs, *(run for run in history if run.student == card.name)):
        fits = run.task == task and run.strategy == strategy
        if fits and run.train_tokens > 0 and run.n_items > 0 and 0 <= run.accuracy <= 1:
            key = (run.seed, run.train_tokens, run.n_items, round(run.accuracy * run.n_items))
            found.setdefault(key, run)
    return list(found.values())


def _pilot_points(
    pilot: Pilot | None, student: str, strategy: str, teacher: str
) -> tuple[PilotPoint, ...]:
    """Return the pilot's curve of a pair, shortest training first.

    By alignment a student learns from its teacher, and the pilot of another says nothing.
    """
    for run in pilot.runs if pilot is not None else ():
        same_teacher = run.teacher == teacher or not strategy.startswith("alignment")
        if (run.student, run.strategy) == (student, strategy) and same_teacher:
            return tuple(sorted(run.points, key=lambda point: point.train_tokens))
    return ()


def _alike(tokens: float, planned: float) -> bool:
    return abs(tokens - planned) <= ALIKE * planned


def _said(runs: Sequence[CardRun], points: Sequence[PilotPoint]) -> str:
    """Say which trainings there were, how long, and on how many items they were measured."""
    parts = []
    if runs:
        lengths = _range([run.train_tokens for run in runs])
        n_items = sum(run.n_items for run in runs)
        parts.append(f"{_dated(runs)} ({lengths} tokens, {counted(n_items, 'test item')})")
    if points:
        lengths = _range([point.train_tokens for point in points])
        what = counted(len(points), "training")
        n_items = max(point.n_items for point in points)
        parts.append(
            f"a pilot of {what} ({lengths} tokens, {counted(n_items, 'validation item')} each)"
        )
    return " and ".join(parts)


def _dated(runs: Sequence[CardRun]) -> str:
    """Say how many runs there are, from where and when."""
    parts = []
    for past, one in ((False, "recorded run"), (True, "past run")):
        some = [run for run in runs if bool(run.student) == past]
        if some:
            dates = sorted({run.date for run in some})
            when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
            here = " of this machine," if past else " of"
            parts.append(f"{counted(len(some), one)}{here} {when}")
    return " and ".join(parts)


def _range(tokens: Sequence[float]) -> str:
    low, high = _magnitude(min(tokens)), _magnitude(max(tokens))
    return low if low == high else f"{low} to {high}"


def _magnitude(tokens: float) -> str:
    """Return a number of tokens with three digits that matter: 13.0M, 400k."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= unit:
            return f"{tokens / unit:.3g}{suffix}"
    return f"{tokens:.0f}"
