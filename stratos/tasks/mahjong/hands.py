"""Generate hands of the two slices, split by canonical form.

The split is a hash of the canonical hand, so it is fixed before anything is generated, and two
hands that a symmetry maps onto each other always fall into the same one.
"""

from __future__ import annotations

import hashlib
import operator
import random
from functools import cache
from itertools import combinations

from stratos.tasks.base import Split
from stratos.tasks.mahjong.engine import ORPHANS, all_tiles
from stratos.tasks.mahjong.tiles import EMPTY, Counts, Hand, Tile, add, canonical

SHARES: dict[Split, float] = {"train": 0.48, "validation": 0.12, "test": 0.40}
"""Share of the classes of hands in each split; of full flush less than half is trained on."""

P_RUN = 0.7
P_SEVEN_PAIRS = 0.05
P_ORPHANS = 0.05


def hand_id(hand: Hand) -> str:
    """Return the content hash of a hand's canonical form."""
    text = "|".join("".join(map(str, counts)) for counts in canonical(hand))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def split_of(item_id: str) -> Split:
    """Return the split that a hand with this id belongs to."""
    share = int(item_id[:8], 16) / 2**32
    if share < SHARES["train"]:
        return "train"
    return "validation" if share < SHARES["train"] + SHARES["validation"] else "test"


@cache
def flush_classes() -> tuple[Counts, ...]:
    """Return every ready 13-tile hand of one suit, one of each mirror pair: 20,128 of them.

    They are the complete hands of the suit, each without one of its tiles.
    """
    triplets = [_counts(rank, rank, rank) for rank in range(9)]
    runs = [_counts(rank, rank + 1, rank + 2) for rank in range(7)]
    complete: set[Counts] = {_counts()}
    for parts in (*[triplets + runs] * 4, [_counts(rank, rank) for rank in range(9)]):
        complete = {
            both
            for counts in complete
            for part in parts
            if max(both := tuple(map(operator.add, counts, part))) <= 4
        }
    for absent in combinations(range(9), 2):
        complete.add(tuple(0 if rank in absent else 2 for rank in range(9)))
    ready = {
        (*counts[:rank], n - 1, *counts[rank + 1 :])
        for counts in complete
        for rank, n in enumerate(counts)
        if n
    }
    return tuple(sorted(counts for counts in ready if counts <= counts[::-1]))


def _counts(*ranks: int) -> Counts:
    """Return how many tiles of one suit there are of each rank, from 0 on."""
    return tuple(map(ranks.count, range(9)))


@cache
def flush_split(split: Split) -> tuple[Counts, ...]:
    """Return the classes of full flush of one split."""
    return tuple(c for c in flush_classes() if split_of(hand_id((c, *EMPTY[1:]))) == split)


def flush_hand(counts: Counts, suit: int, mirrored: bool) -> Hand:
    """Return a class of full flush as a hand of one suit."""
    rows = list(EMPTY)
    rows[suit] = counts[::-1] if mirrored else counts
    m, p, s, z = rows
    return m, p, s, z


def winning_hand(rng: random.Random, p_seven_pairs: float = P_SEVEN_PAIRS) -> Hand:
    """Return a random winning hand of 14 tiles over all four suits.

    Seven pairs (unless told otherwise) and thirteen orphans come with 5% each, else four melds, a
    run with 70% and a triplet with 30% each, and a pair; drawn again where a tile would be held
    more than four times, or all are of one number suit: those are the other slice.
    """
    draw = rng.random()
    if draw < p_seven_pairs:
        tiles = rng.sample(all_tiles(), 7) * 2
    elif draw < p_seven_pairs + P_ORPHANS:
        tiles = [*sorted(ORPHANS), rng.choice(sorted(ORPHANS))]
    else:
        while True:
            tiles = _melds_and_pair(rng)
            suits = {suit for suit, _ in tiles}
            if (len(suits) > 1 or 3 in suits) and all(tiles.count(t) <= 4 for t in set(tiles)):
                break
    rows = [[0] * len(counts) for counts in EMPTY]
    for suit, rank in tiles:
        rows[suit][rank - 1] += 1
    m, p, s, z = (tuple(row) for row in rows)
    return m, p, s, z


def _melds_and_pair(rng: random.Random) -> list[Tile]:
    kinds = all_tiles()
    tiles: list[Tile] = []
    for _ in range(4):
        if rng.random() < P_RUN:
            suit, rank = rng.randrange(3), rng.randrange(1, 8)
            tiles += [(suit, rank), (suit, rank + 1), (suit, rank + 2)]
        else:
            tiles += [rng.choice(kinds)] * 3
    return tiles + [rng.choice(kinds)] * 2


def remove_random(hand: Hand, rng: random.Random) -> tuple[Hand, Tile]:
    """Take one of the 14 tiles away: the question is what is left, the tile part of the answer."""
    tiles = [
        (s, i + 1) for s, counts in enumerate(hand) for i, n in enumerate(counts) for _ in range(n)
    ]
    tile = rng.choice(tiles)
    return add(hand, tile, -1), tile
