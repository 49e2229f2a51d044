"""The Mahjong task: which tiles complete this hand?"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import permutations, product

from stratos.core.reasons import Reason
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Item, Message, Score, Split, Symbols, Task
from stratos.tasks.mahjong import engine, path, prompts
from stratos.tasks.mahjong.engine import (
    ORPHANS,
    SUITS,
    BreaksRules,
    Counts,
    Hand,
    NoHand,
    OtherTileCount,
    Tile,
    add,
    hand_to_text,
    seven_pairs_waits,
    standard_waits,
    text_to_hand,
    tiles_to_text,
    waits,
)
from stratos.tasks.mahjong.path import check, symbols
from stratos.tasks.mahjong.prompts import Prompt


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


def nearest(train: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """Return an answer for each item; ties go to the training item that comes first."""
    import numpy as np

    if not train:
        return [""] * len(items)

    def table(hands: list[Hand]) -> np.ndarray:
        return np.array([[n for counts in hand for n in counts] for hand in hands], np.float32)

    known = table([text_to_hand(item.question) for item in train])
    questions = table([text_to_hand(item.question) for item in items])
    norms = (known**2).sum(1)
    best = np.full(len(items), np.inf, np.float32)
    answers = [""] * len(items)
    for order, mirrors in product(permutations(range(3)), product((False, True), repeat=3)):
        columns = _columns(order, mirrors)
        distance = norms[None, :] - 2 * (questions[:, columns] @ known.T)
        closest = distance.argmin(1)
        least = distance[np.arange(len(items)), closest]
        for row in np.flatnonzero(least < best - 1e-3):
            best[row] = least[row]
            answers[row] = _map_back(train[closest[row]].answer, columns)
    return answers


def _columns(order: tuple[int, ...], mirrors: tuple[bool, ...]) -> list[int]:
    """Return which of the 34 kinds each kind of the mapped hand comes from."""
    columns = []
    for suit, mirrored in zip(order, mirrors, strict=True):
        ranks = list(range(9 * suit, 9 * suit + 9))
        columns += ranks[::-1] if mirrored else ranks
    return [*columns, *range(27, 34)]


def _map_back(answer: str, columns: list[int]) -> str:
    tiles = [
        (s, i) for s, counts in enumerate(text_to_hand(answer)) for i, n in enumerate(counts) if n
    ]
    kinds = [columns[9 * suit + rank] for suit, rank in tiles]
    return tiles_to_text(frozenset((kind // 9, kind % 9 + 1) for kind in kinds))


_GROUPS = re.compile(r"(?<!\w)(?:[1-9]+[mpsz](?:[\s,]|and)*)+")
_STEP = re.compile(r"\d[mpsz]\s*:")
_LETTER = re.compile(r"\b([A-D])\b")
_N_TEXTS = 256
"""Items from which the length of an answer is told."""

Draft = tuple[Hand, Tile, str]
"""A winning hand, the tile that is taken away from it, and the slice."""


@dataclass(frozen=True)
class MahjongTask(Task):
    """Waits of a ready hand in riichi Mahjong: the exact set of tiles that complete it."""

    name: str = "mahjong"
    """Name shown in tables and written into records."""
    version: int = 2
    """Raised whenever questions, splits or the score change."""
    metric: str = "exact_match"
    """What accuracy means here: the whole set of tiles is right."""
    full_flush_share: float = 0.3
    """Share of training items that are a full flush (all tiles of one suit), the hard slice."""
    seven_pairs_share: float = 0.12
    """Share of the other training items that are seven pairs: more than the 5% that is asked later,
    because so rare a shape is learned late."""
    slices: tuple[str, ...] = ("full_flush", "general")
    """Slices that are reported apart and together."""
    prompts: tuple[str, ...] = field(default=tuple(prompts.PROMPTS))
    """Prompts that a teacher is tried with."""

    can_reverse = True

    # --- items -----------------------------------------------------------------------------------

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of a split, no two of one family; the slices alternate.

        Another seed draws other items of the same split.
        """
        if slice is not None:
            return _take(self.items_of(split, slice, seed), n)
        streams = [self.items_of(split, name, seed) for name in self.slices]
        return _take(_alternate(streams), n)

    def items_of(self, split: Split, name: str, seed: int) -> Iterator[Item]:
        """Yield items of a slice of a split, no two of one family."""
        rng = self._rng(name, split, seed)
        if name == "full_flush":
            classes = list(engine.flush_split(split))
            rng.shuffle(classes)
            for counts in classes:
                yield self._item(engine.flush_hand(counts, rng.randrange(3), rng.random() < 0.5))
            return
        seen: set[str] = set()
        while True:
            hand, _ = engine.remove_random(engine.winning_hand(rng), rng)
            family = engine.hand_id(hand)
            if engine.split_of(family) == split and family not in seen:
                seen.add(family)
                yield self._item(hand)

    def _rng(self, name: str, split: Split, seed: int) -> random.Random:
        """Return what a slice of a split is drawn with.

        The version is part of the draw of test items: those of version 1 were looked at while the
        task was made. Another draw shares some with it by chance (some 4%).
        """
        drawn = f"{split} {self.version}" if split == "test" else split
        return random.Random(f"{name} {drawn} {seed}")

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield `n` training items, answer first.

        A winning hand is drawn, a tile of it is taken away, and the path from what is left to the
        tiles that complete it is written. The tile that was taken away has to be among them.
        """
        return map(self.made_of, self.drafts(n, seed))

    def drafts(self, n: int, seed: int = 0) -> Iterator[Draft]:
        """Draw what the items of `reverse` are made of: little work, and all of the chance."""
        rng = random.Random(f"reverse {seed}")
        flushes = self._winning_flushes(rng)
        for _ in range(n):
            if rng.random() < self.full_flush_share:
                yield *next(flushes), "full_flush"
                continue
            while True:
                winning = engine.winning_hand(rng, self.seven_pairs_share)
                hand, tile = engine.remove_random(winning, rng)
                if engine.split_of(engine.hand_id(hand)) == "train":
                    break
            yield winning, tile, "general"

    def made_of(self, draft: Draft) -> Item:
        """Make the item of a draft: the same wherever that is done."""
        winning, tile, name = draft
        hand = add(winning, tile, -1)
        rationale, tiles = path.derive(hand)
        assert tile in tiles, "the tile that was taken away completes the hand"
        return self._item(hand, name, rationale, tiles)

    def _winning_flushes(self, rng: random.Random) -> Iterator[tuple[Hand, Tile]]:
        """Yield winning hands of one suit with the tile to take away: every train class in turn."""
        variants = [
            (counts, suit, mirrored)
            for counts in engine.flush_split("train")
            for suit in range(3)
            for mirrored in (False, True)
            if not mirrored or counts != counts[::-1]
        ]
        while True:
            rng.shuffle(variants)
            for counts, suit, mirrored in variants:
                hand = engine.flush_hand(counts, suit, mirrored)
                tile = rng.choice(sorted(waits(hand)))
                yield add(hand, tile), tile

    def _item(
        self,
        hand: Hand,
        name: str | None = None,
        rationale: str = "",
        tiles: frozenset[Tile] | None = None,
    ) -> Item:
        question = hand_to_text(hand)
        tiles = waits(hand) if tiles is None else tiles
        answer = tiles_to_text(tiles)
        suits = sum(any(counts) for counts in hand)
        return Item(
            id=hashlib.blake2b(question.encode(), digest_size=8).hexdigest(),
            slice=name or ("full_flush" if suits == 1 and not any(hand[3]) else "general"),
            question=question,
            answer=answer,
            choices=() if rationale else prompts.choices(question, tiles),
            rationale=rationale,
            family=engine.hand_id(hand),
        )

    # --- what a teacher and a student are asked --------------------------------------------------

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the few-shot chat that asks a teacher for the waits."""
        return prompts.chat(self.forms[prompt], self._examples, item, self.worked)

    @property
    def forms(self) -> dict[str, Prompt]:
        """The prompts by name."""
        return prompts.PROMPTS

    def worked(self, item: Item) -> str:
        """Return a worked answer as a prompt's example shows it."""
        return worked(text_to_hand(item.question))

    def answer_texts(self, prompt: str) -> list[str]:
        """Return answers to training items in the form that a prompt asks for."""
        items = self.items("train", _N_TEXTS, seed=2)
        return prompts.answer_texts(self.forms[prompt], items, self.worked)

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the few-shot chat that asks for one letter."""
        return prompts.choice_chat(self._examples, item)

    @cached_property
    def _examples(self) -> list[Item]:
        """Examples of the prompts: training items, so that none is asked later."""
        return self.items("train", 4, seed=1)

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples."""
        return frozenset(item.answer for item in self._examples[: self.forms[prompt].n_examples])

    def completion(self, item: Item) -> str:
        """Return the reasoning path and the answer."""
        rationale = item.rationale or path.derive(text_to_hand(item.question))[0]
        return f"{rationale}{path.ANSWER} {item.answer}"

    def vocabulary(self) -> Symbols:
        """Return the symbols of hands and paths."""
        return symbols()

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> AnswerText | None:
        """Read the waits: behind the last `=>`, else in the first line that names tiles."""
        for line in text.rpartition(path.ANSWER.strip())[2].splitlines():
            # `3m:` belongs to a step of some reasoning, which is no answer.
            match = None if _STEP.search(line) else _GROUPS.search(line)
            if match:
                tiles = re.sub(r"\s|,|and", "", match[0])
                try:
                    hand = text_to_hand(tiles)
                except ValueError:
                    return None
                return tiles_to_text(_kinds(hand))
        return None

    def parse_choice(self, text: str) -> int | None:
        """Read the first letter A to D that stands alone."""
        match = _LETTER.search(text)
        return "ABCD".index(match[1]) if match else None

    def score(self, text: str, item: Item) -> Score:
        """Compare the set of tiles with the gold set."""
        answer = self.parse(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        given, gold = _kinds(text_to_hand(answer)), _kinds(text_to_hand(item.answer))
        both = len(given & gold)
        return Score(float(given == gold), 2 * both / (len(given) + len(gold)), True)

    def verify(self, item: Item) -> Reason | None:
        """Check every step of an item's path and its answer against the engine."""
        try:
            hand = text_to_hand(item.question)
        except ValueError as error:
            return NoHand(str(error))
        if sum(map(sum, hand)) != 13:
            return OtherTileCount(item.question, 13)
        return check(hand, f"{item.rationale}{path.ANSWER} {item.answer}")

    def refute(self, item: Item, text: str) -> Reason | None:
        """Return what is wrong with an answer by the rules: no right answer is needed for that."""
        answer = self.parse(text)
        hand = self.typed(item.question)
        if answer is None or hand is None:
            return super().refute(item, text)
        return None if self.score(text, hand).exact >= 1 else BreaksRules()

    def typed(self, question: str) -> Item | None:
        """Return the item of a hand that somebody typed; None if it is none that is ready."""
        try:
            hand = text_to_hand("".join(question.split()))
        except ValueError:
            return None
        return self._item(hand) if sum(map(sum, hand)) == 13 and waits(hand) else None

    def answer_size(self, item: Item) -> int:
        """Return how many tiles complete the hand."""
        return len(_kinds(text_to_hand(item.answer)))

    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        """Answer with the waits of the nearest training hand, up to symmetry."""
        return nearest(train, items)


def _kinds(hand: Hand) -> frozenset[Tile]:
    return frozenset((s, i + 1) for s, counts in enumerate(hand) for i, n in enumerate(counts) if n)


def _take(items: Iterator[Item], n: int) -> list[Item]:
    return [item for item, _ in zip(items, range(n), strict=False)]


def _alternate(streams: list[Iterator[Item]]) -> Iterator[Item]:
    """Yield from each stream in turn; one that has ended is left out."""
    while streams:
        for stream in list(streams):
            item = next(stream, None)
            if item is None:
                streams.remove(stream)
            else:
                yield item
