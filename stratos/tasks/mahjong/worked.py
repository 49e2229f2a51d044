"""A worked answer as a person would write it: each tile that completes a hand, and how.

`2z: 123m 456p 789s 11z 222z` says that with 2z the hand is these four melds and a pair. It is what
a teacher sees in the prompt `worked`; the path that a student learns is longer and mechanical
(`path.py`).
"""

from __future__ import annotations

from functools import cache

from stratos.tasks.mahjong.engine import ORPHANS, seven_pairs_waits, standard_waits, waits
from stratos.tasks.mahjong.tiles import SUITS, Counts, Hand, Tile, add, tiles_to_text


def worked(hand: Hand) -> str:
    """Return a line for each tile that completes a hand of 13 tiles, then the answer."""
    tiles = waits(hand)
    lines = [f"{rank}{SUITS[suit]}: {_split(hand, (suit, rank))}" for suit, rank in sorted(tiles)]
    return "\n".join([*lines, f"=> {tiles_to_text(tiles)}"])


def _split(hand: Hand, tile: Tile) -> str:
    """Return how a hand is complete with a tile that completes it."""
    whole = add(hand, tile)
    if tile in standard_waits(hand):
        return " ".join(_melds_and_pair(whole))
    if tile in seven_pairs_waits(hand):
        pairs = [(s, i + 1) for s, counts in enumerate(whole) for i, n in enumerate(counts) if n]
        return " ".join(f"{rank}{rank}{SUITS[suit]}" for suit, rank in pairs)
    ranks = [
        "".join(str(rank) * whole[s][rank - 1] for of, rank in sorted(ORPHANS) if of == s)
        for s in range(4)
    ]
    return " ".join(f"{ranks_}{suit}" for ranks_, suit in zip(ranks, SUITS, strict=True))


def _melds_and_pair(hand: Hand) -> list[str]:
    """Return the groups of a complete hand, suit by suit; the one with the pair has two over."""
    groups = []
    for suit, counts in enumerate(hand):
        melds = _groups(counts, sum(counts) % 3 == 2)
        assert melds is not None, "a wait completes the hand"
        groups += [f"{ranks}{SUITS[suit]}" for ranks in melds]
    return groups


@cache
def _groups(counts: Counts, with_pair: bool) -> tuple[str, ...] | None:
    """Return a suit's melds, and its pair where it has one, from the lowest rank; None if none."""
    first = next((i for i, n in enumerate(counts) if n), None)
    if first is None:
        return None if with_pair else ()
    melds: list[tuple[int, ...]] = [(first,) * 3]
    if len(counts) == 9 and first <= 6:
        melds.append((first, first + 1, first + 2))
    if with_pair:
        melds.append((first,) * 2)
    for way in melds:
        rest = list(counts)
        for index in way:
            rest[index] -= 1
        if min(rest) >= 0:
            further = _groups(tuple(rest), with_pair and len(way) == 3)
            if further is not None:
                return ("".join(str(index + 1) for index in way), *further)
    return None
