"""How many servers may run at once: quotas by pattern, nodes of a role, dollars an hour."""

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
    max_nodes: int = 8
    max_usd_per_hour: float | None = None

    @classmethod
    def of(
        cls,
        quotas: Mapping[str, int],
        max_nodes: int,
        max_usd_per_hour: float | None = None,
        own: Mapping[Name, int] | None = None,
    ) -> Caps:
        """Return the caps of a config; a quota that cannot bind is left out.

        Args:
            quotas: most servers by pattern.
            max_nodes: most servers of a role.
            max_usd_per_hour: most dollars an hour of a role.
            own: most servers of offers that exist a few times only.
        """
        shared, single = [], dict(own or {})
        for pattern, limit in sorted(quotas.items()):
            quota = Quota(pattern, limit)
            if limit >= max_nodes:
                continue
            name = tuple(quota.parts)
            if len(name) == 3 and "*" not in pattern:
                single[name] = min(limit, single.get(name, limit))
            else:
                shared.append(quota)
        single = {name: n for name, n in single.items() if n < max_nodes}
        return cls(tuple(shared), single, max_nodes, max_usd_per_hour)

    def binding(self, offer: Offer) -> frozenset[Quota]:
        """Return the quotas that an offer counts in."""
        name = (offer.cloud, offer.region, offer.instance_type)
        known = self._known
        if name not in known:
            found = {q for q in self.quotas if q.matches(*name)}
            if name in self.own:
                found.add(Quota("/".join(name), self.own[name]))
            known[name] = frozenset(found)
        return known[name]

    def count(self, offer: Offer) -> int:
        """Return how many servers of this offer alone may run at once."""
        return min((q.limit for q in self.binding(offer)), default=self.max_nodes)

    @cached_property
    def _known(self) -> dict[Name, frozenset[Quota]]:
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
