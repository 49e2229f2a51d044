"""The Mahjong engine: which tiles complete a hand, memoised by suit.

A complete hand has 14 tiles: four melds (a run of three ranks, or a triplet) and a pair; or seven
different pairs; or the thirteen orphans (each terminal and honour, one of them twice). The tests
hold this engine against the PyPI package `mahjong`.
"""

from __future__ import annotations

from functools import cache

from stratos.tasks.mahjong.tiles import RANKS, SUITS, Counts, Hand, Tile

ORPHANS: frozenset[Tile] = frozenset(
    [(suit, rank) for suit in range(3) for rank in (1, 9)] + [(3, rank) for rank in range(1, 8)]
)


@cache
def is_melds(counts: Counts) -> bool:
    """Return whether a suit splits into runs and triplets with nothing left.

    Seven counts are honours, which form no runs. The lowest tile is in a triplet or in a run:
    both are tried.
    """
    first = next((i for i, n in enumerate(counts) if n), None)
    if first is None:
        return True
    n = counts[first]
    if n >= 3 and is_melds((*counts[:first], n - 3, *counts[first + 1 :])):
        return True
    if len(counts) == 7 or first > len(counts) - 3 or not (counts[first + 1] and counts[first + 2]):
        return False
    rest = (n - 1, counts[first + 1] - 1, counts[first + 2] - 1)
    return is_melds((*counts[:first], *rest, *counts[first + 3 :]))


@cache
def is_melds_and_pair(counts: Counts) -> bool:
    """Return whether a suit splits into one pair, runs and triplets with nothing left."""
    return any(
        n >= 2 and is_melds((*counts[:i], n - 2, *counts[i + 1 :])) for i, n in enumerate(counts)
    )


@cache
def _fills(counts: Counts, pair: bool) -> tuple[int, ...]:
    """Return the ranks that make a suit melds only, or melds and a pair, when one is added."""
    test = is_melds_and_pair if pair else is_melds
    return tuple(
        i + 1
        for i, n in enumerate(counts)
        if n < 4 and test((*counts[:i], n + 1, *counts[i + 1 :]))
    )


def standard_waits(hand: Hand) -> frozenset[Tile]:
    """Return the tiles that make four melds and a pair."""
    sizes = [sum(counts) % 3 for counts in hand]
    open_suits = [suit for suit in range(4) if sizes[suit]]
    if not all(is_melds(hand[suit]) for suit in range(4) if not sizes[suit]):
        return frozenset()
    if [sizes[suit] for suit in open_suits] == [1]:
        suit = open_suits[0]
        return frozenset((suit, rank) for rank in _fills(hand[suit], True))
    if [sizes[suit] for suit in open_suits] != [2, 2]:
        return frozenset()
    first, second = open_suits
    return frozenset(
        (suit, rank)
        for suit, pair_suit in ((first, second), (second, first))
        if is_melds_and_pair(hand[pair_suit])
        for rank in _fills(hand[suit], False)
    )


def seven_pairs_waits(hand: Hand) -> frozenset[Tile]:
    """Return the tile that makes seven different pairs."""
    singles = [(s, i + 1) for s, counts in enumerate(hand) for i, n in enumerate(counts) if n == 1]
    pairs = sum(n == 2 for counts in hand for n in counts)
    return frozenset(singles) if pairs == 6 and len(singles) == 1 else frozenset()


def orphans_waits(hand: Hand) -> frozenset[Tile]:
    """Return the tiles that make the thirteen orphans."""
    if any(any(counts[1:8]) for counts in hand[:3]):
        return frozenset()
    missing = frozenset((suit, rank) for suit, rank in ORPHANS if not hand[suit][rank - 1])
    if not missing:
        return ORPHANS
    return missing if len(missing) == 1 else frozenset()


def waits(hand: Hand) -> frozenset[Tile]:
    """Return every tile that completes a hand of 13 tiles.

    A tile that is held four times already is no wait: there is no fifth.
    """
    return standard_waits(hand) | seven_pairs_waits(hand) | orphans_waits(hand)


def all_tiles() -> list[Tile]:
    """Return the 34 kinds of tile in order."""
    return [(suit, rank) for suit in range(4) for rank in range(1, RANKS[SUITS[suit]] + 1)]
