"""Teacher prompts: four prompts, and a multiple choice of four."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stratos.tasks.base import Item, Message
from stratos.tasks.mahjong.engine import RANKS, SUITS, Tile, tiles_to_text

_TASK = "A ready Mahjong hand has 13 tiles. Name every tile that completes it."
NOTATION = (
    "Tiles are written as ranks and a suit letter: m, p and s are suits with ranks 1-9, z are the "
    "seven honours."
)
RULES = (
    "A complete hand has 14 tiles: four melds (three equal tiles, or three ranks in a row of one "
    "suit) and a pair of equal tiles; or seven different pairs. No tile exists more than four "
    "times."
)


@dataclass(frozen=True)
class Prompt:
    """One way to ask."""

    system: str
    question: str
    n_examples: int
    answer: str = "{answer}"
    """How an example is answered: with {answer}, and {worked} for the reasoning before it."""
    wants_reasoning: bool = False


PROMPTS: dict[str, Prompt] = {
    "default": Prompt(f"{_TASK} {NOTATION} Answer with the tiles only.", "Hand: {question}", 4),
    "rules": Prompt(
        f"{_TASK} {NOTATION} {RULES} Answer with the tiles only.", "Hand: {question}", 3
    ),
    "bare": Prompt("", "{question}", 4),
    "question": Prompt(
        _TASK, "Which tiles complete the hand {question}?", 3, "The hand waits for {answer}."
    ),
    "worked": Prompt(
        f"{_TASK} {NOTATION} {RULES} For each such tile write how it completes the hand, then the "
        "tiles behind '=>'.",
        "Hand: {question}",
        3,
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


CHOICE = f"{_TASK} {NOTATION} Answer with one letter."


def chat(
    how: Prompt, examples: Sequence[Item], item: Item, worked: Callable[[Item], str]
) -> list[Message]:
    """Return a few-shot chat that asks about one hand.

    Args:
        how: the prompt.
        examples: shown as far as the prompt wants them.
        item: the hand.
        worked: writes the reasoning of an example, its answer at the end.
    """
    turns = [
        (how.question.format(question=e.question), answered(how, e, worked))
        for e in examples[: how.n_examples]
    ]
    return _turns(how.system, turns, how.question.format(question=item.question))


def answered(how: Prompt, item: Item, worked: Callable[[Item], str]) -> str:
    """Return the answer to an item in the form that a prompt's examples have."""
    if "{worked}" in how.answer:
        return how.answer.format(worked=worked(item))
    return how.answer.format(answer=item.answer)


def answer_texts(how: Prompt, items: Sequence[Item], worked: Callable[[Item], str]) -> list[str]:
    """Return texts as good answers to a prompt are; none of reasoning that no example shows."""
    if how.wants_reasoning and not how.n_examples:
        return []
    return [answered(how, item, worked) for item in items]


def choice_chat(examples: Sequence[Item], item: Item, system: str = CHOICE) -> list[Message]:
    """Return a few-shot chat that asks for one of four letters."""
    turns = [(_options(e), "ABCD"[e.choices.index(e.answer)]) for e in examples]
    return _turns(system, turns, _options(item))


def _options(item: Item) -> str:
    options = " ".join(
        f"{letter}) {choice}" for letter, choice in zip("ABCD", item.choices, strict=True)
    )
    return f"Hand: {item.question}\n{options}"


def _turns(system: str, turns: list[tuple[str, str]], question: str) -> list[Message]:
    messages = [{"role": "system", "content": system}] if system else []
    for hand, answered in turns:
        messages += [
            {"role": "user", "content": hand},
            {"role": "assistant", "content": answered},
        ]
    return [*messages, {"role": "user", "content": question}]


def choices(question: str, gold: frozenset[Tile]) -> tuple[str, ...]:
    """Return four sets of tiles, one of them gold, in an order fixed by the question.

    A wrong set is a neighbour of the gold one: a tile moved by a rank or three, one more, or one
    less, so that neither size nor suit gives the answer away.
    """
    seed = hashlib.blake2b(question.encode(), digest_size=8, person=b"choices").digest()
    rng = random.Random(seed)
    options = {gold}
    while len(options) < 4:
        wrong = set(rng.choice(sorted(options, key=sorted)))
        suit, rank = rng.choice(sorted(wrong))
        moved = (suit, rank + rng.choice((-3, -2, -1, 1, 2, 3)))
        how = rng.random()
        if how < 0.7 or len(wrong) == 1:
            wrong.discard((suit, rank))
        if how < 0.85 and 1 <= moved[1] <= RANKS[SUITS[suit]]:
            wrong.add(moved)
        if wrong:
            options.add(frozenset(wrong))
    texts = [tiles_to_text(option) for option in sorted(options, key=sorted)]
    rng.shuffle(texts)
    return tuple(texts)
