"""The reasoning path: every value on the way from a hand to its waits, written out and checked.

A path is long and mechanical rather than short and clever, because a small model learns to write
the next value from the values before it, and little else. Its parts, in order:

1. *Counts.* Per rank of each suit that is held ` 3m:2` (two tiles of rank 3 in suit m), and where
   it changes the running state ` /12ax`: tiles and sum of ranks modulo 3, and whether the hand
   so far could be seven pairs (a: no single tile yet, b: one, x: no) or thirteen orphans (a: none
   is missing, b: one, x: no).
2. *Residues.* ` m/12` behind the counts of a suit: its two residues. Runs and triplets leave both
   at zero, so they tell in which suit the missing tile is, and which ranks the pair can have.
3. *Attempts.* ` +5m-3m`: add a tile 5m, take a pair of 3m (0: neither), then per rank ` 4m=2>1`:
   two tiles of rank 4 are left, and one run starts here, after triplets and the runs that started
   on the two ranks before. ` +5m-3m-6m`: there is no pair of 3m, so 6m is tried; with nothing
   behind it, there is none of 6m either. ` !` is a rank with too few tiles, ` ok` a suit that comes
   out, ` *5m` a wait.
4. *Other shapes.* ` 7:` for seven pairs and ` 13:` for thirteen orphans, with the waits they give.
5. *Answer.* ` =>` and the waits in standard notation.

`derive` writes a path, `path_check.py` verifies one step by step and shares no rule of play with
it: it splits suits by trying both ways (engine.py), where the path goes greedily from the lowest
rank.
"""

from __future__ import annotations

from functools import cache

from stratos.tasks.mahjong.engine import ORPHANS
from stratos.tasks.mahjong.tiles import RANKS, SUITS, Counts, Hand, Tile

ANSWER = " =>"


@cache
def scan(suit: int, counts: Counts) -> tuple[str, bool]:
    """Take melds greedily from the lowest rank; return the steps and whether nothing is left.

    Triplets come first: three runs that start on one rank are three triplets, so at most two runs
    need ever start there.
    """
    steps: list[str] = []
    letter = SUITS[suit]
    before, last = 0, 0
    for rank, n in enumerate(counts, start=1):
        free = n - before - last
        starts = free % 3
        if free < 0 or (starts and (suit == 3 or rank > 7)):
            return "".join(steps) + f" {rank}{letter}={n} !", False
        steps.append(f" {rank}{letter}={n}>{starts}")
        before, last = last, starts
    return "".join(steps), True


@cache
def _suit_state(suit: int, counts: Counts, pairs: str, orphans: str) -> tuple[str, str, str]:
    """Write counts, running state and residues of one suit; return them with the state."""
    text = []
    tiles = total = 0
    for rank, n in enumerate(counts, start=1):
        before = orphans
        tiles, total = (tiles + n) % 3, (total + rank * n) % 3
        if n > 2 or (n == 1 and pairs == "b"):
            pairs = "x"
        elif n == 1 and pairs == "a":
            pairs = "b"
        if (suit, rank) in ORPHANS:
            if n == 0 and orphans != "x":
                orphans = "b" if orphans == "a" else "x"
        elif n:
            orphans = "x"
        text.append(f" {rank}{SUITS[suit]}:{n}")
        if n or rank == 1 or orphans != before:
            text.append(f" /{tiles}{total}{pairs}{orphans}")
    return "".join(text) + f" {SUITS[suit]}/{tiles}{total}", pairs, orphans


@cache
def _attempt(suit: int, counts: Counts, add: int, pair: int) -> tuple[str, bool]:
    """Add a tile, take a pair, and split the rest into melds."""
    rest = list(counts)
    if add:
        rest[add - 1] += 1
    if pair:
        rest[pair - 1] -= 2
    return scan(suit, tuple(rest))


def _try_pairs(suit: int, counts: Counts, add: int) -> tuple[str, bool]:
    """Try every pair that the residue of the ranks' sum allows, until one leaves melds only."""
    letter = SUITS[suit]
    text = [f" +{add}{letter}"]
    fresh = True
    for pair in _pair_ranks(suit, counts, add):
        text.append(f"-{pair}{letter}" if fresh else f" +{add}{letter}-{pair}{letter}")
        fresh = True
        if counts[pair - 1] + (add == pair) >= 2:
            steps, done = _attempt(suit, counts, add, pair)
            text.append(steps)
            if done:
                return "".join(text), True
            fresh = False
    return "".join(text), False


