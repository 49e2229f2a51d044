"""Predict a student's accuracy from runs, a pilot or the probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

from stratos.config import Config
from stratos.core.formats import counted, cut_short, right
from stratos.core.names import named
from stratos.models.students import better_student
from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items
from stratos.plan.problem import Candidate, Exclusions
from stratos.plan.words import AlmostNothing, HardlyLearnt, NeedsNoModel, WithoutModel
from stratos.records import (
    CardRun,
    Interval,
    ModelCard,
    ModelScore,
    Pilot,
    PilotPoint,
    Plan,
    Probe,
    TeacherProbe,
    Tried,
)
from stratos.synthesize.choice import Reason
from stratos.synthesize.strategy import Strategy

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
    strategy: Strategy,
    probe: TeacherProbe,
    *,
    task_version: int = 1,
    history: Sequence[CardRun] = (),
    pilot: Pilot | None = None,
    tokens: int | None = None,
) -> Interval:
    """Return the accuracy that a student may be expected to reach, and what that rests on.

    It rests on validation accuracies; a run that has none says nothing (`_figure` has the one
    exception). Finished runs of the student on the task by the strategy and its pilot come first.
    A card names the strategy by its class, and speaks for its default settings alone; a past run of
    this machine names it by the label that it has here. Runs of another budget of tokens are
    carried to the planned one along a learning curve. Without any the accuracy is unknown; by
    alignment it is bounded by the teacher's, whose answers are learnt from.

    Args:
        card: the student, with the runs that are recorded on its card.
        task: the task's name.
        strategy: what the student is trained by.
        probe: what the teacher showed.
        task_version: the task's version.
        history: past runs of this machine, of any student.
        pilot: short trainings before this plan.
        tokens: budget of the planned training; None takes the longest of the runs.
    """
    points = _pilot_points(pilot, card.name, strategy, probe.teacher)
    recorded = card.runs if strategy.teaches_as_recorded else ()
    of_pair = [
        run
        for run in (*recorded, *(run for run in history if run.student == card.name))
        if run.task == task and run.strategy == (strategy.name if run.student else strategy.kind)
    ]
    runs = _speaking(of_pair, task_version)
    if not runs and not points:
        return _without_trainings(card, task, strategy, probe, of_pair)
    planned = float(
        tokens or max([one.run.train_tokens for one in runs] or [points[-1].train_tokens])
    )
    runs.sort(key=lambda one: (abs(log(one.tokens / planned)), one.run.date, one.run.seed))
    runs = runs[:MAX_RUNS]
    # Every run of a task is asked the same validation items.
    measured = on_same_items(
        [
            *(Measured(one.tokens, one.accuracy * one.n_items, one.n_items) for one in runs),
            *(Measured(p.train_tokens, p.accuracy * p.n_items, p.n_items) for p in points),
        ]
    )
    best = max(one.right / one.n_items for one in measured)
    longest = max(one.tokens for one in measured)
    if best < LEAST_SHOWN and longest < planned and not _alike(longest, planned):
        tried = _longest(runs, points)
        return replace(_too_little(tried, runs, points, planned), tried=tried)
    found = extrapolate(measured, planned)
    if not points and all(_alike(one.tokens, planned) for one in runs):
        mean = sum(one.right for one in measured) / sum(one.n_items for one in measured)
        source = f"{_dated([one.run for one in runs])}, {_items(runs)}"
        return Interval(mean, min(mean, found.low), max(mean, found.high), source)
    source = (
        f"power law through {_said(runs, points)}, extrapolated to {_magnitude(planned)} tokens"
    )
    return Interval(found.mean, found.low, found.high, source)


@dataclass(frozen=True)
class _Figure:
    """A finished run with the accuracy that it speaks with."""

    run: CardRun
    accuracy: float
    n_items: int
    is_validation: bool

    @property
    def tokens(self) -> int:
        """How long it was trained."""
        return self.run.train_tokens


def _figure(run: CardRun, task_version: int) -> _Figure | None:
    """Return what a run speaks with: its validation accuracy; None where it has none.

    A run with a lower `task.version` may speak with its test accuracy: each version draws its test
    items anew, so that few of those that it is measured on planned it (docs/mahjong.md).
    """
    if run.validation_accuracy is not None:
        found = _Figure(run, run.validation_accuracy, run.n_validation_items, True)
    elif run.task_version < task_version:
        found = _Figure(run, run.accuracy, run.n_items, False)
    else:
        return None
    is_possible = run.train_tokens > 0 and found.n_items > 0 and 0 <= found.accuracy <= 1
    return found if is_possible else None


def _without_trainings(
    card: ModelCard, task: str, strategy: Strategy, probe: TeacherProbe, mute: Sequence[CardRun]
) -> Interval:
    if (bound := strategy.accuracy_before_training(probe)) is not None:
        # It learns what the teacher answers: nothing says how much of that.
        cut = f", {cut_short(probe.n_truncated, probe.n_items)}" if probe.is_cut_short else ""
        return _unknown(
            f"no training of {card.name} by {strategy.name} is recorded, and the teacher "
            f"{probe.teacher} has {bound.mean:.3f} on "
            f"{counted(probe.n_items, 'validation item')}{cut}",
            bound.high,
        )
    why = f"no recorded run of {card.name} on {task}"
    if mute:
        has = "has" if len(mute) == 1 else "have"
        why = f"{_dated(mute)} {has} no validation accuracy to plan with"
    return _unknown(why)


def _unknown(why: str, at_most: float = 1.0) -> Interval:
    return Interval(0.0, 0.0, at_most, f"unknown: {why}", is_known=False)


def _longest(runs: Sequence[_Figure], points: Sequence[PilotPoint]) -> Tried:
    """Return what the longest of trainings showed."""
    found = [(one.tokens, one.accuracy, one.n_items) for one in runs]
    found += [(point.train_tokens, point.accuracy, point.n_items) for point in points]
    tokens, accuracy, n_items = max(found)
    return Tried(round(accuracy * n_items), n_items, tokens)


def _too_little(
    tried: Tried, runs: Sequence[_Figure], points: Sequence[PilotPoint], planned: float
) -> Interval:
    """Say that the trainings there are were too short, and what would be long enough."""
    longer = ""
    if points:
        tokens = min(4 * points[-1].train_tokens, round(planned))
        longer = f": plan.pilot=true plan.pilot_tokens={tokens}"
    source = (
        f"not predicted: {right(tried)}, the longest of {_said(runs, points)}, which does not "
        f"predict {_magnitude(planned)} tokens; a longer pilot may{longer}"
    )
    return Interval(0.0, 0.0, 1.0, source, is_known=False)


def _speaking(runs: Sequence[CardRun], task_version: int) -> list[_Figure]:
    """Return what the runs speak with; one that stands on the card and here counts once.

    Test accuracies of runs with a lower `task.version` are passed over as soon as one run has a
    validation accuracy.
    """
    found: dict[tuple[float, ...], _Figure] = {}
    for run in runs:
        if (one := _figure(run, task_version)) is not None:
            key = (run.seed, run.train_tokens, one.n_items, round(one.accuracy * one.n_items))
            found.setdefault(key, one)
    validated = [one for one in found.values() if one.is_validation]
    return validated or list(found.values())


def _pilot_points(
    pilot: Pilot | None, student: str, strategy: Strategy, teacher: str
) -> tuple[PilotPoint, ...]:
    """Return the pilot's curve of a pair, shortest training first.

    By alignment a student learns from its teacher, and the pilot of another says nothing.
    """
    for run in pilot.runs if pilot is not None else ():
        same_teacher = run.teacher == teacher or not strategy.learns_teacher
        if (run.student, run.strategy) == (student, strategy.name) and same_teacher:
            return tuple(sorted(run.points, key=lambda point: point.train_tokens))
    return ()


def _alike(tokens: float, planned: float) -> bool:
    return abs(tokens - planned) <= ALIKE * planned


def _said(runs: Sequence[_Figure], points: Sequence[PilotPoint]) -> str:
    """Say which trainings there were, how long, and on how many items they were measured."""
    parts = []
    if runs:
        lengths = _range([one.tokens for one in runs])
        parts.append(f"{_dated([one.run for one in runs])} ({lengths} tokens, {_items(runs)})")
    if points:
        lengths = _range([point.train_tokens for point in points])
        what = counted(len(points), "training")
        n_items = max(point.n_items for point in points)
        parts.append(
            f"a pilot of {what} ({lengths} tokens, {counted(n_items, 'validation item')} each)"
        )
    return " and ".join(parts)


def _items(runs: Sequence[_Figure]) -> str:
    """Say what the runs were measured on."""
    fewest, most = min(one.n_items for one in runs), max(one.n_items for one in runs)
    kind = "validation" if runs[0].is_validation else "test"
    n = counted(most, f"{kind} item") if fewest == most else f"{fewest} to {most} {kind} items"
    each = " each" if len(runs) > 1 else ""
    if runs[0].is_validation:
        return f"{n}{each}"
    return f"{n}{each} of the task before its present version (no validation accuracy is recorded)"


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


# Warn before training if a baseline without a model is good enough.


WORTH_A_WARNING = 0.8
"""Share of validation rows that a baseline answers from which the user should look at it first."""


def without_model(probe: Probe) -> WithoutModel | None:
    """Return what the best baseline without a model answers; None where none was tried."""
    best = _best(probe)
    return None if best is None else WithoutModel(best)


def needs_no_model(probe: Probe) -> NeedsNoModel | None:
    """Return, before a training, that such a baseline does the task already; None if none does."""
    best = _best(probe)
    if best is None or best.slice().exact.mean < WORTH_A_WARNING:
        return None
    return NeedsNoModel(best)


def _best(probe: Probe) -> ModelScore | None:
    return max(probe.baselines, key=lambda score: score.slice().exact.mean, default=None)


# Exclude or warn of students that are predicted to learn almost nothing.


_SURELY_BELOW = 2 * LEAST_SHOWN
"""Where the high end of an accuracy lies below it, the student surely answers next to nothing."""


def without_hopeless(
    config: Config, candidates: Sequence[Candidate], left_out: Exclusions
) -> tuple[Candidate, ...]:
    """Return the pairs without those that are surely next to useless beside a better one.

    Whatever it saves, a student that answers next to nothing right is not worth its training. Where
    nothing better is known, one that starts from a model goes before students of random weights.
    It is a preference: where no plan of the others meets the limits, all are weighed.

    Args:
        config: the run.
        candidates: all pairs.
        left_out: where it is said why a pair is left out.
    """
    known = [one for one in candidates if one.is_known]
    best = max(known, key=lambda one: one.accuracy.mean, default=None)
    if best is None:
        if any(one.accuracy.tried is not None for one in candidates):  # and all of that in vain
            return _of_models(config, candidates, left_out)
        return tuple(candidates)
    if best.accuracy.mean < LEAST_SHOWN:
        if all(one.accuracy.high < _SURELY_BELOW for one in known):
            return _of_models(config, candidates, left_out)
        return tuple(candidates)
    kept = []
    for one in candidates:
        accuracy = one.accuracy
        is_worse = accuracy.mean < LEAST_SHOWN and accuracy.high < best.accuracy.mean
        if one.is_known and is_worse:
            left_out.add(
                f"{one.student} by {one.strategy}",
                Reason.HOPELESS,
                AlmostNothing(accuracy, best.student, best.accuracy.mean),
                strategy=one.strategy,
            )
        else:
            kept.append(one)
    return tuple(kept)


def _of_models(
    config: Config, candidates: Sequence[Candidate], left_out: Exclusions
) -> tuple[Candidate, ...]:
    """Return those that start from a model and may learn it; all, where there are none."""
    pretrained = {one.name for one in config.students if one.path is not None}
    kept = tuple(
        one
        for one in candidates
        if one.student in pretrained
        and not one.is_known
        and one.accuracy.tried is None
        and one.accuracy.high >= LEAST_SHOWN
    )
    for one in candidates if kept else ():
        if one not in kept:
            left_out.add(
                f"{one.student} by {one.strategy}",
                Reason.HOPELESS,
                AlmostNothing(one.accuracy, kept[0].student, None),
                strategy=one.strategy,
            )
    return kept or tuple(candidates)


def hardly_learnt(config: Config, plan: Plan) -> HardlyLearnt | None:
    """Return before a training that its student will learn next to nothing; None if it will."""
    accuracy = plan.accuracy
    if accuracy.is_known and accuracy.mean >= LEAST_SHOWN:
        return None
    if not accuracy.is_known and accuracy.tried is None:
        return None
    better_start = better_student(config, named(config.students, plan.student))
    n_rows = config.task.n_train if config.task.has_rows else None
    return HardlyLearnt(plan.student, accuracy, n_rows, better_start)
