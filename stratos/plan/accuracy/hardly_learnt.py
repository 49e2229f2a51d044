"""Exclude or warn of students that are predicted to learn almost nothing."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.config import Config
from stratos.core.by_name import named
from stratos.models.students import starts_from_model
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.plan.left_out import Exclusions
from stratos.plan.problem import Candidate
from stratos.plan.words import AlmostNothing, HardlyLearnt
from stratos.records import Plan
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
    student = named(config.students, plan.student)
    better_start = "a larger student (--help student lists them)"
    if student.path is None:
        better_start = starts_from_model(config)
    n_rows = config.task.n_train if config.task.has_rows else None
    return HardlyLearnt(plan.student, accuracy, n_rows, better_start)
