"""Predict a student's accuracy from runs, a pilot or the probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

from stratos.config import Config, StudentConfig
from stratos.core.formats import counted, cut_short, percent, right
from stratos.core.values import named
from stratos.models.students import better_student
from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items
from stratos.plan.problem import Candidate, Exclusions
from stratos.plan.words import AlmostNothing, HardlyLearnt, NeedsNoModel, WithoutModel
from stratos.records import (
    CardRun,
    Interval,
    KindProbe,
    ModelCard,
    ModelScore,
    Pilot,
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

    It rests on validation accuracies; a run that has none says nothing (`_finished` has the one
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
    runs = _finished(of_pair, task_version)
    if not runs and not points:
        return _without_trainings(card, task, strategy, probe, of_pair)
    longest_run = max((run.tokens for run in runs), default=0) or points[-1].tokens
    planned = float(tokens or longest_run)
    runs.sort(key=lambda run: (abs(log(run.tokens / planned)), run.date, run.seed))
    runs = runs[:MAX_RUNS]
    # Every run of a task is asked the same validation items.
    measured = on_same_items(
        [Measured(t.tokens, t.accuracy * t.n_items, t.n_items) for t in (*runs, *points)]
    )
    best = max(training.right / training.n_items for training in measured)
    longest = max(training.tokens for training in measured)
    if best < LEAST_SHOWN and longest < planned and not _alike(longest, planned):
        return _too_little(runs, points, planned)
    curve = extrapolate(measured, planned)
    if not points and all(_alike(run.tokens, planned) for run in runs):
        mean = sum(t.right for t in measured) / sum(t.n_items for t in measured)
        source = f"{_dated([run.run for run in runs])}, {_items(runs)}"
        return Interval(mean, min(mean, curve.low), max(mean, curve.high), source)
    source = (
        f"power law through {_described(runs, points)}, extrapolated to {_magnitude(planned)} "
        "tokens"
    )
    return Interval(curve.mean, curve.low, curve.high, source)


def with_labels(
    kind: KindProbe, probe: TeacherProbe, n_added: float, *, corrects: bool
) -> Interval:
    """Return the accuracy of a student of a kind that a teacher's labels of further rows teach.

    Args:
        kind: what it reaches on the rows alone, and what twice as many would add.
        probe: what the teacher showed.
        n_added: rows that it labels.
        corrects: gold rows correct its labels; else the student is no better than the teacher.
    """
    share = min(1.0, n_added / max(1, kind.n_rows))
    low, high = (share * end for end in kind.gain or (0.0, 0.0))
    alone, gain = kind.accuracy, (low + high) / 2
    taught = alone.mean + probe.exact.mean * gain  # a wrong label is no row
    if not corrects:
        taught = min(alone.mean + gain, probe.exact.mean)
    return Interval(
        min(1.0, max(alone.mean, taught)),
        alone.low,
        min(1.0, alone.high + high),
        f"{alone.source}, and what labels of {probe.teacher} may add",
    )


def of_cut(whole: Interval, read_otherwise: float) -> Interval:
    """Return the accuracy of a student with a cut vocabulary, by that of the whole one.

    Args:
        whole: of the same student with all of its tokens.
        read_otherwise: share of new texts that may have tokens which are cut.
    """
    # A text whose tokens all stay has the same logits, and so the same answer. One that has other
    # tokens is read in smaller ones, and nobody has measured how that ends: at worst each of these
    # answers is wrong, and none gets right by it.
    if not whole.is_known or not read_otherwise:
        return whole
    source = (
        f"{whole.source}, of the whole model; up to {percent(read_otherwise)} of new texts have "
        "tokens that are cut"
    )
    return replace(whole, low=max(0.0, whole.low - read_otherwise), source=source)


@dataclass(frozen=True)
class _Training:
    """A training of a pilot, with the accuracy that it came to."""

    tokens: int
    accuracy: float
    n_items: int


@dataclass(frozen=True)
class _Run(_Training):
    """A finished run, with the accuracy that it speaks with."""

    run: CardRun
    is_validation: bool

    @property
    def date(self) -> str:
        """When it was."""
        return self.run.date

    @property
    def seed(self) -> int:
        """Of its training."""
        return self.run.seed


def _finished(runs: Sequence[CardRun], task_version: int) -> list[_Run]:
    """Return what the runs speak with: their validation accuracies; one that is there twice once.

    A run with a lower `task.version` may speak with its test accuracy: each version draws its test
    items anew, so that few of those that it is measured on planned it (docs/mahjong.md). Such runs
    are passed over as soon as one has a validation accuracy.
    """
    by_result: dict[tuple[float, ...], _Run] = {}
    for run in runs:
        accuracy, n_items = run.validation_accuracy, run.n_validation_items
        is_validation = accuracy is not None
        if accuracy is None and run.task_version < task_version:
            accuracy, n_items = run.accuracy, run.n_items
        if accuracy is None or not (run.train_tokens > 0 and n_items > 0 and 0 <= accuracy <= 1):
            continue
        key = (run.seed, run.train_tokens, n_items, round(accuracy * n_items))
        by_result.setdefault(key, _Run(run.train_tokens, accuracy, n_items, run, is_validation))
    finished = list(by_result.values())
    return [run for run in finished if run.is_validation] or finished


def _pilot_points(
    pilot: Pilot | None, student: str, strategy: Strategy, teacher: str
) -> tuple[_Training, ...]:
    """Return the pilot's curve of a pair, shortest training first.

    By alignment a student learns from its teacher, and the pilot of another says nothing.
    """
    for run in pilot.runs if pilot is not None else ():
        same_teacher = run.teacher == teacher or not strategy.learns_teacher
        if (run.student, run.strategy) == (student, strategy.name) and same_teacher:
            points = sorted(run.points, key=lambda point: point.train_tokens)
            return tuple(_Training(p.train_tokens, p.accuracy, p.n_items) for p in points)
    return ()


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


def _too_little(runs: Sequence[_Run], points: Sequence[_Training], planned: float) -> Interval:
    """Say that the trainings there are were too short, and what would be long enough."""
    longest = max(
        (*runs, *points),
        key=lambda training: (training.tokens, training.accuracy, training.n_items),
    )
    n_right = round(longest.accuracy * longest.n_items)
    tried = Tried(n_right, longest.n_items, longest.tokens)
    longer = ""
    if points:
        tokens = min(4 * points[-1].tokens, round(planned))
        longer = f": plan.pilot=true plan.pilot_tokens={tokens}"
    source = (
        f"not predicted: {right(tried)}, the longest of {_described(runs, points)}, which does not "
        f"predict {_magnitude(planned)} tokens; a longer pilot may{longer}"
    )
    return Interval(0.0, 0.0, 1.0, source, is_known=False, tried=tried)


def _alike(tokens: float, planned: float) -> bool:
    return abs(tokens - planned) <= ALIKE * planned


def _described(runs: Sequence[_Run], points: Sequence[_Training]) -> str:
    """Say which trainings there were, how long, and on how many items they were measured."""
    parts = []
    if runs:
        lengths = _lengths(runs)
        parts.append(f"{_dated([run.run for run in runs])} ({lengths} tokens, {_items(runs)})")
    if points:
        n_items = max(point.n_items for point in points)
        parts.append(
            f"a pilot of {counted(len(points), 'training')} ({_lengths(points)} tokens, "
            f"{counted(n_items, 'validation item')} each)"
        )
    return " and ".join(parts)


def _items(runs: Sequence[_Run]) -> str:
    """Say what the runs were measured on."""
    fewest, most = min(run.n_items for run in runs), max(run.n_items for run in runs)
    kind = "validation" if runs[0].is_validation else "test"
    n = counted(most, f"{kind} item") if fewest == most else f"{fewest} to {most} {kind} items"
    each = " each" if len(runs) > 1 else ""
    if runs[0].is_validation:
        return f"{n}{each}"
    return f"{n}{each} of the task before its present version (no validation accuracy is recorded)"


def _dated(runs: Sequence[CardRun]) -> str:
    """Say how many runs there are, from where and when."""
    parts = []
    for is_past, name in ((False, "recorded run"), (True, "past run")):
        dates = sorted(run.date for run in runs if bool(run.student) == is_past)
        if dates:
            when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
            here = " of this machine," if is_past else " of"
            parts.append(f"{counted(len(dates), name)}{here} {when}")
    return " and ".join(parts)


def _lengths(trainings: Sequence[_Training]) -> str:
    tokens = [training.tokens for training in trainings]
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
    students: Sequence[StudentConfig], candidates: Sequence[Candidate], left_out: Exclusions
) -> tuple[Candidate, ...]:
    """Return the pairs without those that are surely next to useless beside a better one.

    Whatever it saves, a student that answers next to nothing right is not worth its training. Where
    nothing better is known, one that starts from a model goes before students of random weights.
    It is a preference: where no plan of the others meets the limits, all are weighed.

    Args:
        students: of the run.
        candidates: all pairs.
        left_out: where it is said why a pair is left out.
    """
    known = [candidate for candidate in candidates if candidate.is_known]
    best = max(known, key=lambda candidate: candidate.accuracy.mean, default=None)
    if best is None or best.accuracy.mean < LEAST_SHOWN:
        in_vain = any(candidate.accuracy.tried is not None for candidate in candidates)
        if best is not None:
            in_vain = all(candidate.accuracy.high < _SURELY_BELOW for candidate in known)
        return _of_models(students, candidates, left_out) if in_vain else tuple(candidates)
    hopeless = [
        candidate
        for candidate in known
        if candidate.accuracy.mean < LEAST_SHOWN and candidate.accuracy.high < best.accuracy.mean
    ]
    for candidate in hopeless:
        _leave_out(left_out, candidate, best.student, best.accuracy.mean)
    return tuple(candidate for candidate in candidates if candidate not in hopeless)


def _of_models(
    students: Sequence[StudentConfig], candidates: Sequence[Candidate], left_out: Exclusions
) -> tuple[Candidate, ...]:
    """Return those that start from a model and may learn it; all, where there are none."""
    pretrained = {student.name for student in students if student.path is not None}
    able = tuple(
        candidate
        for candidate in candidates
        if candidate.student in pretrained
        and not candidate.is_known
        and candidate.accuracy.tried is None
        and candidate.accuracy.high >= LEAST_SHOWN
    )
    for candidate in candidates if able else ():
        if candidate not in able:
            _leave_out(left_out, candidate, able[0].student, None)
    return able or tuple(candidates)


def _leave_out(
    left_out: Exclusions, candidate: Candidate, better: str, accuracy: float | None
) -> None:
    left_out.add(
        f"{candidate.student} by {candidate.strategy}",
        Reason.HOPELESS,
        AlmostNothing(candidate.accuracy, better, accuracy),
        strategy=candidate.strategy,
    )


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
