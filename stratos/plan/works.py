"""What each role's work costs on the servers of the market: arrays first, options of what is left.

An estimate is made once for every hardware kind and count. Dollars and hours of all servers follow
as arrays, what another server beats by more than egress can change is dropped (`pareto`), and only
the rest become options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stratos.estimate import ServingPoint
from stratos.plan.market import Market
from stratos.plan.option import Option
from stratos.plan.pareto import cheap_enough, kept
from stratos.plan.serving import UTILISATION, useful
from stratos.plan.spot import spot_factor
from stratos.records import Interval, Offer

Estimate = Callable[[Offer, int], Interval | None]
"""Hours of a job on so many servers of an offer; None if memory does not hold it."""


@dataclass(frozen=True)
class Job:
    """A work that ends: a teacher's answers, or a training."""

    hours: Estimate
    slack: float
    """Most dollars that egress can differ by between two places."""
    note: str


def job_options(market: Market, kinds: dict[int, Offer], job: Job) -> tuple[Option, ...]:
    """Return the options of a job that no other one dominates.

    Args:
        market: the servers.
        kinds: one offer of every hardware kind among them.
        job: the work.
    """
    n_kinds = max(kinds, default=-1) + 1
    parts: list[tuple[NDArray[np.int64], int, NDArray[np.float64]]] = []
    for n, servers in market.counts():
        table = np.full((n_kinds, 3), np.nan)
        for kind in np.unique(market.kind[servers]).tolist():
            found = job.hours(kinds[kind], n)
            if found is not None:
                table[kind] = found.mean, found.low, found.high
        hours = table[market.kind[servers]]
        hours[market.spot[servers]] *= spot_factor(n)
        fits = ~np.isnan(hours[:, 0])
        parts.append((servers[fits], n, hours[fits]))
    if not any(len(servers) for servers, _, _ in parts):
        return ()
    server = np.concatenate([servers for servers, _, _ in parts])
    count = np.concatenate([np.full(len(servers), n) for servers, n, _ in parts])
    hours = np.concatenate([hours for _, _, hours in parts])
    price = count * market.usd_per_hour[server]
    usd = hours[:, 0] * price
    near = np.flatnonzero(cheap_enough(usd, hours[:, 0], job.slack))
    options = [
        Option(
            offer=market.offer(int(market.row[server[i]])),
            spot=bool(market.spot[server[i]]),
            hours=float(hours[i, 0]),
            usd=float(usd[i]),
            count=int(count[i]),
            note=job.note,
            hours_range=(float(hours[i, 1]), float(hours[i, 2])),
            usd_range=(float(hours[i, 1] * price[i]), float(hours[i, 2] * price[i])),
        )
        for i in near.tolist()
    ]
    names = [option.sort_name for option in options]
    nothing = np.zeros(len(near))
    left = kept(usd[near], hours[near, 0], nothing, market.place[server[near]], names, job.slack)
    return tuple(options[i] for i in left)


@dataclass(frozen=True)
class Service:
    """A work that goes on for a horizon: answering."""

    points: Callable[[Offer], Sequence[ServingPoint]]
    """Operating points of one server of an offer; none if memory does not hold the model."""
    hours: float
    slack: float
    """Most dollars that the egress of one server can differ by between two places."""
    note: str
    rates: tuple[float, ...] | None = None
    """Requests per second by bucket; None where they come one at a time."""


def service_options(
    market: Market, kinds: dict[int, Offer], service: Service
) -> tuple[Option, ...]:
    """Return the single servers that may be of use: to be taken alone, or to be mixed."""
    server, points = _servers_at_points(market, kinds, service)
    if not len(server):
        return ()
    price = market.usd_per_hour[server]
    usd = service.hours * price
    latency = np.array([[interval.mean for interval in p.latency_ms] for p in points])
    place = market.place[server]
    if service.rates is None:
        near = np.flatnonzero(cheap_enough(usd, latency.max(axis=1), service.slack))
    else:
        capacity = UTILISATION * np.array([p.requests_per_s for p in points])
        near = np.array(
            useful(
                usd, price, latency, np.array(service.rates) / capacity, market.group[server],
                market.most[server], place, market.caps, service.slack,
            )
        )  # fmt: skip
    return tuple(
        Option(
            offer=market.offer(int(market.row[server[i]])),
            spot=False,
            hours=service.hours,
            usd=float(usd[i]),
            latency_ms=float(latency[i].max()),
            note=service.note,
            latencies_ms=() if service.rates is None else tuple(latency[i].tolist()),
            requests_per_s=()
            if service.rates is None
            else tuple(UTILISATION * rate for rate in points[i].requests_per_s),
            setting=_setting(points[i]),
        )
        for i in near.tolist()
    )


def _servers_at_points(
    market: Market, kinds: dict[int, Offer], service: Service
) -> tuple[NDArray[np.int64], list[ServingPoint]]:
    """Return every server with every point it may run at; the fastest one without a rate.

    Serving is never on spot.
    """
    of_kind: dict[int, list[ServingPoint]] = {}
    for kind, offer in kinds.items():
        found = list(service.points(offer))
        if service.rates is None and found:
            found = [min(found, key=lambda p: max(i.mean for i in p.latency_ms))]
        of_kind[kind] = found
    servers: list[int] = []
    points: list[ServingPoint] = []
    on_demand = np.flatnonzero(~market.spot)
    for i, kind in zip(on_demand.tolist(), market.kind[on_demand].tolist(), strict=True):
        for point in of_kind[kind]:
            servers.append(i)
            points.append(point)
    return np.array(servers, dtype=np.int64), points


def _setting(point: ServingPoint) -> str:
    cut = f", {point.tensor_parallel} GPUs a replica" if point.tensor_parallel > 1 else ""
    return f"batch {point.batch}{cut}"
