"""Copies: texts with some words changed, short texts that differ in a word or two, and leaks.

*Copies and templates.* Texts of one template, and copies, have most word triples in common. A
template leaves its own triples whole, whatever is filled in; a copy lacks some of those that most
of the others have, here one and there another. What a template has is taken away, and what is left
is looked at once more: copies of what is filled in.

*Short texts* (`Edits`) are kept as the sum of their words' hashes, less each word, and of longer
texts less each two of them. Texts that differ in so many words have such a sum in common, whether
a word was replaced, added, left out or moved (deletion neighbourhoods: Bocek, Hunt, Stiller 2007).
Other texts with one answer may differ in as little, too: what is counted here is what the test
cannot tell from memory.

*Leaks* (`HeldOut`). N-grams are those of Brown et al. (arXiv 2005.14165, appendix C), as
lm-evaluation-harness checks them: words without case and punctuation, thirteen in a row. A held-out
question that is shorter, but has eight words or more, counts as a whole. What more than ten
questions have in common is a phrase of the task and tells nothing; copies of one question with some
words changed are one of them. Of a text with few spaces characters are compared, two for each word.
"""

from __future__ import annotations

import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import nsmallest
from math import ceil

import numpy as np
from numpy.typing import NDArray

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


_FEWEST_WORDS, _MOST_WORDS = 4, 20
"""Words of a text that is compared: of longer ones the triples show it."""
_64_BITS = 2**64 - 1
_FEWEST_FOR_TWO = 7
"""Words from which on two may differ."""


class Edits:
    """Takes short texts in, and tells at the end which differ in little and have one answer."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._counts = array("q")
        self._numbers = array("Q")

    def add(self, number: int, words: NDArray[np.uint32], answer: int) -> None:
        """Take a text in.

        Args:
            number: of the text.
            words: their hashes.
            answer: its hash.
        """
        if not _FEWEST_WORDS <= len(words) <= _MOST_WORDS:
            return
        own = mixed(words.astype(np.uint64))
        total = own.sum(dtype=np.uint64) + mixed(np.array([answer & _64_BITS], np.uint64))
        first, second = _two_of(len(words))
        two = own[first] + own[second] if len(words) >= _FEWEST_FOR_TWO else own[:0]
        keys = np.concatenate([total, total - own, total - two])
        self._keys.frombytes(keys.tobytes())
        self._counts.append(len(keys))
        self._numbers.append(number)

    def pairs(self) -> Pairs:
        """Return pairs of numbers that link all texts which differ in little."""
        own = np.repeat(np.arange(len(self._numbers)), self._counts)
        numbers = np.array(self._numbers, np.int64)[own]
        first, second = neighbours(np.array(self._keys, np.uint64))
        differ = numbers[first] != numbers[second]
        return numbers[first[differ]], numbers[second[differ]]


@lru_cache(maxsize=_MOST_WORDS)
def _two_of(n: int) -> Pairs:
    """Return the places of each two of so many words."""
    first, second = np.triu_indices(n, 1)
    return first, second


Triples = NDArray[np.uint64]
"""Hashes of the word triples of a text, each once, sorted."""
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

NEAR = 0.6
"""Share of hashes in common (an estimate of the Jaccard index) from which texts are near."""
MOST_WORDS = 1000
"""Words of a text that are compared."""
FEWEST_WORDS = 8
"""Words of a text below which it is compared as a whole."""
N_HASHES = 64
BAND = 4
_PHRASE_SHARE = 0.05
"""Share of the texts of a sample from which on a triple is a phrase."""
_ROUNDS = 4
_FIXED = 0.75
"""Share of the texts of a group from which what they share is the group's."""
_OWN = 0.01
"""Share of them up to which a triple is of a changed word, and no value that is often filled in."""
_CALM = 0.25
"""Share of what a group has in common that is hardly ever lacking, beyond what chance leaves so,
from which changes are in some places alone: those that a template has to fill in."""
_FEWEST_TRIPLES = 6
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


class MinHash:
    """Hash functions that are the same in every run."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a = rng.integers(1, 2**63, N_HASHES, dtype=np.uint64)[:, None] | np.uint64(1)
        self._b = rng.integers(0, 2**63, N_HASHES, dtype=np.uint64)[:, None]

    def signature(self, triples: Triples) -> NDArray[np.uint32]:
        """Return the least value of each hash function, over one triple or more."""
        mixed = self._a * triples[None, :]
        mixed += self._b
        # The least of the upper halves is the upper half of the least.
        return (mixed.min(1) >> np.uint64(32)).astype(np.uint32)


def triples_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hashes of three words behind each other.

    Args:
        hashes: of each word; three or more.
    """
    mixed = hashes[:-2] * _MIX[0] + hashes[1:-1] * _MIX[1] + hashes[2:] * _MIX[2]
    mixed ^= mixed >> np.uint64(29)
    return mixed


def triples_in(words: Sequence[str]) -> Triples:
    """Return the triples of a text of three words or more, of its first thousand words."""
    hashes = [zlib.crc32(word.encode("utf-8", "replace")) for word in words[:MOST_WORDS]]
    return np.unique(triples_of(np.array(hashes, np.uint64)))


def mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return hashes whose sums tell their sets apart."""
    spread = (hashes + _MIX[1]) * _MIX[0]
    spread ^= spread >> np.uint64(29)
    spread *= _MIX[2]
    return spread ^ (spread >> np.uint64(32))


def mixed_with(parts: NDArray[np.uint64], senses: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a key of each row of parts together with its sense."""
    mixed = senses * _MIX[0]
    for k in range(parts.shape[1]):
        mixed = (mixed ^ parts[:, k]) * _MIX[k % 3]
        mixed ^= mixed >> np.uint64(31)
    return mixed


def neighbours(keys: NDArray[np.uint64], order_by: NDArray[np.uint64] | None = None) -> Pairs:
    """Return pairs of places with one key: each with the next of them, which links them all.

    Args:
        keys: one for each place.
        order_by: in which order those with one key stand; without it, that of their places.
    """
    order = np.argsort(keys, kind="stable") if order_by is None else np.lexsort((order_by, keys))
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    return order[same], order[same + 1]


def connected(pairs: Sequence[Pairs], n: int) -> NDArray[np.int64]:
    """Return the group of each of `n` places: the least of those that pairs join it with."""
    lower, upper = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    if not len(lower):
        return np.arange(n)
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import connected_components

    graph = sparse.coo_matrix((np.ones(len(lower), np.int8), (lower, upper)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return first[labels]


class Signer:
    """Signs texts by their triples, but for those that many of a sample share: phrases."""

    def __init__(self, sample: Sequence[Triples]) -> None:
        """Learn the phrases of a sample."""
        self._hashes = MinHash()
        self._phrases = common(sample, max(2.0, _PHRASE_SHARE * len(sample)))

    def signature(self, triples: Triples) -> NDArray[np.uint32] | None:
        """Return the signature of a text; None where it has nothing but phrases."""
        own = triples[~is_in(triples, self._phrases)]
        return self._hashes.signature(own) if len(own) else None


def groups_of_copies(texts: Sequence[Triples]) -> NDArray[np.int64]:
    """Return the group of each text: copies of one text with some words changed are of one."""
    remaining = list(texts)
    group_of = np.arange(len(remaining))
    places = [k for k, text in enumerate(remaining) if len(text) >= _FEWEST_TRIPLES]
    for _ in range(_ROUNDS):
        filled: list[int] = []
        for group in _near(places, remaining):
            fixed, are_copies = _judged([remaining[k] for k in group])
            if are_copies:
                group_of[group] = group_of[group[0]]
            elif len(fixed):
                filled += group
                for k in group:
                    remaining[k] = np.setdiff1d(remaining[k], fixed, assume_unique=True)
        places = [k for k in filled if len(remaining[k]) >= _FEWEST_TRIPLES]
        if not places:
            break
    return group_of


def common(texts: Sequence[Triples], most: float) -> Triples:
    """Return the triples of more than `most` texts, sorted; copies of one text count once."""
    if not texts:
        return np.zeros(0, np.uint64)
    triples, counts = np.unique(np.concatenate(texts), return_counts=True)
    often = triples[counts > most]
    if not len(often):
        return often
    groups = groups_of_copies(texts)
    of_group: dict[int, list[Triples]] = {}
    for group, text in zip(groups.tolist(), texts, strict=True):
        of_group.setdefault(group, []).append(text[is_in(text, often)])
    once = [np.unique(np.concatenate(some)) for some in of_group.values()]
    triples, counts = np.unique(np.concatenate(once), return_counts=True)
    return triples[counts > most]


def is_in(triples: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return a mask of the triples that are among others, which are sorted."""
    if not len(known):
        return np.zeros(len(triples), bool)
    is_known: NDArray[np.bool_] = known[np.searchsorted(known, triples).clip(max=len(known) - 1)]
    return is_known == triples


def _near(places: Sequence[int], texts: Sequence[Triples]) -> list[list[int]]:
    """Return groups of three texts or more that have most triples in common."""
    if len(places) < 3:
        return []
    hashes = MinHash()
    signatures = np.stack([hashes.signature(texts[k]) for k in places])
    nothing = np.zeros(len(places), np.uint64)
    pairs: list[Pairs] = []
    for k in range(0, N_HASHES, BAND):
        first, second = neighbours(
            mixed_with(signatures[:, k : k + BAND].astype(np.uint64), nothing)
        )
        near = (signatures[first] == signatures[second]).mean(1) >= NEAR
        pairs.append((first[near], second[near]))
    groups: dict[int, list[int]] = {}
    for index, group in zip(places, connected(pairs, len(places)).tolist(), strict=True):
        groups.setdefault(group, []).append(index)
    return [group for group in groups.values() if len(group) >= 3]


def _judged(texts: Sequence[Triples]) -> tuple[Triples, bool]:
    """Return the triples of the template of near texts, and whether they are copies instead."""
    n = len(texts)
    triples, counts = np.unique(np.concatenate(texts), return_counts=True)
    fixed = triples[counts >= min(n - 1, ceil(_FIXED * n))]
    of_few = max(2, _OWN * n)
    n_lacking = n - counts[is_in(triples, fixed)]
    if not n_lacking.any():
        return fixed, False
    calm = n_lacking <= 0.1 * n_lacking.mean()
    if calm.mean() - np.exp(-n_lacking.mean()) >= _CALM:
        return fixed[calm], False
    n_changed = 0
    for text in texts:
        is_own = ~is_in(text, fixed)
        own = counts[np.searchsorted(triples, text[is_own])]
        lacks = len(fixed) - int((~is_own).sum())
        n_changed += lacks > 0 and (not len(own) or float(np.median(own)) <= of_few)
    return fixed, n_changed > n / 2
