"""The user's own file as a task: one JSON object per line, with a question and its answer.

The rows of its splits come from `stratos.tasks.labelled_files`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stratos.core.errors import StratosError
from stratos.core.reasons import Reason
from stratos.tasks import chat
from stratos.tasks.answers import AnswerText, states_answer
from stratos.tasks.base import Item, Message, Score, Split
from stratos.tasks.labelled_files import LabelledFiles
from stratos.tasks.metrics import LETTERS
from stratos.tasks.schema import BySchema
from stratos.tasks.split import content_id, family_id, order_key
from stratos.tasks.table import Row, Rows
from stratos.tasks.words import NoPath, NotReadBack, PathEndsElsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OPTION = re.compile(r"^([A-Z])\) ", re.MULTILINE)
"""An option in a question, as `LabelledFiles` writes it."""
_MOST_CHOICES = 10_000
"""Different answers that wrong choices are drawn from."""


_N_FIRST = 32
"""Training rows that tell what answers look like."""


@dataclass(frozen=True)
class JsonlTask(LabelledFiles):
    """Questions and answers from a file of JSON lines, CSV or Parquet."""

    can_reverse = True
    """The labelled rows are answers first; their reasoning is in the file, or is written."""
    has_rows = True
    """The training items are rows of the file."""

    # --- items -----------------------------------------------------------------------------------

    @override
    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        rows = self._by_split[split]
        queues = [
            self._order(split, seed, name)
            for name in ([slice] if slice is not None else self.slices)
        ]
        longest = max(map(len, queues), default=0)
        turns = (queue[k] for k in range(longest) for queue in queues if k < len(queue))
        return [self._item(rows[int(index)]) for index, _ in zip(turns, range(n), strict=False)]

    def _order(self, split: Split, seed: int, slice: str) -> NDArray[np.int64]:
        """Return the places of a slice's rows within their split, shuffled by the seed."""
        from stratos.tasks.row_splits import order_of  # imports numpy

        if (split, seed, slice) not in self._orders:
            self._orders[split, seed, slice] = order_of(self._by_split[split], slice, seed)
        return self._orders[split, seed, slice]

    @cached_property
    def _orders(self) -> dict[tuple[Split, int, str], NDArray[np.int64]]:
        return {}

    def _item(self, row: Row) -> Item:
        item = Item(
            id=content_id(row.question),
            slice=row.slice,
            question=row.question,
            answer=row.answer,
            rationale=row.rationale,
            family=family_id(row.question),
        )
        return replace(item, choices=self._choices(item))

    @override
    def held_out(self) -> list[Item]:
        parts = (self._by_split["validation"], self._by_split["test"])
        return [self._item(row) for rows in parts for row in rows]

    @override
    def unlabelled(self, n: int, seed: int = 0) -> list[Item]:
        items = [self._item(row) for row in self._unlabelled]
        return sorted(items, key=lambda item: order_key(item.id, seed))[:n]

    @override
    def labelled(self, item: Item, text: str) -> Item | None:
        answer = self.parse(text)
        if answer is None:
            return None
        try:
            canonical = self._metric.canonical(answer, self._options_of(item))
        except ValueError:
            return None
        return replace(item, answer=canonical, rationale="", choices=())

    @override
    def as_row(self, item: Item, answer: str) -> dict[str, str]:
        return {self.question.split("|")[0]: item.question, self.answer.split("|")[0]: answer}

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` labelled training items; those that bring a reasoning path bring it."""
        yield from self.items("train", min(n, self.n_train), seed)

    def verify(self, item: Item) -> Reason | None:
        """Check that the path announces no other answer, and that the whole text reads as it."""
        if not item.rationale:
            return NoPath()
        if states_answer(item.rationale) and self.score(item.rationale, item).exact < 1:
            return PathEndsElsewhere(str(self.parse(item.rationale)), item.answer)
        if self.score(self.completion(item), item).exact < 1:
            return NotReadBack(item.answer)
        return None

    @cached_property
    @override
    def has_objects(self) -> bool:
        if not self.is_here:  # a check does not fetch rows
            return self.schema is not None
        try:
            items = self.items("train", _N_FIRST)
        except (StratosError, OSError, ValueError):  # told where the rows are read to be used
            return False
        return bool(items) and all(
            item.answer.lstrip().startswith("{") and not item.rationale for item in items
        )

    @cached_property
    @override
    def has_paths(self) -> bool:
        return bool(self._by_split["train"].column("has_path").any())

    def checks_steps(self, item: Item) -> bool:
        """Return False: `verify` looks at where a path ends, not at its steps."""
        return False

    # --- options ---------------------------------------------------------------------------------

    def _options_of(self, item: Item) -> tuple[str, ...]:
        """Return the letters of the options that a question lists; none where it lists none."""
        if not self._is_choice:
            return ()
        letters = _OPTION.findall(item.question)
        # The last list that begins with A: the question itself may have one, too.
        start = len(letters) - letters[::-1].index("A") - 1 if "A" in letters else len(letters)
        n = 0
        for letter in letters[start:]:
            n += letter == LETTERS[n]
        return tuple(LETTERS[:n])

    def chance(self, item: Item) -> float:
        """Return how often a random option is right; 0 for a free answer."""
        n = len(self._options_of(item))
        return 1 / n if n else 0.0

    @cached_property
    def _answers(self) -> list[str]:
        """Return the answers that wrong choices are drawn from, in their order."""
        return Rows.concat(self._divided()).answers(_MOST_CHOICES)

    def _choices(self, item: Item) -> tuple[str, ...]:
        """Return four answers, three of them of other rows; none where there are too few."""
        if self._is_choice:
            return (
                tuple("ABCD") if len(self._options_of(item)) >= 4 and item.answer in "ABCD" else ()
            )
        if self.metric == "regex":
            return ()
        rng = random.Random(item.id)
        answers = self._answers
        sampled = rng.sample(answers, min(len(answers), 4))
        wrong = [answer for answer in sampled if answer != item.answer][:3]
        if len(wrong) < 3:
            return ()
        choices = [item.answer, *wrong]
        rng.shuffle(choices)
        return tuple(choices)

    # --- what a teacher and a student are asked --------------------------------------------------

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        instruction = self.system_prompt
        if self.schema is not None:
            instruction = (
                f"{instruction} The answer is a JSON object that matches this schema: {self._told}"
            )
        return chat.ask(instruction, prompt, self._examples(prompt), item)

    @cached_property
    def _told(self) -> str:
        return json.dumps(self._schema, ensure_ascii=False)

    @property
    @override
    def system_prompt(self) -> str:
        return self.instruction

    @override
    def choice_messages(self, item: Item) -> list[Message]:
        examples = [e for e in self._examples("default") if e.choices and e.id != item.id]
        turns = [(self._offer(e), "ABCD"[e.choices.index(e.answer)]) for e in examples]
        system = f"{self.system_prompt} Answer with one letter."
        return chat.turn_by_turn(system, turns, self._offer(item))

    def _offer(self, item: Item) -> str:
        if self._is_choice:
            return item.question
        lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
        return "\n".join([item.question, *lines])

    def _examples(self, prompt: str) -> list[Item]:
        return self._shown if chat.FORMS[prompt].has_examples else []

    @cached_property
    def _shown(self) -> list[Item]:
        return self.items("train", self.n_examples, seed=1)

    @override
    def example_answers(self, prompt: str) -> frozenset[str]:
        return frozenset(example.answer for example in self._examples(prompt))

    def answer_texts(self, prompt: str) -> list[str]:
        """Return the answers to training and validation rows in the form that a prompt asks for.

        A pattern is no answer: with the metric regex there are none.
        """
        if self.metric == "regex" and self.verifier is None:
            return []
        return chat.answer_texts(prompt, [*self._by_split["train"], *self._by_split["validation"]])

    @override
    def completion(self, item: Item) -> str:
        if not item.rationale:
            return item.answer
        return f"{item.rationale}\n{chat.MARK} {item.answer}"

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> AnswerText | None:
        """Read the answer: behind `Answer:`, `####` or in a box, else in the last line."""
        return self._metric.read(text)

    def score(self, text: str, item: Item) -> Score:
        """Compare with the gold answer by the task's metric; F1 is over words."""
        answer = self.parse(text)
        right = answer is not None and self._metric.compare(answer, item.answer) >= 1
        if not right and self.metric == "exact" and self.verifier is self.schema is None:
            # A gold answer may have several lines, or a word that announces one elsewhere.
            behind = text.partition(chat.MARK)[2], text.rpartition(chat.MARK)[2]
            wholes = (whole.strip() for whole in (text, *behind))
            right = any(self._metric.compare(whole, item.answer) >= 1 for whole in wholes if whole)
        if answer is None and not right:
            return Score(0.0, 0.0, False)
        overlap = 1.0 if right else self._metric.overlap(answer or "", item.answer)
        return Score(float(right), overlap, True)

    @override
    def answer_schema(self, item: Item) -> Mapping[str, Any] | None:
        return self._schema

    @override
    def field_scores(self, item: Item, answer: str | None) -> dict[str, float]:
        metric = self._metric
        return metric.field_scores(answer, item.answer) if isinstance(metric, BySchema) else {}
