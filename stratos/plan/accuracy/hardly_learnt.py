"""Exclude or warn of students that are predicted to learn almost nothing."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.config import Config, StudentConfig
from stratos.core.by_name import named
from stratos.core.counted import counted
from stratos.core.formats import right
from stratos.core.intervals import predicted
from stratos.models.students import starts_from_model
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.plan.left_out import Exclusions
from stratos.plan.problem import Candidate
from stratos.records import Interval, Plan
from stratos.synthesize.choice import Reason

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
                f"it would get almost nothing right: {_of(accuracy)}, and {best.student} "
                f"{best.accuracy.mean:.1%}",
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
            about = f"its accuracy is {_of_unknown(one)}, and students like it learn almost nothing"
            if one.is_known:
                about = f"it would get almost nothing right: {_of(one.accuracy)}"
            left_out.add(
                f"{one.student} by {one.strategy}",
                Reason.HOPELESS,
                f"{about}; {kept[0].student} starts from a model and may learn it",
                strategy=one.strategy,
            )
    return kept or tuple(candidates)


def _of_unknown(one: Candidate) -> str:
    return predicted(one.accuracy) if one.accuracy.tried is not None else "unknown"


def hardly_learnt(config: Config, plan: Plan) -> str:
    """Warn before a training that its student will learn next to nothing; "" where it will."""
    accuracy = plan.accuracy
    if accuracy.is_known and accuracy.mean >= LEAST_SHOWN:
        return ""
    if not accuracy.is_known and accuracy.tried is None:
        return ""
    student = named(config.students, plan.student)
    rows = ""
    if config.task.has_rows:
        rows = f" from {counted(config.task.n_train, 'training row', spec=',')}"
    ways = _ways(config, student, bool(rows))
    if accuracy.tried is not None:
        return (
            f"{plan.student} had {right(accuracy.tried)}: it may hardly learn this task{rows}. "
            f"{ways}"
        )
    return (
        f"{plan.student} is expected to answer {_of(accuracy)} right: it hardly learns this task"
        f"{rows}. {ways}"
    )


def _ways(config: Config, student: StudentConfig, has_rows: bool) -> str:
    ways = []
    if student.path is None:
        ways.append(starts_from_model(config))
    else:
        ways.append("a larger student (--help student lists them)")
    if has_rows:
        ways.append("more rows")
    return f"What may help: {'; '.join(ways)}. stages=[probe,plan] plans without a training."


def _of(accuracy: Interval) -> str:
    return f"{accuracy.mean:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
