"""Tiles, hands and their notation; which tiles complete a hand; and how hands are drawn.

A hand is four tuples of counts, one a suit: characters (m), circles (p) and bamboo (s) with nine
ranks each, honours (z) with seven: east, south, west, north, white, green, red. In text it is the
standard notation, `123m456p789s1122z`: ranks in ascending order, then the suit's letter.

A complete hand has 14 tiles: four melds (a run of three ranks, or a triplet) and a pair; or seven
different pairs; or the thirteen orphans (each terminal and honour, one of them twice). What
completes a suit is memoised. The tests hold this engine against the PyPI package `mahjong`.

The split of a hand is a hash of its canonical form, so it is fixed before anything is drawn, and
two hands that a symmetry maps onto each other always fall into the same one.
"""

from __future__ import annotations

import hashlib
import operator
import random
import re
from enum import Enum
from functools import cache
from itertools import combinations

from stratos.core.reasons import Reason
from stratos.tasks.base import Split

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


class NoHand(Reason):
    """A question is no hand of tiles."""

    problem: str

    def __str__(self) -> str:
        return self.problem


class OtherTileCount(Reason):
    """A hand has more or fewer tiles than it should."""

    hand: str
    n_tiles: int
    """That it should have."""

    says = "{hand} has not {n_tiles} tiles"


class BreaksRules(Reason):
    """An answer is none by the rules."""

    says = "it breaks the rules"


class Fault(Enum):
    """What is wrong with a path, worded with what it says (`text`) and what is right (`right`)."""

    NO_ANSWER = "no answer"
    WAITS = "answers {text}, the waits are {right}"
    NO_ATTEMPT = "no attempt: {text!r}"
    OUT_OF_ORDER = "out of order: {text!r}"
    OTHER_WAITS = "the path finds {text}"
    COUNTS = "counts of {right} are not complete: {text!r}"
    COUNT = "wrong count {text}"
    STATE = "wrong state /{text} at {right}"
    RESIDUES = "wrong residues: {text!r}"
    RANK = "there is no such rank: {text!r}"
    RESIDUE = "the residue forbids {text!r}"
    NOT_FORBIDDEN = "nothing forbids {text!r}"
    PASSED_OVER = "a pair was passed over: {text!r}"
    MISSING_TILES = "{text!r} takes tiles that are not there"
    STEP = "wrong step {right!r} in {text!r}"
    MELD = "wrong meld {right!r} in {text!r}"
    COMES_OUT = "{text!r} comes out after all"
    NO_VERDICT = "no verdict in {text!r}"
    NEVER_OUT = "{text!r} does not come out"
    SHAPES = "other shapes: {text!r}, not {right!r}"
    NO_PATH = "no path: {text!r}"
    KINDS = "it does not try every kind of tile, each once and in order"
    OTHER_TILES = "{text!r} leaves other tiles"
    SUM = "{text!r} adds up to {right}"
    BEST = "answers {text}, the best are {right}"


class WrongPath(Reason):
    """A step of a path, or its answer, is wrong."""

    fault: Fault
    text: str = ""
    """What the path says there."""
    right: str = ""
    """What is right, or the place within the text."""

    def __str__(self) -> str:
        return self.fault.value.format(text=self.text, right=self.right)
