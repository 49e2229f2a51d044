"""The ways to have a task's requests answered, beside a student: each with accuracy and dollars."""

from __future__ import annotations

from collections.abc import Iterator

from stratos.config import Config
from stratos.core.counted import counted
from stratos.core.formats import milliseconds, percent, percent_most, percent_range
from stratos.core.intervals import wilson
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.plan.answer_price import price_of_answer
from stratos.plan.options.hosted import is_hosted
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


def _hosted(config: Config, probe: Probe, one: TeacherProbe, plan: Plan) -> Way:
    """Return a hosted model as a way, with the prompt that it did best with."""
    card = one.card
    seconds = one.seconds / one.n_items if one.n_items else None
    logged = one.logged
    latency_ms = 1000 * seconds if seconds and logged is None else None
    return Way(
        name=one.teacher if logged is None else f"{card.name} (logged)",
        is_student=False,
        accuracy=one.exact,
        usd_per_answer=price_of_answer(probe, one),
        latency_ms=latency_ms,
        why_not=too_slow(config, latency_ms) or why_not(config, one.exact, plan)
        if logged is None
        else _why_not_logged(config, one.exact),
        unsure=unsure(config, one.exact) if logged is None else "",
        retires=card.retires,
        is_logged=logged is not None,
        prompt=one.prompt if logged is None else "",
    )


def prompt_ways(config: Config, probe: Probe) -> Iterator[Way]:
    """Yield hosted models with the task's first prompt, where another one did better.

    That is what a better prompt alone changes. The probe keeps no tokens of the prompts that were
    not taken on, so that these ways have no price.
    """
    first = config.task.prompts[0]
    for one in probe.teachers:
        tried = {trial.prompt: trial for trial in one.trials}
        if not is_hosted(one.card) or one.prompt == first or not {first, one.prompt} <= {*tried}:
            continue
        before, best = tried[first], tried[one.prompt]
        if not before.n_items or before.exact >= best.exact:
            continue
        yield Way(
            name=f"{one.teacher}, prompt {first}",
            is_student=False,
            accuracy=wilson(round(before.exact * before.n_items), before.n_items),
            usd_per_answer=None,
            latency_ms=None,
            why_not=(
                f"the prompt {one.prompt} alone has {percent(best.exact)} in place of "
                f"{percent(before.exact)} of the first {counted(before.n_items, 'item')}"
            ),
            retires=one.card.retires,
            kind="prompt",
            prompt=first,
        )


def why_not(config: Config, found: Interval, plan: Plan) -> str:
    """Return why a model of some accuracy is no alternative to the student; "" where it is one."""
    limits = config.limits
    if not (found.is_known and found.is_share_known):
        return "its accuracy is not known: it was not probed"
    shown = f"{percent(found.mean)} ({percent_range(found.low, found.high)})"
    if limits.accuracy is not None:
        return "" if found.high >= limits.accuracy else f"{shown}, below limits.accuracy"
    student = plan.accuracy
    if student.is_known and student.is_share_known and found.high < student.low:
        return f"{shown}, surely less accurate"
    return f"{shown}, next to nothing" if found.high < LEAST_SHOWN else ""


def unsure(config: Config, found: Interval) -> str:
    """Return why a model may be no alternative, though nothing shows it; "" where it surely is.

    The probe asks few items: by one end of its interval the model may meet `limits.accuracy`, by
    what counts (`limits.confidence`) it does not.
    """
    limits = config.limits
    if limits.accuracy is None or not (found.is_known and found.is_share_known):
        return ""
    counts = found.low if limits.confidence == "low" else found.mean
    if counts >= limits.accuracy or found.high < limits.accuracy:
        return ""
    shown = f"{percent(found.mean)} ({percent_range(found.low, found.high)})"
    return f"{shown} may be below limits.accuracy"


def too_slow(config: Config, latency_ms: float | None) -> str:
    """Say that a hosted model takes longer on average than a request may; "" where it does not."""
    limit = config.limits.latency_ms
    if limit is None or latency_ms is None or latency_ms <= limit:
        return ""
    return f"{milliseconds(latency_ms)} an answer, above limits.latency_ms={limit:g}"


def _why_not_logged(config: Config, most: Interval) -> str:
    """Return the same of the model of a log, whose accuracy is at most what is known of it."""
    least = config.limits.accuracy
    if least is None or most.high >= least:
        return ""
    ends = percent_range(most.low, most.high)
    return f"at most {percent_most(most.mean)} ({ends}), below limits.accuracy"
