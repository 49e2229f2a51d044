"""An option for a role: servers at a price, or none; for serving, a mix of servers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from stratos.plan.egress import Place, place_of
from stratos.records import Offer, RoleChoice, ServingSetting

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
    def place(self) -> Place | None:
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
