"""The options of each role: serving engines and formats to choose from, and servers.

An estimate is made for all kinds of hardware and all counts at once, objects only for what is left.
What the cheapest server of each shelf costs bounds what any other one may cost; of those below the
bound, the ones that another beats by more than egress can change are dropped (`pareto`), and only
the rest become options.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stratos.catalog import Catalog
from stratos.catalog.table import Floats, Ints
from stratos.config import CloudConfig, DeployConfig, LimitsConfig
from stratos.deploy.engines.cost import WeightFormat
from stratos.estimate.answering import EngineChoice
from stratos.estimate.fleet import Calibration, Fleet, Ranges, device_of, ranged
from stratos.estimate.serving import ServingTable
from stratos.executors.job import Executor
from stratos.ledger.reserves import LEAST_HOURS
from stratos.plan.option import Egress, Option, Range
from stratos.plan.options.market import OfferGroups, open_market
from stratos.plan.options.workload import assumed
from stratos.plan.pareto import Slack, lowest_as_fast, pareto_front, undominated
from stratos.plan.problem import Jobs
from stratos.plan.solve.mix import useful
from stratos.plan.words import EngineLeftOut, LosesTooMuch, NodesUnknown, NoEngine
from stratos.records import Assumption, ServingSetting

ROUNDING = 1 + 1e-9
"""What a bound on prices is raised by, so that no product that was divided again falls short."""


N_RIVALS = 100
"""Rows that each row is compared with before all that are left are compared with each other."""


@dataclass(frozen=True)
class Job:
    """A work that ends: a teacher's answers, or a training."""

    hours: Callable[[Fleet, Ints], Ranges]
    """Hours on so many of each of some servers; NaN where memory does not hold it."""
    slack: Slack
    note: str
    count: int | None = None
    """Servers that it runs on; None for any number."""


def job_options(offer_groups: OfferGroups, job: Job) -> tuple[Option, ...]:
    """Return the options of a job that no other one dominates."""
    market, lots = offer_groups.market, offer_groups.lots_of(job.count)
    ranges = job.hours(lots.pair_fleet, lots.pair_count)
    paid = ranges.mean[lots.pair] * lots.spot_factor
    waited = np.nan_to_num(offer_groups.wait_hours[lots.shelf])
    lot, server = _below(offer_groups, lots.shelf, lots.count, paid, paid + waited, job.slack)
    pair, factor = lots.pair[lot], lots.spot_factor[lot]
    hours, low, high = (ends[pair] * factor for ends in (ranges.mean, ranges.low, ranges.high))
    price = lots.count[lot] * market.usd_per_hour[server]
    region, wait = market.region[server], market.wait_hours[server]
    until_done = hours + np.nan_to_num(wait)
    near = undominated(hours * price, until_done, region, job.slack)
    options = [
        Option(
            offer=market.offer(int(market.row[server[i]])),
            spot=bool(market.spot[server[i]]),
            hours=float(until_done[i]),
            usd=float(hours[i] * price[i]),
            wait_hours=None if np.isnan(wait[i]) else float(wait[i]),
            count=int(lots.count[lot[i]]),
            note=job.note,
            hours_range=(float(low[i]), float(high[i])),
            usd_range=(float(low[i] * price[i]), float(high[i] * price[i])),
        )
        for i in near.tolist()
    ]
    names = [option.sort_name for option in options]
    usd = hours[near] * price[near]
    nothing = np.zeros(len(near))
    front = pareto_front(usd, until_done[near], nothing, region[near], names, job.slack.most)
    return tuple(options[i] for i in front)


def _below(
    offer_groups: OfferGroups, shelf: Ints, count: Ints, hours: Floats, x: Floats, slack: Slack
) -> tuple[Ints, Ints]:
    """Return what is dearer by no more than `slack` than the cheapest with as small an x.

    It drops no more than the rule of `pareto` allows: the cheapest server of a shelf is one that
    exists, so that what costs more than it by the most that egress can differ by is beaten, in
    whatever place it stands.

    Args:
        offer_groups: the servers.
        shelf: where they are taken from.
        count: how many together.
        hours: that they are paid for; NaN where they do not fit.
        x: the second cost: hours, or latency.
        slack: what moves.

    Returns:
        Index into `shelf`, and number of the server, of every one that is left.
    """
    fits = np.flatnonzero(~np.isnan(hours))
    hourly = hours[fits] * count[fits]
    bound = lowest_as_fast(hourly * offer_groups.usd_per_hour[shelf[fits]], x[fits]) + slack.most
    price = np.full(len(fits), np.inf)  # what is paid for no hour is bounded by no price
    np.divide(ROUNDING * bound, hourly, out=price, where=hourly > 0)
    at, server = offer_groups.up_to(shelf[fits], price)
    return fits[at], server


