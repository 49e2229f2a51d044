"""Quotas: how many servers may run at once, by pattern, role and dollars an hour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from stratos.records import Offer

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
        return all(_fits(part, value) for part, value in zip(self.parts, name, strict=False))


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
        """Return the caps of a config; a quota that cannot bind is left out.

        Args:
            quotas: most servers by pattern.
            max_nodes: most servers of a role.
            max_usd_per_hour: most dollars an hour of a role.
        """
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
            found = {q for q in self.quotas if q.matches(*name)}
            if name in self.own:
                found.add(Quota("/".join(name), self.own[name]))
            if offer in self.stock:
                found.add(Quota(repr(offer), self.stock[offer]))
            known[key] = frozenset(found)
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


def _fits(part: str, value: str) -> bool:
    pattern = ".*".join(map(re.escape, part.split("*")))
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def counts(most: int) -> Iterable[int]:
    """Yield the counts that a role may have: 1, 2, 4 … up to the most, and the most itself."""
    n = 1
    while n < most:
        yield n
        n *= 2
    if most >= 1:
        yield most
