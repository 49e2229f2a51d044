"""What speaks against distilling however well it pays: the student may not do the task as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stratos.config import Config
from stratos.core.formats import percent, percent_range
from stratos.plan.ways import too_slow, why_not
from stratos.records import Plan, Way

_HALF = 0.5
"""Agreement with logged answers below which no user can mean that it is enough."""
MEASURED = "test items"
"""Source of an accuracy that is no prediction any more: that of the student on the test items."""


def is_measured(plan: Plan) -> bool:
    """Return whether the student is trained, and its accuracy that on the test items."""
    return plan.accuracy.source == MEASURED


def doubts(
    config: Config,
    plan: Plan,
    ways: Sequence[Way],
    beaten_by: Mapping[str, str],
    reference: Way | None = None,
) -> str:
    """Say why distilling is not advised; "" where nothing speaks against the student.

    Args:
        config: the limits.
        plan: its student.
        ways: the other ways that have a price, alternatives or not.
        beaten_by: as `worth_of` takes it.
        reference: the way that the student is compared with; None where none is an alternative.
    """
    if told := _beaten(config, ways, beaten_by):
        return told
    if not (plan.accuracy.is_known and plan.accuracy.is_share_known):
        return " How accurate the student will be is not known: see plan.pilot=true."
    if told := misses_limit(config, plan):
        return told
    if reference is not None and reference.is_logged:
        return _agrees(config, plan)
    return _less_accurate(plan, ways, reference)


def misses_limit(config: Config, plan: Plan) -> str:
    """Say that the student has too little for `limits.accuracy`; "" where it may have enough.

    That is so if it was measured to have less, or if all of its predicted interval is below.
    """
    student, least = plan.accuracy, config.limits.accuracy
    if least is None or not (student.is_known and student.is_share_known):
        return ""
    if (student.mean if is_measured(plan) else student.high) >= least:
        return ""
    misses = "does not meet" if is_measured(plan) else "is not expected to meet"
    return f" But the student {misses} limits.accuracy={least:g}: {_accuracy(plan)}."


def is_only_slow(config: Config, plan: Plan, way: Way) -> bool:
    """Return whether a way is no alternative by nothing but the time of its answers."""
    is_slow = way.why_not != "" and too_slow(config, way.latency_ms) != ""
    return is_slow and not why_not(config, way.accuracy, plan)


def slow_ones(config: Config, plan: Plan, ways: Sequence[Way]) -> str:
    """Name the models that would do the task, and are too slow; "" where there are none."""
    told = [
        f"{one.name} {'may' if one.unsure else 'would'} do the task, but is too slow: "
        f"{too_slow(config, one.latency_ms)}"
        for one in ways
        if is_only_slow(config, plan, one)
    ]
    return "".join(f" {one}." for one in told)


def unsure_of(reference: Way) -> str:
    """Say that the way that was compared with may be none; "" where it surely is one."""
    if not reference.unsure:
        return ""
    return (
        f" Whether {reference.name} is an alternative is not sure: {reference.unsure}. A probe of "
        "more items tells (probe.n_items=<number>)."
    )


def _beaten(config: Config, ways: Sequence[Way], beaten_by: Mapping[str, str]) -> str:
    """Name the ways that were measured to be better, and answer in time, whatever they cost."""
    better = [
        f"{one.name}: {beaten_by[one.name]}"
        for one in ways
        if one.name in beaten_by and not too_slow(config, one.latency_ms)
    ]
    return f" But the student is less accurate than {'; than '.join(better)}." if better else ""


def _agrees(config: Config, plan: Plan) -> str:
    # What agrees with the logged answers is all that is known; the user says what is enough.
    if config.limits.accuracy is not None:
        return ""
    gives = "gives" if is_measured(plan) else "is expected to give"
    told = f" But the student {gives} its answer to {_accuracy(plan)} of requests: "
    if plan.accuracy.high < _HALF:
        return f"{told}it takes the place of nothing."
    return f"{told}say from which share on that is enough, such as limits.accuracy=0.9."


def _less_accurate(plan: Plan, ways: Sequence[Way], reference: Way | None) -> str:
    """Say that an alternative is surely more accurate: of several, the one compared with first."""
    better = [
        one
        for one in ways
        if not one.why_not and not one.is_logged and plan.accuracy.high < one.accuracy.low
    ]
    if not better:
        return ""
    most = reference if reference in better else max(better, key=lambda one: one.accuracy.low)
    is_less = "is" if is_measured(plan) else "is expected to be"
    assert most is not None
    return (
        f" But the student {is_less} less accurate than {most.name}: {_accuracy(plan)} against "
        f"{percent(most.accuracy.mean)}."
    )


def _accuracy(plan: Plan) -> str:
    one = plan.accuracy
    return f"{percent(one.mean)} ({percent_range(one.low, one.high)})"
