"""Tells copies with some words changed from texts that one template was filled in for.

Both have most word triples in common. A template leaves its own triples whole, whatever is filled
in; a copy lacks some of those that most of the others have, here one and there another. What a
template has is taken away, and what is left is looked at once more: copies of what is filled in.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

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
