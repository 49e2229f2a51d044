"""Leaks: which items repeat one that is held out, exactly or in part.

N-grams are those of Brown et al. (arXiv 2005.14165, appendix C), as lm-evaluation-harness checks
them: words without case and punctuation, thirteen in a row. A held-out question that is shorter,
but has eight words or more, counts as a whole. What more than ten questions have in common is a
phrase of the task and tells nothing; copies of one question with some words changed are one of
them. Of a text with few spaces characters are compared, two for each word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest

from stratos.tasks.base import Item
from stratos.tasks.dedup.hashes import normalised, order_key, words_of
from stratos.tasks.words import NGRAM, Leak

SHORTEST = 8
"""Words from which on a question that is shorter than an n-gram is looked for as a whole."""
MOST_IN_COMMON = 10
"""Questions that an n-gram may be in before it counts as a phrase of the task."""
_N_FOR_COPIES = 2000
"""Questions with phrases that are looked at for copies."""


class HeldOut:
    """Tells whether an item repeats what is held out.

    Args:
        items: what is held out.
        further: training questions, to tell what all questions of the task have in common.
        own_words: the part of a question that is compared (`Task.own_words`).
    """

    def __init__(
        self,
        items: Iterable[Item],
        further: Sequence[Item] = (),
        own_words: Callable[[str], str] = str,
    ) -> None:
        """Keep ids, families and n-grams; no text."""
        items = list(items)
        self._own_words = own_words
        self._ids = frozenset(item.id for item in items)
        self._families = frozenset(map(family_of, items))
        n_with: Counter[str] = Counter()
        for item in items:
            n_with.update(set(grams_of(own_words(item.question))))
        self._by_beginning = _by_beginning(n_with)
        if n_with:
            for item in further:
                n_with.update(set(self._grams(own_words(item.question))))
        often = [gram for gram, n in n_with.items() if n > MOST_IN_COMMON]
        self._by_beginning = _by_beginning(often)
        phrases = self._phrases([*items, *further]) if often else set()
        self._by_beginning = _by_beginning(gram for gram in n_with if gram not in phrases)

    def leak(self, item: Item, completion: str = "") -> Leak | None:
        """Return in which way an item, or its text, repeats what is held out; None if in none."""
        if item.id in self._ids:
            return Leak.EXACT
        if family_of(item) in self._families:
            return Leak.CANONICAL
        if self._by_beginning:
            gram = next(self._grams(f"{self._own_words(item.question)}\n{completion}"), None)
            return Leak.OVERLAP if gram is not None else None
        return None

    def _phrases(self, items: Iterable[Item]) -> set[str]:
        """Return the n-grams of those looked for that many questions share, copies counted once."""
        from stratos.tasks.dedup.minhash import groups_of_copies, triples_in  # imports numpy

        texts = ((item.id, self._own_words(item.question)) for item in items)
        shared = [(id, text) for id, text in texts if any(True for _ in self._grams(text))]
        sample = nsmallest(_N_FOR_COPIES, shared, key=lambda pair: order_key(pair[0], 0))
        groups = groups_of_copies([triples_in(_words(text)) for _, text in sample])
        pairs = {
            (group, gram)
            for group, (_, text) in zip(groups.tolist(), sample, strict=True)
            for gram in self._grams(text)
        }
        counts = Counter(gram for _, gram in pairs)
        most = MOST_IN_COMMON * len(sample) / len(shared)
        return {gram for gram, n in counts.items() if n > most}

    def _grams(self, text: str) -> Iterator[str]:
        """Yield the n-grams of a text that are looked for, found by their first words."""
        words = _words(text)
        for start in range(len(words) - SHORTEST + 1):
            for gram in self._by_beginning.get(" ".join(words[start : start + SHORTEST]), ()):
                if " ".join(words[start : start + gram.count(" ") + 1]) == gram:
                    yield gram


def family_of(item: Item) -> str:
    """Return what an item shares with its mirrors; its id where the task has none."""
    return item.family or item.id


def grams_of(text: str) -> Iterator[str]:
    """Yield the n-grams of a text, or all of a shorter one."""
    words = _words(text)
    a_word = 2 if len(words) > 2 * len(text.split()) else 1  # where they are characters
    n = a_word * NGRAM
    if a_word * SHORTEST <= len(words) < n:
        yield " ".join(words)
    for start in range(len(words) - n + 1):
        yield " ".join(words[start : start + n])


def _words(text: str) -> list[str]:
    return words_of(normalised(text))


def _by_beginning(grams: Iterable[str]) -> dict[str, list[str]]:
    by_beginning: dict[str, list[str]] = {}
    for gram in grams:
        by_beginning.setdefault(" ".join(gram.split(" ", SHORTEST)[:SHORTEST]), []).append(gram)
    return by_beginning
