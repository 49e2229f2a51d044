"""The wordings of texts: what is left of each when the values of its answer are masked.

Rows of one template differ in their values alone. A student that has learnt some of them knows the
others, and says nothing of how it does on a text that is worded otherwise. So they are of one fold,
and of one split where a test gets enough wordings (`stratos.tasks.dedup.splits`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratos.tasks.readings import DATE, NUMBER, NUMBER_WORDS, TIME

_VALUE = re.compile(rf"[\w.+\-]+@[\w\-.]+|{DATE}|{TIME}|{NUMBER}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_FEWEST = 2
"""Common words of a text below which it has no wording."""
_SHORT, _ALIKE_SHORT, _ALIKE = 12, 0.7, 0.5
"""Cosine from which two texts are of one wording: of those with so few words, and of longer ones,
which have optional parts."""
_MOST = 1_000
"""Wordings that are told apart."""
_MOST_OF_ONE, _SHARED = 2 / 3, 0.5
"""Share of the rows that one wording may have, and that wordings of several rows have to have."""


@dataclass(frozen=True)
class Wordings:
    """Known wordings."""

    words: tuple[str, ...] = ()
    """That many texts share, and that are no values."""
    centres: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """How much each word weighs in each wording, shape (wordings, words), each of length 1."""

    @classmethod
    def among(
        cls, texts: Sequence[str], answers: Sequence[Mapping[str, Any]]
    ) -> tuple[Wordings, NDArray[np.int64]]:
        """Return the wordings of rows, and the number of each row's, whatever their order.

        This is leader clustering by cosine, the most frequent frames first. A row without a wording
        is alone with a number of its own. Where most rows are alone, no wording is known: their
        texts are worded freely, and so is the next, which is answered as these are.
        """
        frames = [_frame(*row) for row in zip(texts, answers, strict=True)]
        counts = Counter(word for frame in frames for word in frame)
        least = max(3, 0.01 * len(frames))
        made = cls(tuple(sorted(word for word, n in counts.items() if n >= least)))
        bags = [made._columns(frame) for frame in frames]
        sums, of_bag = made._clustered(Counter(bag for bag in bags if len(bag) >= _FEWEST))
        numbers = np.array([of_bag.get(bag, -1) for bag in bags], np.int64)
        alone = numbers < 0
        numbers[alone] = len(sums) + np.arange(int(alone.sum()))
        sizes = np.bincount(numbers, minlength=len(sums))[: len(sums)]
        shared = sizes > 1
        if sizes[shared].sum() < _SHARED * len(numbers):
            return cls(), numbers
        centres = sums[shared] / np.linalg.norm(sums[shared], axis=1, keepdims=True)
        return cls(made.words, centres.astype(np.float32)), numbers

    def knows(self, text: str, answer: Mapping[str, Any]) -> bool:
        """Return whether a text with its answer is of a known wording; True where there are none.

        Words that no known text has count against it.
        """
        if not len(self.centres):
            return True
        frame = _frame(text, answer)
        if not (bag := self._columns(frame)):
            return False
        cosine = float(self._cosines(self.centres, bag).max()) * np.sqrt(len(bag) / len(frame))
        return bool(cosine >= _alike(len(frame)))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def _columns(self, frame: frozenset[str]) -> tuple[int, ...]:
        return tuple(sorted(self._ids[word] for word in frame if word in self._ids))

    @staticmethod
    def _cosines(centres: NDArray[Any], bag: tuple[int, ...]) -> NDArray[Any]:
        cosines: NDArray[Any] = centres[:, list(bag)].sum(axis=1) / np.sqrt(len(bag))
        return cosines

    def _clustered(
        self, bags: Counter[tuple[int, ...]]
    ) -> tuple[NDArray[np.float64], dict[tuple[int, ...], int]]:
        """Return the sum of the bags of each cluster, and the cluster of each bag."""
        sums = np.zeros((min(_MOST, len(bags)), len(self.words)))
        centres, n, of_bag = np.zeros_like(sums, np.float32), 0, {}
        for bag in sorted(bags, key=lambda bag: (-bags[bag], bag)):
            cosines = self._cosines(centres[:n], bag)
            best = int(cosines.argmax()) if n else 0
            if not n or cosines[best] < _alike(len(bag)):
                if n == len(sums):
                    continue
                best, n = n, n + 1
            of_bag[bag] = best
            sums[best, list(bag)] += bags[bag] / np.sqrt(len(bag))
            centres[best] = sums[best] / np.linalg.norm(sums[best])
        return sums[:n], of_bag


def _alike(n_words: int) -> float:
    return _ALIKE_SHORT if n_words <= _SHORT else _ALIKE


def _frame(text: str, answer: Mapping[str, Any]) -> frozenset[str]:
    """Return the words of a text that are no values."""
    low = _VALUE.sub(" 0 ", text).lower()
    for value in sorted(set(_texts(answer)), key=lambda value: (-len(value), value)):
        if value in low:
            low = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", " 0 ", low)
    return frozenset(word for word in _WORD.findall(low) if word not in NUMBER_WORDS)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, in lower case."""
    if isinstance(value, str):
        if len(low := value.strip().lower()) > 1:
            yield low
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def folds_of(
    wordings: NDArray[np.int64], n_folds: int, seed: int
) -> tuple[NDArray[np.int64], bool]:
    """Return the fold of each row, and whether most rows are held out with others of their wording.

    Rows of one wording are of one fold, the smallest so far; where one wording has most of all rows
    there are no others to learn from, and rows are held out at random.
    """
    random = np.random.default_rng(seed)
    names, sizes = np.unique(wordings, return_counts=True)
    if sizes.max() > _MOST_OF_ONE * len(wordings):
        return random.permutation(len(wordings)) % n_folds, False
    order = random.permutation(len(names))
    folds, filled = np.zeros(int(names.max()) + 1, np.int64), np.zeros(n_folds, np.int64)
    for k in order[np.argsort(-sizes[order], kind="stable")]:
        folds[names[k]] = filled.argmin()
        filled[folds[names[k]]] += sizes[k]
    is_shared = sizes[sizes > 1].sum() >= _SHARED * len(wordings)
    return folds[wordings], bool(is_shared)
