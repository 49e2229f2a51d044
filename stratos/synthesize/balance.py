"""Balance the corpus by difficulty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from stratos.synthesize.strategy import Tally
from stratos.tasks.base import Item, Task

SURPLUS = "surplus of its difficulty"
_N_SAMPLE = 1000
_N_LEVELS = 4

T = TypeVar("T")


def _itself(item: Any) -> Item:
    made: Item = item
    return made


class Balance:
    """Admits items until their difficulty has its share.

    The task says how hard an item is (`Task.difficulty`). Levels are quarters of the first thousand
    items.

    Args:
        strength: 0 leaves the shares as they are drawn, 1 makes them equal.
        n_items: of the whole corpus.
        task: tells the difficulty.
        tally: takes what is refused.
    """

    def __init__(self, strength: float, n_items: int, task: Task, tally: Tally) -> None:
        self._strength = strength
        self._n_items = n_items
        self._difficulty = task.difficulty
        self._tally = tally

    def admitted(self, drawn: Iterator[T], item_of: Callable[[T], Item] = _itself) -> Iterator[T]:
        """Yield what is drawn of each difficulty up to its share of the corpus, in its order.

        Args:
            drawn: items, or what holds them.
            item_of: returns the item.
        """
        sample = list(islice(drawn, _N_SAMPLE))
        if not sample:
            return
        values = sorted(self._difficulty(item_of(one)) for one in sample)
        # Equal values are one level, however many there are of them.
        edges = sorted({values[len(values) * k // _N_LEVELS] for k in range(1, _N_LEVELS)})
        natural = Counter(_level(value, edges) for value in values)
        allowed = {
            level: self._n_items
            * ((1 - self._strength) * n / len(values) + self._strength / len(natural))
            for level, n in natural.items()
        }
        taken: Counter[int] = Counter()
        for one in chain(sample, drawn):
            level = _level(self._difficulty(item_of(one)), edges)
            if taken[level] >= allowed.get(level, self._n_items):
                self._tally.refused[SURPLUS] += 1
                continue
            taken[level] += 1
            yield one


def _level(value: float, edges: list[float]) -> int:
    return sum(value > edge for edge in edges)
