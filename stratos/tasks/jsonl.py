"""The user's own file as a task: one JSON object per line, with a question and its answer.

Splits are by a hash of the question, so they are fixed before anything is asked or generated, stay
the same when rows are added, and are disjoint up to case and spacing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from stratos.errors import ConfigError
from stratos.tasks.answers import (
    find_answer,
    find_number,
    nearest_by_words,
    states_answer,
    word_f1,
)
from stratos.tasks.base import Item, Message, Score, Split, Symbols
from stratos.tasks.numbers import stated_number, write_number
from stratos.tasks.rows import Fields, Row, read_rows
from stratos.tasks.split import content_id, normalised, order_key, split_of

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER = re.compile(r"(?<![A-Za-z'])\(?([A-Z])\)?(?![A-Za-z'])")
_MARK = "Answer:"
_HOW = {
    "default": f"Give the answer only, as '{_MARK} …'.",
    "zero_shot": f"Give the answer only, as '{_MARK} …'.",
    "reasoning": f"Think step by step, then end with a line '{_MARK} …'.",
}


@dataclass(frozen=True)
class JsonlTask:
    """Questions and answers from a file of JSON lines."""

    path: str
    """The file: a path, or any fsspec URL (s3://…, https://…)."""
    name: str = "jsonl"
    """Name shown in tables and written into records."""
    version: int = 1
    """Raise it when rows change, so that results of other rows are not compared."""
    metric: Literal["exact", "numeric", "multiple_choice", "regex"] = "exact"
    """exact (equal but for case and spacing), numeric (equal as numbers), multiple_choice (the
    letter of an option) or regex (the gold answer is a pattern that the whole answer matches)."""
    question: str = "question"
    """Field with the question."""
    answer: str = "answer"
    """Field with the gold answer."""
    rationale: str | None = None
    """Field with the reasoning that leads to the answer; null where the file has none."""
    split_answer: str | None = None
    """What divides the answer field into rationale and answer (GSM8K: "####"); null: nothing."""
    options: str = "options"
    """Field with the list of options, for multiple_choice."""
    slice: str | None = None
    """Field with the slice of a row; null puts all rows into the first of `slices`."""
    slices: tuple[str, ...] = ("main",)
    """Slices that are reported apart and together."""
    instruction: str = "Answer the question."
    """What a teacher is told first."""
    n_examples: int = 4
    """Training rows that stand as examples in few-shot prompts."""
    validation_share: float = 0.15
    """Share of the rows that steer the run."""
    test_share: float = 0.25
    """Share of the rows that only the last measurement reads."""
    prompts: tuple[str, ...] = ("default", "zero_shot", "reasoning")
    """Prompts that a teacher is tried with: few-shot, without examples, step by step."""

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if unknown := [prompt for prompt in self.prompts if prompt not in _HOW]:
            raise ValueError(f"prompts={unknown}: known are {', '.join(_HOW)}.")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                "validation_share and test_share must be above 0 and below 1 together."
            )
        if not self.slices or not self.prompts or self.n_examples < 0:
            raise ValueError("slices and prompts cannot be empty, nor n_examples below 0.")
        if "://" not in self.path and Path(self.path).expanduser().is_file():
            try:
                _ = self._items
            except ConfigError as error:
                raise ValueError(str(error)) from error

    @property
    def can_reverse(self) -> bool:
        """True if the rows bring the reasoning that leads to their answers."""
        return self.rationale is not None or self.split_answer is not None

    # --- items -----------------------------------------------------------------------------------

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of a split in an order fixed by the seed; the slices alternate."""
        found = self._by_split[split]
        queues = [
            sorted((i for i in found if i.slice == name), key=lambda i: order_key(i.id, seed))
            for name in ([slice] if slice is not None else self.slices)
        ]
        longest = max(map(len, queues), default=0)
        turns = (queue[k] for k in range(longest) for queue in queues if k < len(queue))
        return [item for item, _ in zip(turns, range(n), strict=False)]

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` training items that bring a reasoning path."""
        ready = (item for item in self.items("train", len(self._items), seed) if item.rationale)
        for item, _ in zip(ready, range(n), strict=False):
            yield item

    def verify(self, item: Item) -> str | None:
        """Check that the path announces no other answer, and that the whole text reads as it."""
        if not item.rationale:
            return "it has no reasoning path"
        if states_answer(item.rationale) and self.score(item.rationale, item).exact < 1:
            return f"its path ends in {self.parse(item.rationale)}, its answer is {item.answer}"
        if self.score(self.completion(item), item).exact < 1:
            return f"the answer {item.answer} cannot be read back from its text"
        return None

    @cached_property
    def _items(self) -> list[Item]:
        options = self.options if self.metric == "multiple_choice" else None
        fields = Fields(self.question, self.answer, self.rationale, self.slice, options)
        try:
            rows = read_rows(self.path, fields, self._check)
        except OSError as error:
            raise ConfigError(f"task.path={self.path} cannot be read: {error}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from error
        items = [self._item(row) for row in rows]
        if self.metric == "regex":
            return items
        answers = sorted({item.answer for item in items})
        return [replace(item, choices=self._choices(item, answers)) for item in items]

    @cached_property
    def _by_split(self) -> dict[str, list[Item]]:
        found: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        for item in self._items:
            found[split_of(item.id, self.validation_share, self.test_share)].append(item)
        return found

    def _check(self, row: Row) -> Row | str:
        """Return a row with its answer in canonical spelling, or what is wrong with it."""
        answer, rationale = row.answer, row.rationale
        if self.split_answer and self.split_answer in answer:
            before, _, answer = answer.rpartition(self.split_answer)
            rationale, answer = rationale or before.strip(), answer.strip()
        if self.slice is not None and row.slice not in self.slices:
            return f"its slice is {row.slice or 'empty'}, not one of {', '.join(self.slices)}"
        question = row.question
        if self.metric == "numeric":
            number = stated_number(answer)
            if number is None:
                return f"the answer {answer[:60]} is no number"
            answer = write_number(number)
        elif self.metric == "regex":
            try:
                re.compile(answer)
            except re.error as error:
                return f"the answer {answer[:60]} is no regular expression ({error})"
        elif self.metric == "multiple_choice":
            letter = _letter_of(answer, row.options)
            if letter is None:
                return f"the answer {answer[:60]} is none of its {len(row.options)} options"
            answer = letter
            lines = [f"{a}) {text}" for a, text in zip(_LETTERS, row.options, strict=False)]
            question = "\n".join([question, *lines])
        return replace(row, question=question, answer=answer, rationale=rationale)

    def _item(self, row: Row) -> Item:
        return Item(
            id=content_id(row.question),
            slice=row.slice or self.slices[0],
            question=row.question,
            answer=row.answer,
            rationale=row.rationale,
        )

    def _choices(self, item: Item, answers: Sequence[str]) -> tuple[str, ...]:
        """Return four answers, three of them of other rows; none where there are too few."""
        if self.metric == "multiple_choice":
            return tuple("ABCD") if item.question.count("\n") >= 4 and item.answer in "ABCD" else ()
        rng = random.Random(item.id)
        others = rng.sample(answers, min(len(answers), 4))
        wrong = [answer for answer in others if answer != item.answer][:3]
        if len(wrong) < 3:
            return ()
        choices = [item.answer, *wrong]
        rng.shuffle(choices)
        return tuple(choices)

    # --- what a teacher and a student are asked --------------------------------------------------

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        turns = []
        for example in self._examples(prompt):
            if example.id != item.id:
                shown = f"{_MARK} {example.answer}"
                if prompt == "reasoning" and example.rationale:
                    shown = f"{example.rationale}\n{shown}"
                turns.append((example.question, shown))
        return _chat(f"{self.instruction} {_HOW[prompt]}", turns, item.question)

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the chat that asks for one letter of four."""
        examples = [e for e in self._examples("default") if e.choices and e.id != item.id]
        turns = [(self._offer(e), "ABCD"[e.choices.index(e.answer)]) for e in examples]
        return _chat(f"{self.instruction} Answer with one letter.", turns, self._offer(item))

    def _offer(self, item: Item) -> str:
        if self.metric == "multiple_choice":
            return item.question
        lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
        return "\n".join([item.question, *lines])

    def _examples(self, prompt: str) -> list[Item]:
        return [] if prompt == "zero_shot" else self._shown

    @cached_property
    def _shown(self) -> list[Item]:
        return self.items("train", self.n_examples, seed=1)

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples."""
        return frozenset(example.answer for example in self._examples(prompt))

    def student_messages(self, item: Item) -> list[Message]:
        """Return what the student is asked: the bare question."""
        return [{"role": "user", "content": item.question}]

    def completion(self, item: Item) -> str:
        """Return the reasoning path, where there is one, and the answer."""
        if not item.rationale:
            return item.answer
        return f"{item.rationale}\n{_MARK} {item.answer}"

    def vocabulary(self) -> Symbols | None:
        """Return None: a tokenizer is trained on the corpus."""
        return None

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> str | None:
        """Read the answer: behind `Answer:`, `####` or in a box, else in the last line."""
        if self.metric == "numeric":
            number = find_number(text)
            return None if number is None else write_number(number)
        found = find_answer(text)
        if found is None or self.metric != "multiple_choice":
            return found
        letter = _LETTER.search(found)
        return letter[1] if letter else None

    def parse_choice(self, text: str) -> int | None:
        """Read the first letter A to D that stands alone."""
        found = next((m[1] for m in _LETTER.finditer(text) if m[1] in "ABCD"), None)
        return "ABCD".index(found) if found else None

    def score(self, text: str, item: Item) -> Score:
        """Compare with the gold answer by the task's metric; F1 is over words."""
        answer = self.parse(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        if self.metric == "regex":
            right = re.fullmatch(item.answer, answer) is not None
        else:
            right = normalised(answer) == normalised(item.answer)
        return Score(float(right), 1.0 if right else word_f1(answer, item.answer), True)

    def lookup(self, train: Sequence[Item], items: Sequence[Item]) -> list[str]:
        """Answer with the training question that shares most words."""
        if not train:
            return ["" for _ in items]
        places = nearest_by_words([i.question for i in train], [i.question for i in items])
        return [train[place].answer for place in places]


def _letter_of(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter of a gold answer that is given as a letter or as an option's text."""
    for letter, option in zip(_LETTERS, options, strict=False):
        if normalised(option) == normalised(answer):
            return letter
    letter = answer.strip("().: ").upper()
    return letter if len(letter) == 1 and letter in _LETTERS[: len(options)] else None


def _chat(system: str, turns: Sequence[tuple[str, str]], question: str) -> list[Message]:
    messages = [{"role": "system", "content": system}]
    for asked, answered in turns:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return [*messages, {"role": "user", "content": question}]
