"""An open model as it is, on rented servers: one with weights that was probed, or of a student."""

from __future__ import annotations

import math
from collections.abc import Iterator

from stratos.catalog import Catalog
from stratos.config import Config
from stratos.estimate import (
    Calibration,
    Fleet,
    Workload,
    card_of_student,
    device_of,
    serving_all,
)
from stratos.plan.answer_price import mean_tokens
from stratos.plan.egress import Egress
from stratos.plan.option import Option
from stratos.plan.options.engine_choices import engine_choices, lossy, without
from stratos.plan.options.hosted import is_hosted
from stratos.plan.options.market import open_market
from stratos.plan.options.offer_groups import OfferGroups
from stratos.plan.options.role_options import Service, service_options
from stratos.plan.pareto import Slack
from stratos.plan.traffic import rates_of
from stratos.plan.ways import open_way
from stratos.records import Interval, ModelCard, Plan, Probe, TeacherProbe, Way

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
    if config.traffic.requests_per_day is None or not probe.teachers:
        return ()
    market = open_market(catalog, config.cloud, False)
    fleet = Fleet.of([device_of(kind, machine) for kind in market.kinds])
    groups = OfferGroups.of(market, fleet)
    slack = Slack.of(catalog.table.places, Egress())
    ways = []
    for card, accuracy, work in _models(config, probe):
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


def _models(config: Config, probe: Probe) -> Iterator[tuple[ModelCard, Interval, Workload]]:
    """Yield the models with what is known of their accuracy, and the size of their answers."""
    works = [_work(config, probe, one) for one in probe.teachers if one.n_items]
    for one in probe.teachers:
        if not is_hosted(one.card) and one.n_items:
            yield one.card, one.exact, _work(config, probe, one)
    seen = {one.student: one.exact for one in probe.students}
    for student in config.students:
        if student.path is None or not works:  # random weights answer nothing as they are
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
