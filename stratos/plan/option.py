"""An option for a role: servers at a price, or none; for serving, a mix of servers.

Egress costs of data, checkpoint and bundle between regions and clouds.

A place is a region of a cloud. Data leave it at one of three prices per GB: 0 within the region,
the cloud's price between its regions, its internet price to any other place. What comes in is free
everywhere, and so is what a hosted teacher sends. `egress.csv` has the list prices with date and
source; a cloud without a row pays the row `*`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from stratos.catalog.offers import matcher
from stratos.records import Interval, Offer, RoleChoice, ServingSetting

EGRESS_CSV = Path(__file__).with_name("egress.csv")

BYTES_PER_TOKEN = 4.0
"""Bytes of text that a token stands for: what a data set weighs on its way."""
BYTES_PER_PARAM = 2.0
"""Bytes of a weight in the bundle: bf16."""

OTHER = "*"
"""The row of clouds that have none of their own."""

Place = tuple[str, str]
"""Cloud and region."""


@dataclass(frozen=True)
class Egress:
    """Dollars per GB by cloud: between its regions, and to the internet."""

    usd_per_gb: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    provenance: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Cloud to the day of its prices, and their source."""
    assumed: frozenset[str] = frozenset()
    """Clouds whose prices are those of another one."""

    def price(self, source: Place | None, target: Place | None) -> float:
        """Return dollars per GB from one place to another; None is a hosted teacher, and free."""
        if source is None or target is None or source == target:
            return 0.0
        same_cloud, internet = self.of(source[0])
        return same_cloud if source[0] == target[0] else internet

    def of(self, cloud: str) -> tuple[float, float]:
        """Return the two prices of a cloud."""
        return self.usd_per_gb.get(cloud, self.usd_per_gb.get(OTHER, (0.0, 0.0)))

    def provenance_of(self, cloud: str) -> tuple[str, str]:
        """Return the day of a cloud's prices, and their source."""
        return self.provenance.get(cloud, self.provenance.get(OTHER, ("", "")))

    @property
    def most(self) -> float:
        """The highest price of all: no move of one GB costs more."""
        return max((max(prices) for prices in self.usd_per_gb.values()), default=0.0)


@cache
def list_prices() -> Egress:
    """Return the table of `egress.csv`."""
    with EGRESS_CSV.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Egress(
        {
            row["Cloud"]: (float(row["SameCloudUsdPerGb"]), float(row["InternetUsdPerGb"]))
            for row in rows
        },
        {row["Cloud"]: (row["PriceDate"], row["Source"]) for row in rows},
    )


def place_of(offer: Offer | None) -> Place | None:
    """Return where a server stands; None for a role without one."""
    return None if offer is None else (offer.cloud, offer.region)


# Quotas: how many servers may run at once, by pattern, role and dollars an hour.


Name = tuple[str, ...]
"""Cloud, region and instance type of an offer."""


@dataclass(frozen=True)
class Quota:
    """Most servers at once among the offers that a pattern matches."""

    pattern: str
    """cloud, cloud/region or cloud/region/instance_type; a `*` stands for any text."""
    limit: int

    @property
    def parts(self) -> list[str]:
        """The pattern of the cloud, and those of region and instance type if it has them."""
        return self.pattern.split("/", 2)

    def matches(self, *name: str) -> bool:
        """Return whether an offer of this cloud, region and instance type counts in the quota."""
        return all(matcher(part)(value) for part, value in zip(self.parts, name, strict=False))


@dataclass(frozen=True)
class Caps:
    """What bounds the servers that one role may have at once."""

    quotas: tuple[Quota, ...] = ()
    """Quotas over several offers."""
    own: Mapping[Name, int] = field(default_factory=dict)
    """Quotas of one offer each, by cloud, region and instance type."""
    stock: Mapping[Offer, int] = field(default_factory=dict)
    """How many there are of offers that exist a few times only: the same instance type may be had
    so often at one price, and so often more at another."""
    max_nodes: int = 8
    max_usd_per_hour: float | None = None

    @classmethod
    def of(
        cls,
        quotas: Mapping[str, int],
        max_nodes: int,
        max_usd_per_hour: float | None = None,
    ) -> Caps:
        """Return the caps of a config; a quota that cannot bind is left out."""
        shared: list[Quota] = []
        single: dict[Name, int] = {}
        for pattern, limit in sorted(quotas.items()):
            quota = Quota(pattern, limit)
            if limit >= max_nodes:
                continue
            name = tuple(quota.parts)
            if len(name) == 3 and "*" not in pattern:
                single[name] = limit
            else:
                shared.append(quota)
        return cls(tuple(shared), single, max_nodes=max_nodes, max_usd_per_hour=max_usd_per_hour)

    def binding(self, offer: Offer) -> frozenset[Quota]:
        """Return the quotas that an offer counts in."""
        name = (offer.cloud, offer.region, offer.instance_type)
        key = offer if self.stock else name
        known = self._known
        if key not in known:
            quotas = {q for q in self.quotas if q.matches(*name)}
            if name in self.own:
                quotas.add(Quota("/".join(name), self.own[name]))
            if offer in self.stock:
                quotas.add(Quota(repr(offer), self.stock[offer]))
            known[key] = frozenset(quotas)
        return known[key]

    def count(self, offer: Offer) -> int:
        """Return how many servers of this offer alone may run at once."""
        return min((q.limit for q in self.binding(offer)), default=self.max_nodes)

    @property
    def any_quota(self) -> bool:
        """Whether some offer is bound by more than the servers and dollars of a role."""
        return bool(self.quotas or self.own or self.stock)

    @cached_property
    def _known(self) -> dict[Name | Offer, frozenset[Quota]]:
        return {}


