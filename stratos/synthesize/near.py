"""Near-duplicate removal with MinHash.

Two questions are near duplicates if they have most word triples in common (their Jaccard index
reaches a threshold), the same numbers in them, and the same answer. Triples that many questions
share are phrases of the task and do not count; copies with some words changed are one of them. Of
a text with few spaces characters are compared. A question of few words is compared by its hash
alone, which others do already.

MinHash (Broder 1997) estimates the index from the smallest value of each of 64 hash functions;
bands of four find candidates without comparing all pairs (Leskovec et al., Mining of Massive
Datasets, chapter 3).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from stratos.tasks.base import Item
from stratos.tasks.split import normalised
from stratos.tasks.text_words import words_of

if TYPE_CHECKING:
    import numpy as np

NEAR = "near duplicate"
_FEWEST_WORDS = 8
_PHRASE_SHARE = 0.05
"""Share of the questions from which on a triple counts as a phrase of the task."""
_NUMBER = re.compile(r"\d+")


class NearDuplicates:
    """Remembers questions by their MinHash.

    Args:
        threshold: Jaccard index from which on two questions are near duplicates.
        sample: questions of the task, to tell its phrases.
        own_words: the part of a question that is compared (`Task.own_words`).
    """

    def __init__(
        self,
        threshold: float,
        sample: Iterable[Item] = (),
        own_words: Callable[[str], str] = str,
    ) -> None:
        """Draw the hash functions: the same in every run."""
        from stratos.tasks.copies import MinHash, common

        self._own_words = own_words
        self._threshold = threshold
        self._hashes = MinHash()
        self._bands: dict[tuple[int, bytes, bytes], list[int]] = {}
        self._kept: list[np.ndarray] = []
        texts = [self._triples(item) for item in sample]
        self._phrases = common(texts, max(2.0, _PHRASE_SHARE * len(texts)))

    def is_near(self, item: Item) -> bool:
        """Return whether a question that was kept says the same; if none does, keep this one."""
        from stratos.tasks.copies import BAND, N_HASHES, is_in

        triples = self._triples(item)
        triples = triples[~is_in(triples, self._phrases)]
        if not len(triples):
            return False
        signature = self._hashes.signature(triples)
        sense = _sense(item)
        keys = [
            (band, sense, signature[band : band + BAND].tobytes())
            for band in range(0, N_HASHES, BAND)
        ]
        candidates = {index for key in keys for index in self._bands.get(key, ())}
        if any((self._kept[index] == signature).mean() >= self._threshold for index in candidates):
            return True
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._kept))
        self._kept.append(signature)
        return False

    def _triples(self, item: Item) -> np.ndarray:
        """Return the word triples of a question, sorted; none of one with few words."""
        from stratos.tasks.copies import triples_in

        words = words_of(normalised(self._own_words(item.question)))
        return triples_in(words if len(words) >= _FEWEST_WORDS else ())


def _sense(item: Item) -> bytes:
    """Return the hash of what two near duplicates must have in common: numbers and answer."""
    numbers = sorted(_NUMBER.findall(item.question))
    text = "\x1f".join([normalised(item.answer), *numbers])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
