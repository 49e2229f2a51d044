"""Majority voting over several answers: agreement and winner."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import log2

from stratos.tasks.base import Item
from stratos.tasks.split import normalised


@dataclass
class Votes:
    """The answers to one question so far; answers that differ in spelling alone are one."""

    item: Item
    """Without an answer."""
    n_unread: int = 0
    """Answers that none could be read from."""
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, Item] = field(default_factory=dict)
    """The item with each answer as it was spelled first."""

    def add(self, found: Item | None) -> None:
        """Take in the item with an answer, or None where none could be read."""
        if found is None:
            self.n_unread += 1
            return
        key = normalised(found.answer)
        self._counts[key] += 1
        self._first.setdefault(key, found)

    @property
    def n(self) -> int:
        """How many answers there are, those that could not be read too."""
        return self.n_unread + self._counts.total()

    @property
    def best(self) -> Item | None:
        """The item with the most frequent answer, the first of equals; None without any."""
        if not self._counts:
            return None
        return self._first[max(self._counts, key=lambda key: self._counts[key])]

    @property
    def agreement(self) -> float:
        """Share of all answers that is the most frequent one."""
        return max(self._counts.values(), default=0) / max(1, self.n)

    @property
    def disagreement(self) -> float:
        """Entropy of the answers in bits; one that could not be read agrees with no other."""
        counts = [*self._counts.values(), *([1] * self.n_unread)]
        return -sum(k / self.n * log2(k / self.n) for k in counts) if self.n else 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Answer to how often it was given, the most frequent first."""
        return {self._first[key].answer: n for key, n in self._counts.most_common()}