@dataclass(frozen=True)
class Service:
    """A work that goes on for a horizon: answering."""

    points: Callable[[Fleet], ServingTable]
    """Operating points of one server of each; none where memory does not hold the model."""
    hours: float
    slack: Slack
    """Of one server."""
    note: str
    rates: tuple[float, ...] | None = None
    """Requests per second by bucket; None where they come one at a time, and where `points` has
    but the fastest point of each server."""
    names_engine: bool = False
    """Whether the note says by which engine and format it is served: where several were asked
    for."""


def service_options(offer_groups: OfferGroups, service: Service) -> tuple[Option, ...]:
    """Return the single servers that may be of use: to be taken alone, or to be mixed.

    Serving is never on spot.
    """
    market, points = offer_groups.market, service.points(offer_groups.fleet)
    select = _single if service.rates is None else _mixed
    point, server = select(offer_groups, points, service)
    slowness = _slowness(offer_groups.fleet, points.take(point))
    options = []
    for p, i, ends in zip(point.tolist(), server.tolist(), slowness, strict=True):
        latencies, rates = (
            tuple(figures[p].tolist()) for figures in (points.latency_ms, points.requests_per_s)
        )
        run = ServingSetting(
            engine=str(points.engine[p]),
            slots=int(points.batch[p]),
            tensor_parallel=int(points.tensor_parallel[p]),
            utilisation=float(points.utilisation[p]),
            requests_per_s=rates,
            format=str(points.format[p]),
            alone=() if np.isnan(points.alone[p]).any() else tuple(points.alone[p].tolist()),
        )
        options.append(
            Option(
                offer=market.offer(int(market.row[i])),
                spot=False,
                hours=service.hours,
                usd=service.hours * float(market.usd_per_hour[i]),
                latency_ms=max(latencies),
                note=f"{service.note} by {run.name}" if service.names_engine else service.note,
                latencies_ms=() if service.rates is None else latencies,
                requests_per_s=() if service.rates is None else rates,
                run=run,
                slowness=ends,
            )
        )
    return tuple(options)


def _slowness(fleet: Fleet, points: ServingTable) -> list[Range]:
    """Return the ends of the seconds of an answer over their estimate, by point."""
    servers, unit = fleet.take(points.server), np.ones(len(points))
    launches = points.times[0].launches if points.times else np.zeros(len(points), bool)
    ends = ranged(servers, "output_token", unit, launches, points.engine)
    return list(zip(ends.low.tolist(), ends.high.tolist(), strict=True))


def _on_demand(offer_groups: OfferGroups, points: ServingTable) -> tuple[Ints, Ints]:
    """Return every shelf on demand with every point that its servers may run at."""
    shelf = np.flatnonzero(~offer_groups.spot)
    first = np.searchsorted(points.server, offer_groups.kind[shelf])
    n = np.searchsorted(points.server, offer_groups.kind[shelf], side="right") - first
    of = np.repeat(np.arange(len(shelf)), n)
    within = np.arange(len(of)) - np.repeat(np.cumsum(n) - n, n)
    return shelf[of], first[of] + within


def _single(offer_groups: OfferGroups, points: ServingTable, service: Service) -> tuple[Ints, Ints]:
    """Return the points and servers that may be of use to answer requests one at a time."""
    shelf, point = _on_demand(offer_groups, points)
    latency = points.latency_ms[point].max(axis=1)
    hours = np.full(len(shelf), service.hours)
    at, server = _below(offer_groups, shelf, np.ones_like(shelf), hours, latency, service.slack)
    market = offer_groups.market
    usd = service.hours * market.usd_per_hour[server]
    front = undominated(usd, latency[at], market.region[server], service.slack)
    return point[at[front]], server[front]


def _mixed(offer_groups: OfferGroups, points: ServingTable, service: Service) -> tuple[Ints, Ints]:
    """Return the points and servers that may be part of a mix that keeps up with the rates."""
    market, slack = offer_groups.market, service.slack.most
    shelf, point = _on_demand(offer_groups, points)
    work = np.array(service.rates) / points.requests_per_s
    bound = _as_good(
        service.hours * offer_groups.usd_per_hour[shelf],
        np.hstack([points.latency_ms, work])[point],
        offer_groups.group[shelf],
    )
    price = np.full(len(shelf), np.inf)
    if service.hours:
        price = ROUNDING * (bound + slack) / service.hours
    at, server = offer_groups.up_to(shelf, price)
    point = point[at]
    by_name = np.lexsort((point, server))  # of equals the first stays
    point, server = point[by_name], server[by_name]
    price = market.usd_per_hour[server]
    front = useful(
        service.hours * price, price, points.latency_ms[point], work[point],
        market.group[server], market.most[server], market.region[server], market.caps, slack,
    )  # fmt: skip
    return point[front], server[front]


