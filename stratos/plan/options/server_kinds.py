"""The servers of one job as arrays, grouped by kind.

Servers of one kind take each other's place in every constraint of a mix, so of a kind each place of
training takes the server that is cheapest from there, with its egress.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.plan.option import Option
from stratos.plan.options.covering import Room
from stratos.plan.quotas import Caps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Kinds:
    """Latency, work and caps of each kind."""

    def __init__(self, options: Sequence[Option], rates: Sequence[float], caps: Caps) -> None:
        self.order = sorted(range(len(options)), key=lambda i: options[i].sort_name)
        self.options = [options[i] for i in self.order]
        self.rates = rates
        self.caps = caps
        quotas: dict[Any, int] = {}
        groups = [caps.binding(o.offer) if o.offer else frozenset() for o in self.options]
        for group in groups:
            for quota in sorted(group, key=lambda quota: quota.pattern):
                quotas.setdefault(quota, len(quotas))
        member = np.zeros((len(options), len(quotas)))
        for i, group in enumerate(groups):
            member[i, [quotas[quota] for quota in group]] = 1.0
        price = np.array([o.usd_per_hour for o in self.options])
        latency = np.array([o.latencies_ms for o in self.options])
        capacity = np.array([o.requests_per_s for o in self.options])
        work = np.maximum(np.array(rates) / capacity, 1e-12)
        capped = caps.max_usd_per_hour is not None
        alike = np.column_stack([latency, work, member, price if capped else 0.0 * price])
        _, first, kind = np.unique(alike, axis=0, return_index=True, return_inverse=True)
        self.by_kind = np.argsort(kind.reshape(-1), kind="stable")
        self.starts = np.searchsorted(kind.reshape(-1)[self.by_kind], np.arange(len(first)))
        self.latency, self.work = latency[first], work[first]
        limits = np.array([float(quota.limit) for quota in quotas])
        cap = caps.max_usd_per_hour if caps.max_usd_per_hour is not None else inf
        self.room = Room(caps.max_nodes, member[first], limits, price[first], cap)

    def seen_with(self, egress_usd: Floats) -> tuple[Floats, Ints]:
        """Return dollars of each kind and the server that stands for it, by (place, kind)."""
        own = np.array([o.usd for o in self.options])
        usd = (own + egress_usd[:, self.order])[:, self.by_kind]
        least = np.minimum.reduceat(usd, self.starts, axis=1)
        of_kind = np.repeat(least, np.diff([*self.starts, usd.shape[1]]), axis=1)
        # The first by name of those that cost the least.
        standing = np.where(usd == of_kind, self.by_kind, len(self.order))
        return least, np.minimum.reduceat(standing, self.starts, axis=1)
