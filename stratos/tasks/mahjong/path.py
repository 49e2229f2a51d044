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

`derive` writes a path. `check` verifies one step by step and shares no rule of play with it: each
written value is computed anew from the hand, and each verdict (a suit comes out, or does not) is
compared with the engine, which splits suits by trying both ways, where the path goes greedily from
the lowest rank.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import pairwise

from stratos.tasks.base import Symbols
from stratos.tasks.mahjong.engine import (
    ORPHANS,
    RANKS,
    SUITS,
    Counts,
    Fault,
    Hand,
    Tile,
    WrongPath,
    is_melds,
    orphans_waits,
    seven_pairs_waits,
    tiles_to_text,
    waits,
)

ANSWER = " =>"
# Each suit letter ends a line, so that a line is digits behind anything else, and their suit. A
# text that is longer than any context is left to the tokenizer: a template is slow.
_MACRO = r"""
{%- macro symbols(text) -%}
{%- if text|length > 9999 -%}{{ text }}
{%- else -%}
{%- for line in text.split('\n') -%}
{%- if not loop.first -%}{{ '\n' }}{%- endif -%}
{%- set ended = line.replace('m', 'm\n').replace('p', 'p\n') -%}
{%- set ended = ended.replace('s', 's\n').replace('z', 'z\n') -%}
{%- for part in ended.split('\n') -%}
{%- if loop.last -%}{{ part }}
{%- else -%}
{%- set suit = part[-1:] -%}
{%- set digits = part[:-1] -%}
{%- set run = namespace(start=0, is_open=true) -%}
{%- if digits|int|string != digits or '0' in digits or '-' in digits -%}
{%- set run.start = part|length - 1 -%}
{%- for i in range(part|length - 1) -%}
{%- set at = part|length - 2 - i -%}
{%- if run.is_open and part[at] in '123456789' -%}{%- set run.start = at -%}
{%- else -%}{%- set run.is_open = false -%}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- part[:run.start] -}}
{%- set ranks = part[run.start:-1] -%}
{%- for i in range(ranks|length) -%}
{%- if i and ranks[i] != ranks[i - 1] -%}{{ suit }}{%- endif -%}
{{- ranks[i] -}}
{%- endfor -%}
{{- suit -}}
{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""


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


_COUNT = re.compile(r" (\d)([mpsz]):(\d)(?: /(\d)(\d)([abx])([abx]))?")
_COUNTS = tuple(re.compile(rf"(?: \d{suit}:\d(?: /\d\d[abx]{{2}})?)*") for suit in SUITS)
_ATTEMPT = re.compile(r"(?= \+)")
_HEAD = re.compile(r" \+(\d)([mpsz])((?:-\d\2)*)")
_STEP = re.compile(r" (\d)([mpsz])=(\d+)(?:>(\d))?")
_WAIT = re.compile(r" \*(\d)([mpsz])")


def check(hand: Hand, path: str) -> WrongPath | None:
    """Return the first thing that is wrong with a path, or None."""
    body, separator, answer = path.rpartition(ANSWER)
    if not separator:
        return WrongPath(Fault.NO_ANSWER)
    expected = waits(hand)
    if answer.strip() != tiles_to_text(expected):
        return WrongPath(Fault.WAITS, answer.strip(), tiles_to_text(expected))
    wrong, end = _check_counts(hand, body)
    if wrong:
        return wrong
    steps, shapes = body[end:], ""
    for marker in (" 13:", " 7:"):
        steps, found_marker, shape = steps.partition(marker)
        shapes = found_marker + shape + shapes
    claimed: set[Tile] = set()
    last = (-1, 0, 0)
    for segment in filter(None, _ATTEMPT.split(steps)):
        head = _HEAD.match(segment)
        if not head:
            return WrongPath(Fault.NO_ATTEMPT, segment)
        here = (SUITS.index(head[2]), int(head[1]), int(head[3][-2:-1] or 0))
        if here[0] == last[0] and here[1] and here <= last:
            return WrongPath(Fault.OUT_OF_ORDER, segment)
        last = here
        wrong, tile = _check_attempt(here[0], hand[here[0]], segment)
        if wrong:
            return wrong
        if tile:
            claimed.add((here[0], tile))
    wrong = _check_shapes(hand, shapes)
    if wrong:
        return wrong
    claimed |= {(SUITS.index(suit), int(rank)) for rank, suit in _WAIT.findall(shapes)}
    if claimed == expected:
        return None
    return WrongPath(Fault.OTHER_WAITS, tiles_to_text(frozenset(claimed)))


@lru_cache(maxsize=1 << 16)
def _check_suit_counts(
    suit: int, counts: Counts, singles: int, many: bool, missing: int, text: str
) -> tuple[WrongPath | None, int, bool, int]:
    """Check the counts of one suit; carry the number of singles, triplets and missing orphans."""
    rows = _COUNT.findall(text)
    if len(rows) != len(counts):
        return WrongPath(Fault.COUNTS, text, SUITS[suit]), 0, False, 0
    state = ("", "", "", "")
    for index, (rank, letter, n, *written) in enumerate(rows):
        counts_so_far = counts[: index + 1]
        singles += counts_so_far[-1] == 1
        many |= counts_so_far[-1] > 2
        if (suit, index + 1) in ORPHANS:
            missing += counts_so_far[-1] == 0
        elif counts_so_far[-1]:
            missing = 99
        before, state = (
            state,
            (
                str(sum(counts_so_far) % 3),
                str(sum((i + 1) * c for i, c in enumerate(counts_so_far)) % 3),
                "x" if many or singles > 1 else "ab"[singles],
                "x" if missing > 1 else "ab"[missing],
            ),
        )
        if (int(rank), letter, int(n)) != (index + 1, SUITS[suit], counts_so_far[-1]):
            return WrongPath(Fault.COUNT, f"{rank}{letter}:{n}"), 0, False, 0
        if tuple(written) != state and (any(written) or state != before):
            return WrongPath(Fault.STATE, "".join(written), f"{rank}{letter}"), 0, False, 0
    return None, singles, many, missing


def _check_counts(hand: Hand, body: str) -> tuple[WrongPath | None, int]:
    """Check counts and residues; return what is wrong and where the attempts begin."""
    singles, many, missing, at = 0, False, 0, 0
    for suit, counts in enumerate(hand):
        if not any(counts):
            missing = 99
            continue
        text = _COUNTS[suit].match(body, at)[0]  # type: ignore[index]
        wrong, singles, many, missing = _check_suit_counts(
            suit, counts, singles, many, missing, text
        )
        if wrong:
            return wrong, 0
        at += len(text)
        total = sum((i + 1) * n for i, n in enumerate(counts))
        residues = f" {SUITS[suit]}/{sum(counts) % 3}{total % 3}"
        if not body.startswith(residues, at):
            return WrongPath(Fault.RESIDUES, body[at : at + len(residues)]), 0
        at += len(residues)
    return None, at


@lru_cache(maxsize=1 << 18)
def _check_attempt(suit: int, counts: Counts, segment: str) -> tuple[WrongPath | None, int]:
    """Check one attempt; return what is wrong and the rank of the wait that it found (0: none)."""
    head = _HEAD.match(segment)
    assert head is not None
    tile, rest = int(head[1]), segment[head.end() :]
    pairs = [int(pair) for pair in head[3][1::3]]
    remaining = list(counts)
    if max(tile, *pairs, 0) > len(remaining):
        return WrongPath(Fault.RANK, segment), 0
    total = sum((i + 1) * n for i, n in enumerate(counts)) + tile
    if suit < 3 and (tile or any(pairs)) and any((total - 2 * pair) % 3 for pair in pairs):
        return WrongPath(Fault.RESIDUE, segment), 0
    if any(before >= after or not before for before, after in pairwise(pairs)):
        return WrongPath(Fault.OUT_OF_ORDER, segment), 0
    if tile:
        remaining[tile - 1] += 1
    if not pairs:
        useless = tile and (remaining[tile - 1] > 4 or (suit == 3 and remaining[tile - 1] == 1))
        return None if useless and not rest else WrongPath(Fault.NOT_FORBIDDEN, segment), 0
    pair_rank = pairs[-1] if rest else 0
    if any(pair and remaining[pair - 1] >= 2 for pair in (pairs[:-1] if rest else pairs)):
        return WrongPath(Fault.PASSED_OVER, segment), 0
    if not rest:
        return None, 0
    if pair_rank:
        remaining[pair_rank - 1] -= 2
    if min(remaining) < 0 or max(remaining) > 4:
        return WrongPath(Fault.MISSING_TILES, segment), 0
    steps = list(_STEP.finditer(rest))
    starts = [0, 0]
    for index, step in enumerate(steps):
        if (int(step[1]), step[2], int(step[3])) != (index + 1, SUITS[suit], remaining[index]):
            return WrongPath(Fault.STEP, segment, step[0]), 0
        free = remaining[index] - starts[-1] - starts[-2]
        if step[4] and (free - int(step[4]) not in (0, 3) or int(step[4]) > 2):
            return WrongPath(Fault.MELD, segment, step[0]), 0
        starts.append(int(step[4] or 0))
    end = rest[steps[-1].end() :] if steps else rest
    comes_out = is_melds(tuple(remaining))
    if end == " !":
        return WrongPath(Fault.COMES_OUT, segment) if comes_out else None, 0
    if end != (f" *{tile}{SUITS[suit]}" if tile else " ok") or len(steps) != len(counts):
        return WrongPath(Fault.NO_VERDICT, segment), 0
    return None if comes_out else WrongPath(Fault.NEVER_OUT, segment), tile


def _check_shapes(hand: Hand, text: str) -> WrongPath | None:
    right = ""
    for marker, tiles in ((" 7:", seven_pairs_waits(hand)), (" 13:", orphans_waits(hand))):
        if tiles:
            right += marker + "".join(f" *{rank}{SUITS[suit]}" for suit, rank in sorted(tiles))
    return None if text == right else WrongPath(Fault.SHAPES, text, right)


@lru_cache(maxsize=1)
def symbols() -> Symbols:
    """Return the vocabulary of a student's own tokenizer, its splitting pattern and rewrites.

    Equal tiles are one symbol (`333p`), so that a count is read and not reckoned, and every symbol
    of a path names its suit, so that the value a step needs is found by its name alone.
    """
    tiles = [(suit, rank) for suit in SUITS for rank in range(1, RANKS[suit] + 1)]
    words = [str(rank) * n + suit for suit, rank in tiles for n in range(1, 5)]
    words += [f" {rank}{suit}{mark}{n}" for mark in ":=" for suit, rank in tiles for n in range(5)]
    words += [f" *{rank}{suit}" for suit, rank in tiles]
    words += [f" {suit}/{tiles}{total}" for suit in SUITS for tiles in "012" for total in "012"]
    words += [
        f" /{tiles}{total}{pairs}{orphans}"
        for tiles in "012"
        for total in "012"
        for pairs in "abx"
        for orphans in "abx"
    ]
    words += [
        f"{sign}{rank}{suit}"
        for sign in (" +", "-")
        for suit in SUITS
        for rank in range(RANKS[suit] + 1)
    ]
    words += [f">{starts}" for starts in range(3)]
    words += [" !", " ok", " 7:", " 13:", " =>", " "]
    return Symbols(
        vocabulary=tuple(words),
        pattern=(
            r" [1-9][mpsz][:=][0-4]| \*[1-9][mpsz]| [mpsz]/[0-2]{2}| /[0-2]{2}[abx]{2}"
            r"| \+[0-9][mpsz]|-[0-9][mpsz]|>[0-2]| !| ok| 13:| 7:| =>|"
            + "|".join(f"{rank}{{1,4}}[mpsz]" for rank in range(1, 10))
            + "| "
        ),
        rewrites=tuple(
            (f"{rank}(?=[{'123456789'.replace(str(rank), '')}][1-9]*{suit})", f"{rank}{suit}")
            for suit in SUITS
            for rank in range(1, 10)
        ),
        macro=_MACRO.lstrip(),
    )