def _as_good(usd: Floats, figures: Floats, group: Ints) -> Floats:
    """Return for each row the least dollars of rows that are in no figure greater.

    Only the `N_RIVALS` rows of each group that give most for a dollar are asked, and the row
    itself: what is returned is a bound from above.

    Args:
        usd: dollars by row.
        figures: latencies and works by row, each the smaller the better.
        group: rows of one set of quotas.
    """
    lowest = usd.copy()
    n_buckets = figures.shape[1] // 2
    for g in np.unique(group).tolist():
        rows = np.flatnonzero(group == g)
        worth = usd[rows] * figures[rows, n_buckets:].sum(axis=1)
        for i in rows[np.argsort(worth, kind="stable")[:N_RIVALS]].tolist():
            beaten = rows[usd[i] < lowest[rows]]
            beaten = beaten[(figures[i] <= figures[beaten]).all(axis=1)]
            lowest[beaten] = usd[i]
    return lowest


# Options of stages that run as jobs of an executor: their servers, and what these cost.


PRICE_SOURCE = "executor.usd_per_hour"
ROLE_OF_STAGE = {"synthesize": "teacher", "distill": "train"}


def runs_as_job(executor: Executor, stage: str) -> bool:
    """Return whether a stage runs on a server of the executor; `here` has none."""
    return not executor.runs_here and stage in executor.stages


def roles_that_are_up(executor: Executor) -> frozenset[str]:
    """Return the roles whose hours count no start of a server: a cluster runs their stages."""
    if not executor.is_cluster:
        return frozenset()
    return frozenset(role for stage, role in ROLE_OF_STAGE.items() if runs_as_job(executor, stage))


def jobs_of(executor: Executor, stages: Collection[str]) -> Jobs:
    """Return what the stages that run as jobs set aside before they are submitted."""
    trials = [
        stage
        for stage in ("evaluate", "deploy")
        if runs_as_job(executor, stage) and stage in stages
    ]
    hours = LEAST_HOURS if executor.hours is None else min(LEAST_HOURS, executor.hours)
    return Jobs(
        frozenset(role for stage, role in ROLE_OF_STAGE.items() if runs_as_job(executor, stage)),
        hours * len(trials),
        executor.usd_per_hour,
    )


def nodes_unknown(
    cloud: CloudConfig, executor: Executor, stages: Collection[str], catalog: Catalog
) -> NodesUnknown | None:
    """Return that stages run on nodes of a cluster that are no offers of the plan, if they do."""
    planned = "plan" in stages  # its jobs may come with a later command
    on_nodes = tuple(
        stage for stage in executor.stages if stage != "probe" and (planned or stage in stages)
    )
    if not executor.is_cluster or not on_nodes:
        return None
    if catalog.table.cloud.where(lambda name: name == executor.kind).any():
        return None
    return NodesUnknown(executor.kind, cloud.name, on_nodes, executor.usd_per_hour)


@dataclass(frozen=True)
class JobServers:
    """The servers that stages may have as jobs of an executor.

    A node of a cluster is up: nobody waits until it is ordered and booted. Where the executor has a
    price, each server costs that, whatever its offer says, so that the plan counts what the job
    pays.
    """

    offer_groups: OfferGroups
    slack: Slack
    """What a place can be the dearer by, of a work that moves nothing."""
    usd_per_hour: float | None
    """Price of each server; None for that of its offer."""
    is_stand_in: bool
    """Whether the nodes have that price and are not among the offers. Which server the job gets
    is not known then: the cheapest that does the work stands for it."""

    @classmethod
    def of(
        cls,
        cloud: CloudConfig,
        executor: Executor,
        catalog: Catalog,
        calibration: Calibration | None,
        egress: Egress,
    ) -> JobServers:
        """Return the servers of an area.

        Args:
            cloud: where servers may be rented.
            executor: of the run; not `here`.
            catalog: the offers of the area.
            calibration: of this machine.
            egress: prices of what moves between places.
        """
        table = catalog.table
        price, is_stand_in = executor.usd_per_hour, False
        if price is not None:
            # Most dollars an hour are those of what is rented, and a cluster has no spot price.
            spot = cloud.spot and not executor.is_cluster
            cloud = replace(cloud, max_usd_per_hour=None, spot=spot)
            nodes = table.cloud.where(lambda name: name == executor.kind)
            is_stand_in = not nodes.any()
            if not is_stand_in:
                table = table.take(nodes)
                table = replace(table, usd_per_hour=np.full(len(table), price))
                catalog = replace(catalog, table=table)
        market = open_market(catalog, cloud, cloud.spot)
        devices = [device_of(kind, calibration) for kind in market.kinds]
        if executor.is_cluster:
            devices = [replace(device, startup_hours=0.0) for device in devices]
        return cls(
            offer_groups=OfferGroups.of(market, Fleet.of(devices)),
            slack=Slack.of(table.places, egress),
            usd_per_hour=price,
            is_stand_in=is_stand_in,
        )

    def options(self, job: Job) -> tuple[Option, ...]:
        """Return the options of a job, at the price that it pays."""
        options = job_options(self.offer_groups, job)
        if self.usd_per_hour is None or not options:
            return options
        if self.is_stand_in:
            options = (
                min(options, key=lambda option: (option.usd, option.hours, option.sort_name)),
            )
        return tuple(_at_price(option, self.usd_per_hour) for option in options)