def counts(most: int) -> Iterable[int]:
    """Yield the counts that a role may have: 1, 2, 4 … up to the most, and the most itself."""
    n = 1
    while n < most:
        yield n
        n *= 2
    if most >= 1:
        yield most


Range = tuple[float, float]


@dataclass(frozen=True)
class Option:
    """Equal servers of one offer that do the work of a role, or a hosted model without any."""

    offer: Offer | None
    spot: bool
    hours: float
    """Until the work is done, with those that its servers are waited for."""
    usd: float
    """Dollars of all `count` servers for the hours of work, without egress."""
    latency_ms: float = 0.0
    """Predicted p95 of one answer, of the slowest bucket; 0 for a role that answers nobody."""
    count: int = 1
    note: str = ""
    hours_range: Range | None = None
    usd_range: Range | None = None
    latencies_ms: tuple[float, ...] = ()
    """Predicted p95 by bucket of requests, where a rate of requests has to be served."""
    requests_per_s: tuple[float, ...] = ()
    """What one server answers of each bucket alone, at its utilisation."""
    run: ServingSetting | None = None
    """How a server that serves is run, where an offer can be run in several ways."""
    slowness: Range = (1.0, 1.0)
    """Ends of the seconds of an answer over their estimate, of a server that serves."""
    filled: Interval | None = None
    """As of `RoleChoice`."""
    as_batch: bool = False
    """Whether a hosted teacher is asked through its provider's batch API."""
    last_call_usd: float = 0.0
    """How much more than a call of a hosted teacher costs is set aside for it."""
    after_deploy_usd: float = 0.0
    """Part of `usd` for a hosted teacher's answers once the student is served."""
    wait_hours: float | None = None
    """Part of `hours` until its servers, the nodes of a cluster, would be handed out; None where
    that is not known, and of others."""

    @cached_property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        if self.offer is None:
            return self.note or "no server"
        times = f"{self.count} × " if self.count > 1 else ""
        return f"{times}{self.offer.name}{' spot' if self.spot else ''}"

    @cached_property
    def sort_name(self) -> str:
        """The name, told apart from other settings of the same servers."""
        return f"{self.name} {self.run.name if self.run else ''}"

    @property
    def location(self) -> Place | None:
        """Where the servers stand; None for a hosted model."""
        return place_of(self.offer)

    @property
    def usd_per_hour(self) -> float:
        """Price of all `count` servers."""
        if self.offer is None:
            return 0.0
        spot = self.offer.usd_per_hour_spot
        price = spot if self.spot and spot is not None else self.offer.usd_per_hour
        return self.count * price

    @property
    def parts(self) -> tuple[Option, ...]:
        """The option as a mix of one."""
        return (self,)

    def loaded(self, filled: float) -> Option:
        """Return it with how many of its servers the requests fill, and the error of that."""
        low, high = self.slowness
        return replace(self, filled=Interval(filled, filled * low, filled * high))

    def as_choices(self, role: str) -> tuple[RoleChoice, ...]:
        """Return the option as the record that the plan keeps."""
        return (
            RoleChoice(
                role=role,
                offer=self.offer,
                count=self.count,
                spot=self.spot,
                hours=self.hours - (self.wait_hours or 0.0),
                usd=self.usd,
                note=self.note,
                hours_range=self.hours_range,
                usd_range=self.usd_range,
                as_batch=self.as_batch,
                last_call_usd=self.last_call_usd,
                after_deploy_usd=self.after_deploy_usd,
                run=self.run,
                filled=self.filled,
                wait_hours=self.wait_hours,
            ),
        )


@dataclass(frozen=True)
class Mix:
    """Servers of several offers that answer a rate of requests together."""

    parts: tuple[Option, ...]
    """One for each offer and setting, with its count and the dollars of all its servers."""
    shares: tuple[tuple[float, ...], ...]
    """For each part, its share of each bucket of requests; over the parts they sum to 1."""

    @cached_property
    def name(self) -> str:
        """Short name, by which ties are broken too."""
        return " + ".join(part.name for part in self.parts)

    @cached_property
    def sort_name(self) -> str:
        """The name, told apart from other settings of the same servers."""
        return " + ".join(part.sort_name for part in self.parts)

    @property
    def hours(self) -> float:
        """Hours that it serves."""
        return self.parts[0].hours

    @cached_property
    def usd(self) -> float:
        """Dollars of all servers, without egress."""
        return sum(part.usd for part in self.parts)

    @cached_property
    def latency_ms(self) -> float:
        """Predicted p95 of the slowest bucket on the slowest server that answers it."""
        return max(
            latency
            for part, shares in zip(self.parts, self.shares, strict=True)
            for latency, share in zip(part.latencies_ms, shares, strict=True)
            if share > 0
        )

    def as_choices(self, role: str) -> tuple[RoleChoice, ...]:
        """Return one record for each part, the dearest first."""
        pairs = zip(self.parts, self.shares, strict=True)
        ordered = sorted(pairs, key=lambda pair: (-pair[0].usd_per_hour, pair[0].sort_name))
        return tuple(
            replace(choice, traffic=shares)
            for part, shares in ordered
            for choice in part.as_choices(role)
        )


Served = Option | Mix
