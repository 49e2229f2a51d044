"""Tiles, hands and the one notation they are written in.

A hand is four tuples of counts, one a suit: characters (m), circles (p) and bamboo (s) with nine
ranks each, honours (z) with seven: east, south, west, north, white, green, red. In text it is the
standard notation, `123m456p789s1122z`: ranks in ascending order, then the suit's letter.
"""

from __future__ import annotations

import re
from functools import cache

SUITS = "mpsz"
RANKS = {"m": 9, "p": 9, "s": 9, "z": 7}

Counts = tuple[int, ...]
"""How often each rank of one suit is held: nine numbers (seven for honours), each 0 to 4."""
Hand = tuple[Counts, Counts, Counts, Counts]
"""Counts of the four suits m, p, s, z."""
Tile = tuple[int, int]
"""Suit index 0–3 and rank from 1."""

EMPTY: Hand = ((0,) * 9, (0,) * 9, (0,) * 9, (0,) * 7)
_GROUP = re.compile(r"([1-9]+)([mpsz])")


@cache
def _ranks(counts: Counts) -> str:
    return "".join(str(rank) * n for rank, n in enumerate(counts, start=1))


def hand_to_text(hand: Hand) -> str:
    """Write a hand, or a set of tiles, in standard notation."""
    return "".join(
        _ranks(counts) + suit for counts, suit in zip(hand, SUITS, strict=True) if any(counts)
    )


def text_to_hand(text: str) -> Hand:
    """Read standard notation; groups and ranks may come in any order.

    Raises:
        ValueError: the text is not standard notation, or a tile is held more than four times.
    """
    rows = [[0] * RANKS[suit] for suit in SUITS]
    if not re.fullmatch(r"(?:[1-9]+[mpsz])+", text):
        raise ValueError(f"{text!r} is not a hand in standard notation, such as 123m456p789s1122z")
    for ranks, suit in _GROUP.findall(text):
        for rank in ranks:
            if int(rank) > RANKS[suit]:
                raise ValueError(f"{text!r}: there is no tile {rank}{suit}")
            rows[SUITS.index(suit)][int(rank) - 1] += 1
    if any(n > 4 for row in rows for n in row):
        raise ValueError(f"{text!r} holds a tile more than four times")
    m, p, s, z = (tuple(row) for row in rows)
    return m, p, s, z


def add(hand: Hand, tile: Tile, n: int = 1) -> Hand:
    """Return the hand with `n` copies of a tile added (removed if negative)."""
    suit, rank = tile
    counts = hand[suit]
    changed = (*counts[: rank - 1], counts[rank - 1] + n, *counts[rank:])
    return (*hand[:suit], changed, *hand[suit + 1 :])  # type: ignore[return-value]


def tiles_to_text(tiles: frozenset[Tile]) -> str:
    """Write a set of tiles in standard notation, "" if it is empty."""
    by_suit = ["", "", "", ""]
    for suit, rank in sorted(tiles):
        by_suit[suit] += str(rank)
    return "".join(ranks + suit for ranks, suit in zip(by_suit, SUITS, strict=True) if ranks)


def canonical(hand: Hand) -> Hand:
    """Return one hand for all that symmetry maps onto each other.

    The symmetries of the rules of completion are: any permutation of the three suits, a mirror
    (1↔9, 2↔8 …) of each suit by itself, and any permutation of the seven honours.
    """
    suits = sorted(min(counts, counts[::-1]) for counts in hand[:3])
    return suits[0], suits[1], suits[2], tuple(sorted(hand[3]))
