"""Difficulties in even shares: no more of the easy items than their part of the corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice

from stratos.synthesize.strategy import Tally
from stratos.tasks.base import Item, Task

SURPLUS = "surplus of its difficulty"
_N_SAMPLE = 1000
_N_LEVELS = 4


class Balance:
    """Admits items until their difficulty has its share.

    A task says how hard an item is with a method `difficulty(item)`, a number; without one, the
    length of its reasoning path or, where it has none, of its question tells. Levels are quarters
    of the first thousand items.

    Args:
        strength: 0 leaves the shares as they are drawn, 1 makes them equal.
        n_items: of the whole corpus.
        task: tells the difficulty.
        tally: takes what is refused.
    """

    def __init__(self, strength: float, n_items: int, task: Task, tally: Tally) -> None:
        """Remember what is wanted."""
        self._strength = strength
        self._n_items = n_items
        self._difficulty = getattr(task, "difficulty", _length)
        self._tally = tally

    def admitted(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items of each difficulty up to its share of the corpus, in their order."""
        sample = list(islice(items, _N_SAMPLE))
        if not sample:
            return
        values = sorted(self._difficulty(item) for item in sample)
        # Equal values are one level, however many there are of them.
        edges = sorted({values[len(values) * k // _N_LEVELS] for k in range(1, _N_LEVELS)})
        natural = Counter(_level(value, edges) for value in values)
        allowed = {
            level: self._n_items
            * ((1 - self._strength) * n / len(values) + self._strength / len(natural))
            for level, n in natural.items()
        }
        taken: Counter[int] = Counter()
        for item in chain(sample, items):
            level = _level(self._difficulty(item), edges)
            if taken[level] >= allowed.get(level, self._n_items):
                self._tally.refused[SURPLUS] += 1
                continue
            taken[level] += 1
            yield item


def _level(value: float, edges: list[float]) -> int:
    return sum(value > edge for edge in edges)


def _length(item: Item) -> float:
    return float(len(item.rationale or item.question))
