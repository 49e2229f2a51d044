"""A harder Mahjong task: which discard leaves the most tiles that help?

A hand of 14 tiles is one tile too many. Each discard that makes it ready leaves some kinds of tile
that complete it, of each of which there are four in the game less those that are held. The answer
is every discard that leaves the most; a hand is asked only if two different discards make it ready.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from typing_extensions import override

from stratos.core.reasons import Reason
from stratos.tasks.base import Item, Message, Split, Symbols
from stratos.tasks.mahjong import engine, prompts
from stratos.tasks.mahjong.engine import (
    RANKS,
    SUITS,
    Fault,
    Hand,
    NoHand,
    OtherTileCount,
    Tile,
    WrongPath,
    add,
    all_tiles,
    hand_to_text,
    text_to_hand,
    tiles_to_text,
    waits,
)
from stratos.tasks.mahjong.path import ANSWER, symbols
from stratos.tasks.mahjong.prompts import NOTATION, RULES, Prompt
from stratos.tasks.mahjong.task import MahjongTask

_TASK = (
    "A Mahjong hand has 14 tiles, one too many. Discard the tile that leaves the most tiles in the "
    "game that complete the other 13; if several leave equally many, name them all."
)
_PROMPTS: dict[str, Prompt] = {
    "default": Prompt(f"{_TASK} {NOTATION} Answer with the tiles only.", "Hand: {question}", 4),
    "rules": Prompt(
        f"{_TASK} {NOTATION} {RULES} Answer with the tiles only.", "Hand: {question}", 3
    ),
    "bare": Prompt("", "{question}", 4),
    "worked": Prompt(
        f"{_TASK} {NOTATION} {RULES} For each discard write the tiles that then complete the hand, "
        "how many of each are left and their sum, such as '-3m 5m:4 8m:2 =6'; then the best "
        "discards behind '=>'.",
        "Hand: {question}",
        2,
        "{worked}",
        wants_reasoning=True,
    ),
    "reasoning": Prompt(
        f"{_TASK} {NOTATION} {RULES} Think step by step, then end with a line '=> ' and the tiles.",
        "Hand: {question}",
        0,
        wants_reasoning=True,
    ),
}
_CHOICE = f"{_TASK} {NOTATION} Answer with one letter."
_STEP = re.compile(r" -(\d)([mpsz])((?: \d[mpsz]:\d)*)(?: =(\d+))?")
_LEFT = re.compile(r" (\d)([mpsz]):(\d)")


def tiles_left(hand: Hand, discard: Tile) -> dict[Tile, int]:
    """Return each tile that completes a hand of 14 after a discard, with how many are left.

    Those in one's own 14 are seen, the discarded one among them.
    """
    return {
        (suit, rank): 4 - hand[suit][rank - 1]
        for suit, rank in sorted(waits(add(hand, discard, -1)))
    }


def held_kinds(hand: Hand) -> list[Tile]:
    """Return each kind of tile in a hand once, in order."""
    return [(s, i + 1) for s, counts in enumerate(hand) for i, n in enumerate(counts) if n]


def discards(hand: Hand) -> dict[Tile, dict[Tile, int]]:
    """Return for each kind of tile in a hand what its discard leaves; {} where it is not ready."""
    return {tile: tiles_left(hand, tile) for tile in held_kinds(hand)}


def derive(hand: Hand) -> tuple[str, frozenset[Tile]]:
    """Write the path of a hand of 14 tiles; return it with the best discards.

    ` -3m 5m:4 8m:2 =6` discards 3m: 5m and 8m complete what is left, of which four and two are
    left, six together. ` -4m` alone leaves a hand that nothing completes.
    """
    text = []
    totals: dict[Tile, int] = {}
    for (suit, rank), waits_left in discards(hand).items():
        text.append(f" -{rank}{SUITS[suit]}")
        if waits_left:
            text += [f" {r}{SUITS[s]}:{n}" for (s, r), n in waits_left.items()]
            totals[suit, rank] = sum(waits_left.values())
            text.append(f" ={totals[suit, rank]}")
    most = max(totals.values(), default=0)
    return "".join(text), frozenset(tile for tile, total in totals.items() if total == most > 0)


@dataclass(frozen=True)
class DiscardTask(MahjongTask):
    """The discard that leaves the most tiles that help."""

    name: str = "mahjong_discard"
    """Name shown in tables and written into records."""
    prompts: tuple[str, ...] = field(default=tuple(_PROMPTS))
    """Prompts that a teacher is tried with."""

    # --- items -----------------------------------------------------------------------------------

    @override
    def items_of(self, split: Split, name: str, seed: int) -> Iterator[Item]:
        rng = self._rng(f"discard {name}", split, seed)
        seen: set[str] = set()
        while True:
            hand = self._draw(rng, name)
            family = engine.hand_id(hand)
            if engine.split_of(family) == split and family not in seen:
                seen.add(family)
                yield self._discard_item(hand, name)

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield `n` training items, answer first: a ready hand, and the tile that it drew."""
        return map(self.made_of, self.drafts(n, seed))

    def drafts(self, n: int, seed: int = 0) -> Iterator[Any]:
        """Draw the hands of `reverse`, each with its slice."""
        rng = random.Random(f"reverse discard {seed}")
        for _ in range(n):
            name = "full_flush" if rng.random() < self.full_flush_share else "general"
            while True:
                hand = self._draw(rng, name)
                if engine.split_of(engine.hand_id(hand)) == "train":
                    break
            yield hand, name

    def made_of(self, draft: Any) -> Item:
        """Make the item of a draft: which discards there are, and where each leads."""
        hand, name = draft
        return self._discard_item(hand, name, *derive(hand))

    def _draw(self, rng: random.Random, name: str) -> Hand:
        """Draw a hand of 14 that is not complete and that two different discards make ready."""
        while True:
            if name == "full_flush":
                suit = rng.randrange(3)
                counts = rng.choice(engine.flush_classes())
                ready = engine.flush_hand(counts, suit, rng.random() < 0.5)
                kinds = [(suit, rank) for rank in range(1, 10)]
            else:
                winning = engine.winning_hand(rng, self.seven_pairs_share)
                ready, _ = engine.remove_random(winning, rng)
                kinds = all_tiles()
            tile = rng.choice([(s, r) for s, r in kinds if ready[s][r - 1] < 4])
            if tile in waits(ready):
                continue
            hand = add(ready, tile)
            if sum(any(waits_left.values()) for waits_left in discards(hand).values()) > 1:
                return hand

    def _discard_item(
        self, hand: Hand, name: str, rationale: str = "", best: frozenset[Tile] | None = None
    ) -> Item:
        question = hand_to_text(hand)
        best = derive(hand)[1] if best is None else best
        return Item(
            id=hashlib.blake2b(question.encode(), digest_size=8).hexdigest(),
            slice=name,
            question=question,
            answer=tiles_to_text(best),
            choices=() if rationale else _choices(hand, question, best),
            rationale=rationale,
            family=engine.hand_id(hand),
        )

    # --- what a teacher and a student are asked --------------------------------------------------

    @property
    @override
    def forms(self) -> dict[str, Prompt]:
        return _PROMPTS

    @override
    def worked(self, item: Item) -> str:
        return self.completion(item).lstrip()

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the few-shot chat that asks for one letter."""
        return prompts.choice_chat(self._examples, item, _CHOICE)

    def completion(self, item: Item) -> str:
        """Return the path through every discard, and the answer."""
        rationale = item.rationale or derive(text_to_hand(item.question))[0]
        return f"{rationale}{ANSWER} {item.answer}"

    def vocabulary(self) -> Symbols:
        """Return the symbols of hands and paths."""
        return _symbols()

    def typed(self, question: str) -> Item | None:
        """Return the item of a hand that somebody typed; None if no discard makes it ready."""
        try:
            hand = text_to_hand("".join(question.split()))
        except ValueError:
            return None
        if sum(map(sum, hand)) != 14 or not any(discards(hand).values()):
            return None
        suits = sum(any(counts) for counts in hand)
        is_flush = suits == 1 and not any(hand[3])
        return self._discard_item(hand, "full_flush" if is_flush else "general")

    def verify(self, item: Item) -> Reason | None:
        """Check every discard of a path, its tiles and its sum, and the answer."""
        try:
            hand = text_to_hand(item.question)
        except ValueError as error:
            return NoHand(str(error))
        if sum(map(sum, hand)) != 14:
            return OtherTileCount(item.question, 14)
        steps = list(_STEP.finditer(item.rationale))
        if "".join(step[0] for step in steps) != item.rationale:
            return WrongPath(Fault.NO_PATH, item.rationale)
        tried = [(SUITS.index(step[2]), int(step[1])) for step in steps]
        if tried != held_kinds(hand):
            return WrongPath(Fault.KINDS)
        totals: dict[Tile, int] = {}
        for step, tile in zip(steps, tried, strict=True):
            written = {(SUITS.index(s), int(r)): int(n) for r, s, n in _LEFT.findall(step[3])}
            if written != tiles_left(hand, tile):
                return WrongPath(Fault.OTHER_TILES, step[0])
            totals[tile] = sum(written.values())
            if (int(step[4]) if step[4] else 0) != totals[tile]:
                return WrongPath(Fault.SUM, step[0], str(totals[tile]))
        most = max(totals.values())
        best = tiles_to_text(frozenset(tile for tile, n in totals.items() if n == most and n))
        return None if item.answer == best else WrongPath(Fault.BEST, item.answer, best)


def _choices(hand: Hand, question: str, gold: frozenset[Tile]) -> tuple[str, ...]:
    """Return four sets of discards, one of them gold, in an order fixed by the question."""
    seed = hashlib.blake2b(question.encode(), digest_size=8, person=b"discards").digest()
    rng = random.Random(seed)
    kinds = held_kinds(hand)
    options = {gold}
    while len(options) < 4:
        size = len(gold) if rng.random() < 0.8 else rng.choice((1, 2))
        options.add(frozenset(rng.sample(kinds, size)))
    texts = [tiles_to_text(option) for option in sorted(options, key=sorted)]
    rng.shuffle(texts)
    return tuple(texts)


@lru_cache(maxsize=1)
def _symbols() -> Symbols:
    """Return the vocabulary: hands as in the other task, discards, tiles left, and sums."""
    base = symbols()
    tiles = [f"{rank}{suit}" for suit in SUITS for rank in range(1, RANKS[suit] + 1)]
    held_tiles = [f"{tile[0] * n}{tile[1]}" for tile in tiles for n in range(1, 5)]
    words = [*held_tiles, *(f" -{tile}" for tile in tiles)]
    words += [f" {tile}:{n}" for tile in tiles for n in range(5)]
    words += [*(f" ={n}" for n in range(61)), ANSWER, " "]
    pattern = (
        r" -[1-9][mpsz]| [1-9][mpsz]:[0-4]| =>| =\d+|"
        + "|".join(f"{rank}{{1,4}}[mpsz]" for rank in range(1, 10))
        + "| "
    )
    return Symbols(tuple(words), pattern, base.rewrites, base.macro)
