"""Check a reasoning path step by step against the hand it is about.

Each written value is computed anew from the hand, and each verdict (a suit comes out, or does not)
is compared with the engine, which splits suits by trying both ways: no rule is shared with
`path.derive`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from stratos.tasks.mahjong.engine import (
    ORPHANS,
    is_melds,
    orphans_waits,
    seven_pairs_waits,
    waits,
)
from stratos.tasks.mahjong.path import ANSWER
from stratos.tasks.mahjong.tiles import SUITS, Counts, Hand, Tile, tiles_to_text
from stratos.tasks.mahjong.words import Fault, WrongPath

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