def _at_price(option: Option, usd_per_hour: float) -> Option:
    assert option.offer is not None, "a job has a server"
    hours = option.hours - (option.wait_hours or 0.0)
    low, high = option.hours_range or (hours, hours)
    each_hour = option.count * usd_per_hour
    return replace(
        option,
        offer=replace(
            option.offer,
            usd_per_hour=usd_per_hour,
            usd_per_hour_spot=usd_per_hour if option.spot else None,
            price_date=datetime.date.today().isoformat(),
            source=PRICE_SOURCE,
        ),
        usd=hours * each_hour,
        usd_range=(low * each_hour, high * each_hour),
    )


def engine_choices(deploy: DeployConfig) -> tuple[EngineChoice, ...] | None:
    """Return the engines and formats of `deploy.engines`; None where a plan is not to choose.

    One that has to be tried here is left out where it does not run.
    """
    choices = [
        EngineChoice(
            engine,
            tuple(engine.weight_format(name) for name in engine.exports),
            tuple(sorted({1, engine.at_once})) if engine.exports or engine.cost.is_compiled else (),
        )
        for engine in deploy.engines.values()
        if engine.why_left_out is None
    ]
    return tuple(choices) if deploy.engines else None


def not_chosen_from(deploy: DeployConfig) -> Iterator[EngineLeftOut]:
    """Yield what keeps engines out of the choice."""
    for engine in deploy.engines.values():
        if (why := engine.why_left_out) is not None:
            yield EngineLeftOut(engine.title, why)


def no_engine(deploy: DeployConfig) -> NoEngine:
    """Return why no server of a catalog serves a student by the engines of a choice."""
    return NoEngine(tuple((engine.title, engine.wants) for engine in deploy.engines.values()))


def loss_points(form: WeightFormat, confidence: Literal["low", "mean"] = "mean") -> float:
    """Return the points of accuracy that a plan counts for a format.

    Args:
        form: the format.
        confidence: what of an interval counts (`limits.confidence`).
    """
    return form.most_loss_points if confidence == "low" else form.loss_points


def lossy(choices: Sequence[EngineChoice]) -> frozenset[WeightFormat]:
    """Return the formats of engines that may change answers."""
    formats = (form for choice in choices for form in choice.engine.weight_formats)
    return frozenset(form for form in formats if form.most_loss_points)


def without(
    choices: Sequence[EngineChoice], forms: Collection[WeightFormat]
) -> tuple[EngineChoice, ...]:
    """Return engines with fewer formats; one that has none left is left out."""
    fewer = [
        replace(choice, formats=tuple(form for form in choice.formats if form not in forms))
        for choice in choices
    ]
    return tuple(
        less
        for less, choice in zip(fewer, choices, strict=True)
        if less.formats or not choice.formats
    )


def too_lossy(
    choices: Sequence[EngineChoice] | None, accuracy: float, limits: LimitsConfig
) -> frozenset[WeightFormat]:
    """Return the formats in which a student would break the accuracy limit.

    A student that breaks it anyhow is served without loss: so a limit that is lowered to what it
    reaches is kept.

    Args:
        choices: engines with their formats; None where a plan does not choose.
        accuracy: of the student, as the limit counts it.
        limits: of the run.
    """
    least = limits.accuracy
    if least is None:
        return frozenset()
    return frozenset(
        form
        for choice in choices or ()
        for form in choice.formats
        if (loss := loss_points(form, limits.confidence)) and accuracy - loss / 100 < least
    )


def not_in(
    forms: Collection[WeightFormat], student: str, limits: LimitsConfig
) -> LosesTooMuch | None:
    """Return why a student is not served in some formats; None if it is."""
    if limits.accuracy is None or not forms:
        return None
    losses = sorted((form.name, loss_points(form, limits.confidence)) for form in forms)
    return LosesTooMuch(student, tuple(losses), limits.accuracy)


def loss_of(form: WeightFormat) -> Assumption:
    """Return what a plan assumes of a format's accuracy."""
    high = form.most_loss_points
    measured = f"of students that were measured, {high:g} at most (benchmarks/results/serving)"
    why = measured if high else "students that were measured answered the same to the letter"
    return assumed("loss", form.loss_points, name=form.name, why=why)
