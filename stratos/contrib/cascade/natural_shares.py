"""Draw items in the shares that their slices have among all, as requests come.

`Task.items` alternates the slices, so that its first items have more of a rare slice than requests
have, and use it up. A promise about requests needs the shares of requests: those of all rows.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stratos.tasks.base import Item

_LEAVABLE = 0.005
"""Share of all items in slices that may be left out as too rare to be drawn."""


@dataclass(frozen=True)
class Drawn:
    """Some ids, each slice in its share."""

    ids: tuple[str, ...]
    left_out: float = 0.0
    """Share of all items in slices of which there were too few: they count as wrong."""


def in_shares(slice_of: Mapping[str, str], able: Collection[str], n: int) -> Drawn:
    """Draw items so that each slice has the share that it has among all.

    Of every slice the first of `able` in an order by hash are taken, and its number is rounded at
    random (systematic sampling), so that it is right on average. Where a slice has too few, fewer
    are taken of all. Slices that together are at most 0.5% of all are left out where they would
    limit the others; whoever promises something counts them as wrong.

    Args:
        slice_of: slice of every item, by id.
        able: ids that may be drawn.
        n: how many, at most.
    """
    counts = Counter(slice_of.values())
    total = sum(counts.values())
    pools: dict[str, list[str]] = {name: [] for name in counts}
    for one in sorted({*able}, key=_key):
        pools[slice_of[one]].append(one)
    left: list[str] = []
    for name in sorted(counts, key=lambda name: (counts[name], name)):
        share = sum(counts[one] for one in [*left, name]) / total
        if share > _LEAVABLE:
            break
        if len(pools[name]) * total < min(n, len(able)) * counts[name]:
            left.append(name)
    taken = {name: count for name, count in sorted(counts.items()) if name not in left}
    rest = sum(taken.values())
    n = min([n, *(len(pools[name]) * rest // count for name, count in taken.items())])
    start = _fraction(sorted(able)) if n else 0.0
    ids: list[str] = []
    before = 0
    for name, count in taken.items():
        low = math.floor(n * before / rest + start)
        before += count
        high = math.floor(n * before / rest + start)
        ids += pools[name][: high - low]
    return Drawn(tuple(sorted(ids, key=_key)), sum(counts[one] for one in left) / max(1, total))


def natural(items: Sequence[Item], drawn: Drawn) -> list[Item]:
    """Return the items that were drawn, in their order."""
    by_id = {one.id: one for one in items}
    return [by_id[one] for one in drawn.ids]


def _key(id: str) -> bytes:
    return hashlib.sha256(f"cascade {id}".encode("utf-8", "surrogatepass")).digest()


def _fraction(ids: Sequence[str]) -> float:
    return int.from_bytes(_key("\n".join(ids))[:6], "big") / 2**48
