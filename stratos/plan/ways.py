"""The ways to have a task's requests answered, beside a student: each with accuracy and dollars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stratos.config import Config
from stratos.core.intervals import wilson
from stratos.core.reasons import Reason
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.plan.answer_price import price_of_answer
from stratos.plan.options.hosted import is_hosted
from stratos.plan.words import (
    AtMostBelowLimit,
    BelowLimit,
    MayBeBelowLimit,
    NextToNothing,
    NotProbed,
    SurelyWorse,
    TooSlow,
    WorsePrompt,
)
from stratos.records import Interval, Plan, Probe, TeacherProbe, Way


def hosted_ways(config: Config, probe: Probe, plan: Plan) -> tuple[Way, ...]:
    """Return the hosted models that were probed and have a price, each with its best prompt.

    An endpoint of the user's own has no price by the token, and is paid for otherwise.
    """
    probed = [*probe.teachers]
    if probe.logged is not None and all(one.logged is None for one in probed):
        probed.append(probe.logged)
    ways = [_hosted(config, probe, one, plan) for one in probed if is_hosted(one.card)]
    return tuple(
        one for one in ways if one.usd_per_answer is not None and one.usd_per_answer.mean > 0
    )


def _hosted(config: Config, probe: Probe, probed: TeacherProbe, plan: Plan) -> Way:
    """Return a hosted model as a way, with the prompt that it did best with."""
    card = probed.card
    seconds = probed.seconds / probed.n_items if probed.n_items else None
    is_logged = probed.logged is not None
    latency_ms = 1000 * seconds if seconds and not is_logged else None
    why: Reason | None = too_slow(config, latency_ms) or why_not(config, probed.exact, plan)
    if is_logged:
        why = _why_not_logged(config, probed.exact)
    may_be_none = None if is_logged else unsure(config, probed.exact)
    return Way(
        name=f"{card.name} (logged)" if is_logged else probed.teacher,
        is_student=False,
        accuracy=probed.exact,
        usd_per_answer=price_of_answer(probe, probed),
        latency_ms=latency_ms,
        why_not=_text(why),
        unsure=_text(may_be_none),
        retires=card.retires,
        is_logged=is_logged,
        prompt="" if is_logged else probed.prompt,
    )


def open_way(config: Config, plan: Plan, way: Way) -> Way:
    """Return an open model as a way beside a plan's student.

    Args:
        config: the limits.
        plan: whose student it is compared with.
        way: with its name, accuracy and servers.
    """
    return replace(
        way,
        kind="open",
        why_not=_text(why_not(config, way.accuracy, plan)),
        unsure=_text(unsure(config, way.accuracy)),
    )


def _text(reason: Reason | None) -> str:
    """Return a reason as a record keeps it; "" for none."""
    return "" if reason is None else str(reason)


def prompt_ways(config: Config, probe: Probe) -> Iterator[Way]:
    """Yield hosted models with the task's first prompt, where another one did better.

    That is what a better prompt alone changes. The probe keeps no tokens of the prompts that were
    not taken on, so that these ways have no price.
    """
    first = config.task.prompts[0]
    for probed in probe.teachers:
        tried = {trial.prompt: trial for trial in probed.trials}
        names = {first, probed.prompt}
        if not is_hosted(probed.card) or probed.prompt == first or not names <= {*tried}:
            continue
        before, best = tried[first], tried[probed.prompt]
        if not before.n_items or before.exact >= best.exact:
            continue
        worse = WorsePrompt(probed.prompt, best.exact, before.exact, before.n_items)
        yield Way(
            name=f"{probed.teacher}, prompt {first}",
            is_student=False,
            accuracy=wilson(round(before.exact * before.n_items), before.n_items),
            usd_per_answer=None,
            latency_ms=None,
            why_not=str(worse),
            retires=probed.card.retires,
            kind="prompt",
            prompt=first,
        )


def why_not(config: Config, accuracy: Interval, plan: Plan) -> Reason | None:
    """Return why a model of some accuracy is no alternative to the student; None if it is."""
    least, student = config.limits.accuracy, plan.accuracy
    if not (accuracy.is_known and accuracy.is_share_known):
        return NotProbed()
    if least is not None:
        return BelowLimit(accuracy) if accuracy.high < least else None
    if student.is_known and student.is_share_known and accuracy.high < student.low:
        return SurelyWorse(accuracy)
    return NextToNothing(accuracy) if accuracy.high < LEAST_SHOWN else None


def unsure(config: Config, accuracy: Interval) -> MayBeBelowLimit | None:
    """Return why a model may be no alternative, though nothing shows it; None if it surely is one.

    The probe asks few items: by one end of its interval the model may meet `limits.accuracy`, by
    what counts (`limits.confidence`) it does not.
    """
    limits = config.limits
    if limits.accuracy is None or not (accuracy.is_known and accuracy.is_share_known):
        return None
    counts = accuracy.low if limits.confidence == "low" else accuracy.mean
    if counts >= limits.accuracy or accuracy.high < limits.accuracy:
        return None
    return MayBeBelowLimit(accuracy)


def too_slow(config: Config, latency_ms: float | None) -> TooSlow | None:
    """Return that a model takes longer on average than a request may; None where it does not."""
    limit = config.limits.latency_ms
    if limit is None or latency_ms is None or latency_ms <= limit:
        return None
    return TooSlow(latency_ms, limit)


def _why_not_logged(config: Config, most: Interval) -> AtMostBelowLimit | None:
    """Return the same of the model of a log, whose accuracy is at most what is known of it."""
    least = config.limits.accuracy
    return AtMostBelowLimit(most) if least is not None and most.high < least else None
