"""The ways to have a task's requests answered, beside a student: each with accuracy and dollars.

How long the answers of a probed model are, and what one costs, as requests come.

The probe asks the slices of a task in turn, so that a rare one has more of its answers than of
requests. Each slice therefore counts by its share among the rows. What differs is not told apart
where shares are not known: then the range covers requests of any one slice alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from stratos.catalog import Catalog
from stratos.config import Config
from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.core.reasons import Reason
from stratos.estimate.cards import Workload, card_of_student
from stratos.estimate.fleet import Calibration, Fleet, device_of
from stratos.estimate.serving import serving_all
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.plan.option import Egress, Option
from stratos.plan.options.hosted import is_hosted
from stratos.plan.options.market import OfferGroups, open_market
from stratos.plan.options.pricing import engine_choices, lossy, without
from stratos.plan.options.role_options import Service, service_options
from stratos.plan.options.workload import rates_of
from stratos.plan.pareto import Slack
from stratos.plan.words import (
    AtMostBelowLimit,
    BelowLimit,
    MayBeBelowLimit,
    NextToNothing,
    NotProbed,
    SharesUnknown,
    SlicesNotAsked,
    SurelyWorse,
    TooSlow,
    WorsePrompt,
)
from stratos.records import Interval, ModelCard, Plan, Probe, SliceAnswers, TeacherProbe, Way

_SPREAD_UNKNOWN = 0.5
"""By what share the price of an answer may be off where the probe does not tell how they differ."""


def mean_tokens(probe: Probe, one: TeacherProbe) -> tuple[float, float]:
    """Return the mean tokens of a question and of an answer, each slice by its share."""
    weights = _weights(probe, one)
    if not weights:
        return one.input_tokens / one.n_items, one.output_tokens / one.n_items
    parts = [(weight, one.by_slice[name]) for name, weight in weights.items()]
    return (
        sum(weight * part.input_tokens / part.n_items for weight, part in parts),
        sum(weight * part.output_tokens / part.n_items for weight, part in parts),
    )


def price_of_answer(probe: Probe, one: TeacherProbe) -> Interval | None:
    """Return the dollars of an answer, with the error of a mean of so many; None without items."""
    if one.n_items < 1:
        return None
    whole = SliceAnswers(one.n_items, one.input_tokens, one.output_tokens, one.spread)
    mean, error = _price(one.card, whole)
    weights = _weights(probe, one)
    prices = {name: _price(one.card, part) for name, part in one.by_slice.items()}
    low, high = mean - error, mean + error
    if weights:
        mean = sum(weight * prices[name][0] for name, weight in weights.items())
        error = math.hypot(*(weight * prices[name][1] for name, weight in weights.items()))
        # A slice of which nothing was asked may cost nothing, or twice as much as the dearest.
        error += _not_asked(probe, one) * max(price for price, _ in prices.values())
        low, high = mean - error, mean + error
    elif len(prices) > 1:
        low = min(low, *(price for price, _ in prices.values()))
        high = max(high, *(price for price, _ in prices.values()))
    return Interval(mean, max(0.0, low), high, counted(one.n_items, "probe answer"))


def unweighted_slices(probe: Probe, name: str) -> Reason | None:
    """Return that the price of a hosted model does not count its slices as requests have them.

    None where it does.
    """
    probed = next((teacher for teacher in probe.asked if teacher.teacher == name), None)
    if probed is None or len(probed.exact_by_slice) < 2:
        return None
    if share := _not_asked(probe, probed):
        return SlicesNotAsked(share)
    return None if _weights(probe, probed) else SharesUnknown(len(probed.exact_by_slice))


def _weights(probe: Probe, one: TeacherProbe) -> Mapping[str, float]:
    """Return the share of each slice among those that were asked; empty where it is not known."""
    known = {name: share for name, share in probe.shares.items() if name in one.by_slice}
    total = sum(known.values())
    return {name: share / total for name, share in known.items()} if total else {}


def _not_asked(probe: Probe, one: TeacherProbe) -> float:
    """Return the share of the slices of which nothing was asked, where shares are known."""
    if not one.by_slice:
        return 0.0
    return sum(share for name, share in probe.shares.items() if name not in one.by_slice)


def _price(card: ModelCard, of: SliceAnswers) -> tuple[float, float]:
    """Return mean dollars of some answers, and by how much the mean may be off."""
    usd_in = (card.usd_per_million_input_tokens or 0.0) / 1e6
    usd_out = (card.usd_per_million_output_tokens or 0.0) / 1e6
    mean = (usd_in * of.input_tokens + usd_out * of.output_tokens) / of.n_items
    if of.spread is None or of.n_items < 2:
        return mean, _SPREAD_UNKNOWN * mean
    deviation = usd_in * of.spread.input_tokens + usd_out * of.spread.output_tokens
    return mean, max(2 * deviation / math.sqrt(of.n_items), mean / of.n_items)


def hosted_ways(config: Config, probe: Probe, plan: Plan) -> tuple[Way, ...]:
    """Return the hosted models that were probed and have a price, each with its best prompt.

    An endpoint of the user's own has no price by the token, and is paid for otherwise.
    """
    probed = [*probe.asked]
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
    for probed in probe.asked:
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


# An open model as it is, on rented servers: one with weights that was probed, or of a student.


UNKNOWN = Interval(0.5, 0.0, 1.0, "it was not probed", is_known=False)


def open_ways(
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
    if config.traffic.requests_per_day is None or not probe.asked:
        return ()
    market = open_market(catalog, config.cloud, False)
    fleet = Fleet.of([device_of(kind, machine) for kind in market.kinds])
    groups = OfferGroups.of(market, fleet)
    slack = Slack.of(catalog.table.places, Egress())
    ways = []
    for card, accuracy, work in _open_models(config, probe):
        if (servers := _cheapest(config, card, work, groups, slack)) is None:
            continue
        option, count = servers
        way = Way(
            name=card.name,
            is_student=False,
            accuracy=accuracy,
            usd_per_answer=None,
            latency_ms=option.latency_ms,
            usd_per_day=count * option.usd,
            servers=(f"{count} × " if count > 1 else "") + option.name,
        )
        ways.append(open_way(config, plan, way))
    return tuple(ways)


def _open_models(config: Config, probe: Probe) -> Iterator[tuple[ModelCard, Interval, Workload]]:
    """Yield the models with what is known of their accuracy, and the size of their answers."""
    works = [_work(config, probe, one) for one in probe.asked if one.n_items]
    for one in probe.asked:
        if not is_hosted(one.card) and one.n_items:
            yield one.card, one.exact, _work(config, probe, one)
    seen = {one.student: one.exact for one in probe.students}
    for student in config.students:
        if (
            student.kind != "lm" or student.path is None or not works
        ):  # random weights answer nothing as they are
            continue
        # Asked as the shortest of the teachers: its own answers were not kept.
        work = min(works, key=lambda one: one.context)
        yield card_of_student(student, config.task), seen.get(student.name) or UNKNOWN, work


def _work(config: Config, probe: Probe, one: TeacherProbe) -> Workload:
    asked, answered = mean_tokens(probe, one)
    return Workload(asked, max(1.0, answered), config.task.name)


def _cheapest(
    config: Config, card: ModelCard, work: Workload, groups: OfferGroups, slack: Slack
) -> tuple[Option, int] | None:
    """Return the cheapest equal servers that keep up within the latency limit; None without any.

    Its dollars are those of a day of one of them. Formats that may change answers are left out.
    """
    rates = rates_of(config, 1)
    if rates is None:
        return None
    rate, limit = sum(rates), config.limits.latency_ms
    choices = engine_choices(config.deploy)
    if choices is not None:
        choices = without(choices, lossy(choices))
    service = Service(
        lambda fleet: serving_all(card, fleet, (work,), (rate,), False, choices),
        24.0,
        slack,
        "",
        (rate,),
    )
    found = []
    for option in service_options(groups, service):
        count = math.ceil(rate / option.requests_per_s[0] - 1e-9)
        if count <= config.cloud.max_nodes and (limit is None or option.latency_ms <= limit):
            found.append((option, max(1, count)))
    return min(
        found, key=lambda one: (one[1] * one[0].usd, one[0].latency_ms, one[0].name), default=None
    )