def _pair_ranks(suit: int, counts: Counts, add: int) -> range:
    """Return the ranks that a pair may have: twice its rank is the sum of all ranks modulo 3."""
    if suit == 3:
        return range(1, 8)
    total = sum(rank * n for rank, n in enumerate(counts, start=1)) + add
    return range((2 * total) % 3 or 3, 10, 3)


@cache
def _only_melds(suit: int, counts: Counts) -> tuple[str, bool]:
    steps, done = _attempt(suit, counts, 0, 0)
    return f" +0{SUITS[suit]}-0{SUITS[suit]}{steps}" + (" ok" if done else ""), done


@cache
def _with_pair(suit: int, counts: Counts) -> tuple[str, bool]:
    """Find a pair that leaves melds only."""
    text, done = _try_pairs(suit, counts, 0)
    return text + (" ok" if done else ""), done


@cache
def _tiles(suit: int, counts: Counts, with_pair: bool) -> tuple[str, tuple[int, ...]]:
    """Find the tiles that leave melds and a pair, or melds only.

    Without a pair the residue of the ranks' sum leaves three ranks to try. A lone honour completes
    nothing, and there is no fifth tile of a kind.
    """
    letter = SUITS[suit]
    ranks = range(1, RANKS[letter] + 1)
    if not with_pair and suit != 3:
        total = sum(rank * n for rank, n in enumerate(counts, start=1))
        ranks = range((-total) % 3 or 3, 10, 3)
    text, tiles = [], []
    for rank in ranks:
        if counts[rank - 1] == 4 or (suit == 3 and not counts[rank - 1]):
            text.append(f" +{rank}{letter}")
            continue
        if with_pair:
            steps, done = _try_pairs(suit, counts, rank)
        else:
            steps, done = _attempt(suit, counts, rank, 0)
            steps = f" +{rank}{letter}-0{letter}{steps}"
        text.append(steps)
        if done:
            text.append(f" *{rank}{letter}")
            tiles.append(rank)
    return "".join(text), tuple(tiles)


def _standard(hand: Hand) -> tuple[str, list[Tile]]:
    """Write the attempts at four melds and a pair; return them with the waits found."""
    sizes = [sum(counts) % 3 for counts in hand]
    open_suits = [suit for suit in range(4) if sizes[suit]]
    text: list[str] = []
    if [sizes[suit] for suit in open_suits] not in ([1], [2, 2]):
        return "", []
    for suit in range(4):
        if not sizes[suit] and any(hand[suit]):
            step, done = _only_melds(suit, hand[suit])
            text.append(step)
            if not done:
                return "".join(text), []
    if len(open_suits) == 1:
        suit = open_suits[0]
        step, ranks = _tiles(suit, hand[suit], True)
        return "".join(text) + step, [(suit, rank) for rank in ranks]
    tiles: list[Tile] = []
    for suit, pair_suit in (open_suits[::-1], open_suits):
        step, done = _with_pair(pair_suit, hand[pair_suit])
        text.append(step)
        if done:
            step, ranks = _tiles(suit, hand[suit], False)
            text.append(step)
            tiles += [(suit, rank) for rank in ranks]
    return "".join(text), tiles


def derive(hand: Hand) -> tuple[str, frozenset[Tile]]:
    """Write the path of a hand of 13 tiles, up to the answer; return it with the waits."""
    pairs = orphans = "a"
    counts_text = []
    for suit in range(4):
        if any(hand[suit]):
            text, pairs, orphans = _suit_state(suit, hand[suit], pairs, orphans)
            counts_text.append(text)
        else:
            orphans = "x"
    steps, tiles = _standard(hand)
    tail = ""
    if pairs == "b":
        suit, rank = next((s, c.index(1) + 1) for s, c in enumerate(hand) if 1 in c)
        tail += f" 7: *{rank}{SUITS[suit]}"
        tiles.append((suit, rank))
    if orphans != "x":
        missing = [tile for tile in sorted(ORPHANS) if not hand[tile[0]][tile[1] - 1]]
        new = missing or sorted(ORPHANS)
        tail += " 13:" + "".join(f" *{rank}{SUITS[suit]}" for suit, rank in new)
        tiles += new
    answer = frozenset(tiles)
    return "".join(counts_text) + steps + tail, answer
