"""What could answer the requests beside a student: other models with their accuracy and dollars.

The probe asks the slices of a task in turn, so that a rare one has more of its answers than of
requests. In the price of an answer each slice therefore counts by its share among the rows. Where
shares are not known, the range covers requests of any one slice alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from stratos.catalog import Catalog
from stratos.config import Config, LimitsConfig, StudentConfig
from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.core.reasons import Reason
from stratos.estimate.cards import Workload, card_of_student
from stratos.estimate.fleet import Calibration, Fleet, device_of
from stratos.estimate.serving import serving_all
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.plan.option import Egress, Option
from stratos.plan.options.market import OfferGroups, open_market
from stratos.plan.options.role_options import (
    Service,
    engine_choices,
    lossy,
    service_options,
    without,
)
from stratos.plan.options.teacher import is_hosted
from stratos.plan.options.workload import rates_of
from stratos.plan.pareto import Slack
from stratos.plan.words import (
    AtMostBelowLimit,
    BelowLimit,
    MayBeBelowLimit,
    NextToNothing,
    NothingRead,
    NotProbed,
    SharesUnknown,
    SlicesNotAsked,
    SurelyWorse,
    TooSlow,
    WorsePrompt,
)
from stratos.records import (
    Interval,
    ModelCard,
    Plan,
    Probe,
    SliceAnswers,
    TeacherProbe,
    Way,
    servers_for,
)
from stratos.tasks.base import Task

_SPREAD_UNKNOWN = 0.5
"""By what share the price of an answer may be off where the probe does not tell how they differ."""
_NOT_PROBED = Interval(0.5, 0.0, 1.0, "it was not probed", is_known=False)


def is_share(accuracy: Interval) -> bool:
    """Return whether an accuracy is known, as a share that is right."""
    return accuracy.is_known and accuracy.is_share_known


def why_not(limits: LimitsConfig, accuracy: Interval, plan: Plan) -> Reason | None:
    """Return why a model of some accuracy is no alternative to the student; None if it is."""
    least, student = limits.accuracy, plan.accuracy
    if not is_share(accuracy):
        return NotProbed()
    if least is not None:
        return BelowLimit(accuracy) if accuracy.high < least else None
    if is_share(student) and accuracy.high < student.low:
        return SurelyWorse(accuracy)
    return NextToNothing(accuracy) if accuracy.high < LEAST_SHOWN else None


def unsure(limits: LimitsConfig, accuracy: Interval) -> MayBeBelowLimit | None:
    """Return why a model may be no alternative, though nothing shows it; None if it surely is one.

    The probe asks few items: by one end of its interval the model may meet `limits.accuracy`, by
    what counts (`limits.confidence`) it does not.
    """
    if limits.accuracy is None or not is_share(accuracy):
        return None
    counts = accuracy.low if limits.confidence == "low" else accuracy.mean
    is_between = counts < limits.accuracy <= accuracy.high
    return MayBeBelowLimit(accuracy) if is_between else None


def too_slow(limits: LimitsConfig, latency_ms: float | None) -> TooSlow | None:
    """Return that a model takes longer on average than a request may; None where it does not."""
    limit = limits.latency_ms
    if limit is None or latency_ms is None or latency_ms <= limit:
        return None
    return TooSlow(latency_ms, limit)


def _text(reason: Reason | None) -> str:
    """Return a reason as a record keeps it; "" for none."""
    return "" if reason is None else str(reason)


# What an answer of a probed model costs.


def mean_tokens(probe: Probe, teacher: TeacherProbe) -> tuple[float, float]:
    """Return the mean tokens of a question and of an answer, each slice by its share."""
    weights = _weights(probe, teacher) or {"": 1.0}
    whole = {"": SliceAnswers(teacher.n_items, teacher.input_tokens, teacher.output_tokens)}
    parts = [(weight, {**whole, **teacher.by_slice}[name]) for name, weight in weights.items()]
    return (
        sum(weight * part.input_tokens / part.n_items for weight, part in parts),
        sum(weight * part.output_tokens / part.n_items for weight, part in parts),
    )


def price_of_answer(probe: Probe, teacher: TeacherProbe) -> Interval | None:
    """Return the dollars of an answer, with the error of a mean of so many; None without items."""
    n = teacher.n_items
    if n < 1:
        return None
    whole = SliceAnswers(
        n,
        teacher.input_tokens,
        teacher.output_tokens,
        teacher.spread,
        teacher.cached_input_tokens,
    )
    mean, error = _price(teacher.card, whole)
    weights = _weights(probe, teacher)
    prices = {name: _price(teacher.card, part) for name, part in teacher.by_slice.items()}
    ends: list[float] = []
    if weights:
        mean = sum(weight * prices[name][0] for name, weight in weights.items())
        error = math.hypot(*(weight * prices[name][1] for name, weight in weights.items()))
        # A slice of which nothing was asked may cost nothing, or twice as much as the dearest.
        error += _not_asked(probe, teacher) * max(price for price, _ in prices.values())
    elif len(prices) > 1:
        ends = [price for price, _ in prices.values()]
    low, high = min(mean - error, *ends, mean), max(mean + error, *ends, mean)
    return Interval(mean, max(0.0, low), high, counted(n, "probe answer"))


def unweighted_slices(probe: Probe, name: str) -> Reason | None:
    """Return that the price of a hosted model does not count its slices as requests have them.

    None where it does.
    """
    probed = next((teacher for teacher in probe.real_teachers if teacher.teacher == name), None)
    if probed is None or len(probed.exact_by_slice) < 2:
        return None
    if share := _not_asked(probe, probed):
        return SlicesNotAsked(share)
    return None if _weights(probe, probed) else SharesUnknown(len(probed.exact_by_slice))


def _weights(probe: Probe, teacher: TeacherProbe) -> Mapping[str, float]:
    """Return the share of each slice among those that were asked; empty where it is not known."""
    known = {name: share for name, share in probe.shares.items() if name in teacher.by_slice}
    total = sum(known.values())
    return {name: share / total for name, share in known.items()} if total else {}


def _not_asked(probe: Probe, teacher: TeacherProbe) -> float:
    """Return the share of the slices of which nothing was asked, where shares are known."""
    if not teacher.by_slice:
        return 0.0
    return sum(share for name, share in probe.shares.items() if name not in teacher.by_slice)


def _price(card: ModelCard, answers: SliceAnswers) -> tuple[float, float]:
    """Return mean dollars of some answers, and by how much the mean may be off."""
    usd_out = (card.usd_per_million_output_tokens or 0.0) / 1e6
    n, spread = answers.n_items, answers.spread
    input_usd = card.input_usd(answers.input_tokens, answers.cached_input_tokens)
    mean = (input_usd + usd_out * answers.output_tokens) / n
    if spread is None or n < 2:
        return mean, _SPREAD_UNKNOWN * mean
    usd_in = input_usd / max(1, answers.input_tokens)
    deviation = usd_in * spread.input_tokens + usd_out * spread.output_tokens
    return mean, max(2 * deviation / math.sqrt(n), mean / n)


# Hosted models, with the prompt that did best and with the task's first one.


def hosted_models(limits: LimitsConfig, probe: Probe, plan: Plan) -> tuple[Way, ...]:
    """Return the hosted models that were probed and have a price, each with its best prompt.

    An endpoint of the user's own has no price by the token, and is paid for otherwise.
    """
    probed = [*probe.real_teachers]
    if probe.logged is not None and all(teacher.logged is None for teacher in probed):
        probed.append(probe.logged)
    models = [
        _hosted(limits, probe, teacher, plan) for teacher in probed if is_hosted(teacher.card)
    ]
    return tuple(
        way for way in models if way.usd_per_answer is not None and way.usd_per_answer.mean > 0
    )


def _hosted(limits: LimitsConfig, probe: Probe, teacher: TeacherProbe, plan: Plan) -> Way:
    card, accuracy, least = teacher.card, teacher.exact, limits.accuracy
    way = Way(
        name=teacher.teacher,
        is_student=False,
        accuracy=accuracy,
        usd_per_answer=price_of_answer(probe, teacher),
        latency_ms=None,
        retires=card.retires,
    )
    if teacher.logged is not None:  # its accuracy is at most what is known of it
        is_below = least is not None and accuracy.high < least
        why: Reason | None = AtMostBelowLimit(accuracy) if is_below else None
        return replace(way, name=f"{card.name} (logged)", why_not=_text(why), is_logged=True)
    latency_ms = 1000 * teacher.seconds / teacher.n_items if teacher.n_items else 0.0
    mute = NothingRead(teacher.n_items) if not teacher.parsable else None
    why = mute or too_slow(limits, latency_ms) or why_not(limits, accuracy, plan)
    return replace(
        way,
        latency_ms=latency_ms or None,
        why_not=_text(why),
        unsure=_text(unsure(limits, accuracy)),
        prompt=teacher.prompt,
    )


def other_prompts(task: Task, probe: Probe) -> Iterator[Way]:
    """Yield hosted models with the task's first prompt, where another one did better.

    That is what a better prompt alone changes. The probe keeps no tokens of the prompts that were
    not taken on, so that these have no price.
    """
    first = task.prompts[0]
    for teacher in probe.real_teachers:
        trials = {trial.prompt: trial for trial in teacher.trials}
        before, best = trials.get(first), trials.get(teacher.prompt)
        if not is_hosted(teacher.card) or before is None or best is None or not before.n_items:
            continue
        if before.exact >= best.exact:
            continue
        worse = WorsePrompt(best.prompt, best.exact, before.exact, before.n_items)
        yield Way(
            name=f"{teacher.teacher}, prompt {first}",
            is_student=False,
            accuracy=wilson(round(before.exact * before.n_items), before.n_items),
            usd_per_answer=None,
            latency_ms=None,
            why_not=str(worse),
            retires=teacher.card.retires,
            kind="prompt",
            prompt=first,
        )


# An open model as it is, on rented servers: one with weights that was probed, or of a student.


def judged(limits: LimitsConfig, plan: Plan, way: Way) -> Way:
    """Return an open model with whether it is an alternative to the student of a plan."""
    accuracy = way.accuracy
    return replace(
        way,
        why_not=_text(why_not(limits, accuracy, plan)),
        unsure=_text(unsure(limits, accuracy)),
    )


def open_models(
    config: Config, probe: Probe, plan: Plan, catalog: Catalog, machine: Calibration | None
) -> tuple[Way, ...]:
    """Return the open models that could answer as they are, each on its cheapest servers.

    None where no requests a day are given: then nothing says how many servers there have to be.

    Args:
        config: the run, with servers for its busiest hours.
        probe: what models showed. The accuracy of one that was not probed is not known.
        plan: whose student they are compared with.
        catalog: the offers.
        machine: the measurement of this machine, for local offers.
    """
    if config.traffic.requests_per_day is None or not probe.real_teachers:
        return ()
    market = open_market(catalog, config.cloud, False)
    fleet = Fleet.of([device_of(kind, machine) for kind in market.kinds])
    groups = OfferGroups.of(market, fleet)
    slack = Slack.of(catalog.table.places, Egress())
    models = []
    for card, accuracy, work in _cards(config.task, config.students, probe):
        if (servers := _cheapest(config, card, work, groups, slack)) is None:
            continue
        option, count = servers
        fewest, most = servers_for(option.filled, count)
        way = Way(
            name=card.name,
            is_student=False,
            accuracy=accuracy,
            usd_per_answer=None,
            latency_ms=option.latency_ms,
            kind="open",
            usd_per_day=count * option.usd,
            usd_per_day_range=(fewest * option.usd, most * option.usd),
            servers=(f"{count} × " if count > 1 else "") + option.name,
        )
        models.append(judged(config.limits, plan, way))
    return tuple(models)


def _cards(
    task: Task, students: Sequence[StudentConfig], probe: Probe
) -> Iterator[tuple[ModelCard, Interval, Workload]]:
    """Yield the models with what is known of their accuracy, and the size of their answers."""
    works = []
    for teacher in probe.real_teachers:
        if not teacher.n_items:
            continue
        prompt, answer = mean_tokens(probe, teacher)
        works.append(Workload(prompt, max(1.0, answer), task.name))
        if not is_hosted(teacher.card):
            yield teacher.card, teacher.exact, works[-1]
    seen = {trial.student: trial.exact for trial in probe.students}
    for student in students:
        # Random weights answer nothing as they are.
        if student.is_lm and student.path is not None and works:
            # Asked as the shortest of the teachers: the probe keeps no answers of its own.
            work = min(works, key=lambda work: work.context)
            accuracy = seen.get(student.name) or _NOT_PROBED
            yield card_of_student(student, task), accuracy, work


def _cheapest(
    config: Config, card: ModelCard, work: Workload, groups: OfferGroups, slack: Slack
) -> tuple[Option, int] | None:
    """Return the cheapest equal servers that keep up within the latency limit; None without any.

    Its dollars are those of a day of one of them. Formats that may change answers are left out.
    """
    rates, limit = rates_of(config.traffic, 1), config.limits.latency_ms
    if rates is None:
        return None
    choices = engine_choices(config.deploy)
    if choices is not None:
        choices = without(choices, lossy(choices))
    service = Service(
        lambda fleet: serving_all(card, fleet, (work,), (sum(rates),), False, choices),
        24.0,
        slack,
        "",
        (sum(rates),),
    )
    able = []
    for option in service_options(groups, service):
        filled = sum(rates) / option.requests_per_s[0]
        count, option = max(1, math.ceil(filled - 1e-9)), option.loaded(filled)
        if count <= config.cloud.max_nodes and (limit is None or option.latency_ms <= limit):
            able.append((count * option.usd, option.latency_ms, option.name, option, count))
    return min(able, key=lambda row: row[:3])[3:] if able else None
