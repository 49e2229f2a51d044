"""Groups of equal servers (same kind, quotas, spot), sorted by price.

Of so many servers of a shelf, each takes a job as long as the other, so that their dollars are in
the order of their prices, whatever the job is. A million servers stand on a few thousand shelves:
an estimate is made for the shelves, their cheapest servers say what can be had for how much, and
each is looked at only down to the price that may still be of use.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stratos.catalog.text_column import combine
from stratos.estimate import Fleet
from stratos.estimate.fleet import Bools, Floats, Ints
from stratos.plan.options.market import Market, ranks
from stratos.plan.options.spot import spot_factor
from stratos.plan.quotas import counts


@dataclass(frozen=True, eq=False)
class OfferGroups:
    """The servers of a market, sorted once for all jobs."""

    market: Market
    fleet: Fleet
    """A server of each kind."""
    kind: Ints
    """By shelf."""
    spot: Bools
    group: Ints
    """Number of the set of quotas."""
    most: Ints
    """Servers that a role may have at once."""
    usd_per_hour: Floats
    """Price of the cheapest."""
    wait_hours: Floats
    """Until a job of any of its servers would start; NaN as in `Market`."""
    servers: Ints
    """Of the market: shelf by shelf, each from the cheapest on."""
    keys: Ints
    """Shelf and price of each of these as one number, which ascends."""
    prices: Floats
    """All prices, ascending."""

    @classmethod
    def of(cls, market: Market, fleet: Fleet) -> OfferGroups:
        """Put the servers of a market on shelves.

        Args:
            market: the servers.
            fleet: one of each of its kinds.
        """
        alike = combine(
            market.kind,
            market.spot.astype(np.int64),
            market.group,
            market.most,
            ranks(market.wait_hours),
        )
        shelf = np.unique(alike, return_inverse=True)[1].astype(np.int64)
        prices, rank = np.unique(market.usd_per_hour, return_inverse=True)
        keys = shelf * len(prices) + rank
        servers = np.argsort(keys, kind="stable")
        cheapest = servers[np.flatnonzero(np.diff(shelf[servers], prepend=-1))]
        return cls(
            market=market,
            fleet=fleet,
            kind=market.kind[cheapest],
            spot=market.spot[cheapest],
            group=market.group[cheapest],
            most=market.most[cheapest],
            usd_per_hour=market.usd_per_hour[cheapest],
            wait_hours=market.wait_hours[cheapest],
            servers=servers,
            keys=keys[servers],
            prices=prices,
        )

    @cached_property
    def lots(self) -> Lots:
        """Every shelf with every number of servers that a role may have of it."""
        return self._lots({n for most in np.unique(self.most).tolist() for n in counts(most)})

    def lots_of(self, count: int | None) -> Lots:
        """Return every shelf with so many servers of it; None for any number."""
        return self.lots if count is None else self._lots({count})

    def _lots(self, allowed: Set[int]) -> Lots:
        numbers = sorted(allowed)
        shelf, count = np.nonzero(self.most[:, None] >= np.array(numbers, dtype=np.int64))
        count = np.array(numbers, dtype=np.int64)[count]
        alike = combine(self.kind[shelf], count)
        _, first, pair = np.unique(alike, return_index=True, return_inverse=True)
        factors = {n: spot_factor(n) for n in numbers}
        return Lots(
            shelf=shelf,
            count=count,
            spot_factor=np.where(self.spot[shelf], [factors[n] for n in count.tolist()], 1.0),
            usd_per_hour=count * self.usd_per_hour[shelf],
            pair=pair,
            pair_fleet=self.fleet.take(self.kind[shelf[first]]),
            pair_count=count[first],
        )

    def up_to(self, shelf: Ints, usd_per_hour: Floats) -> tuple[Ints, Ints]:
        """Return the servers of some shelves that cost no more than a price each.

        Args:
            shelf: the shelves; one may be there many times.
            usd_per_hour: the price, for each of them.

        Returns:
            For every server found: where in `shelf` it was asked for, and its number.
        """
        cheap = np.searchsorted(self.prices, usd_per_hour, side="right")
        start = np.searchsorted(self.keys, shelf * len(self.prices))
        stop = np.searchsorted(self.keys, shelf * len(self.prices) + cheap)
        n = stop - start
        asked = np.repeat(np.arange(len(shelf)), n)
        within = np.arange(len(asked)) - np.repeat(np.cumsum(n) - n, n)
        return asked, self.servers[start[asked] + within]


@dataclass(frozen=True, eq=False)
class Lots:
    """So many servers of a shelf together, by number of the lot."""

    shelf: Ints
    count: Ints
    spot_factor: Floats
    """Hours over those on demand."""
    usd_per_hour: Floats
    """Of all its servers, for the cheapest of the shelf."""
    pair: Ints
    """Number of its kind and count: all that an estimate depends on."""
    pair_fleet: Fleet
    """By pair: one of the servers."""
    pair_count: Ints
