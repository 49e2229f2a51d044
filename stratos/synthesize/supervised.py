"""Strategies on the rows of a file: its own answers, and rows that a teacher writes like them.

A teacher's answer to a row that has one could only repeat it, so the labels of a file are taken
from the file, for nothing. Where rows bring the reasoning that leads to their answers, it is learnt
with them, if it holds.

Data augmentation is injection for files: the answer is there first, and a question is built from
it. The teacher says a row's question in other words, or writes another one with the same answer.
Then it is asked the new question as it is asked any other, without the answer; only where it comes
to that answer is the row learnt.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from typing_extensions import override

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.formats import counted
from stratos.records import Plan
from stratos.synthesize.admission import held_out
from stratos.synthesize.injection import holds
from stratos.synthesize.planned_teacher import Asking
from stratos.synthesize.strategy import MIN_COVERAGE, Family, Strategy, Tally, Threshold
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.dedup.hashes import content_id, family_id
from stratos.teachers.base import Answer, Question
from stratos.teachers.cost_estimate import expect
from stratos.teachers.prompting import is_truncated, limit_of


@dataclass(frozen=True)
class Supervised(Strategy):
    """The labelled rows of the task's file."""

    family: ClassVar[Family] = Family.ROWS

    name: str = "supervised"
    """Name shown in the plan."""
    n_items: int = 100_000
    """Maximum rows to train on."""
    reasoning: bool = True
    """Also train on the reasoning of rows that have one; False trains on the bare answers."""
    near_duplicates: float = 0.0
    """Share of common word 3-grams from which a question is a near duplicate; 0 keeps
    duplicates."""

    def __post_init__(self) -> None:
        if self.n_items < 1:
            raise ValueError("n_items must be at least 1.")
        if not 0 <= self.near_duplicates <= 1:
            raise ValueError("near_duplicates must lie between 0 and 1.")

    @property
    @override
    def near_duplicate_share(self) -> float:
        return self.near_duplicates

    def learnt(self, task: Task, item: Item) -> str:
        """Return a row's reasoning and answer, or the bare answer."""
        return task.completion(item) if self.reasoning and item.rationale else item.answer

    @override
    def why_alone(self) -> str:
        return f"{self.name} trains on the answers in the file: no teacher is asked for them."

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield the rows with what is learnt of each; a reasoning that does not hold is none."""
        task = config.task
        for item in task.items("train", min(self.n_items, task.n_train), config.seed):
            has_path = self.reasoning and bool(item.rationale)
            if not has_path or holds(item, task.verify(item), tally):
                yield item, self.learnt(task, item)


Kind = Literal["paraphrase", "new"]

BLIND = "another answer without seeing it"
"""Why a new question is not learnt: asked blindly, the teacher answers it in another way."""
REPEATED, NO_TEXT = "no new question", "no question"
_N_EXAMPLES = 3
"""Rows of one answer that a request for another one shows."""
_QUOTES = "\"'“”‘’`"


@dataclass(frozen=True)
class Augmentation(Strategy):
    """The labelled rows of a file, and the rows that a teacher makes of each."""

    family: ClassVar[Family] = Family.ROWS
    writes_rows: ClassVar[bool] = True

    name: str = "augmentation"
    """Name shown in the plan."""
    min_coverage: float = MIN_COVERAGE
    """Minimum share of validation items that the teacher must answer exactly (low end of the
    interval): it must find the answers of its own questions."""
    n_items: int = 100_000
    """Maximum rows to train on."""
    n_new: int = 2
    """New questions for each row, of each kind in turn."""
    kinds: tuple[Kind, ...] = ("paraphrase", "new")
    """paraphrase: the row's question in other words; new: another question with the same answer."""
    temperature: float = 0.9
    """Temperature of the new questions; the check is greedy."""
    reasoning: bool = True
    """Also train on the reasoning of rows that have one."""

    def __post_init__(self) -> None:
        if min(self.n_items, self.n_new) < 1 or not self.kinds:
            raise ValueError("n_items and n_new must be at least 1, and kinds not empty.")
        if not 0 <= self.min_coverage <= 1 or self.temperature < 0:
            raise ValueError("min_coverage must lie between 0 and 1, temperature not below 0.")

    def coverage(self, beside_right: bool) -> Threshold:
        """Return what a teacher must know of the task to find the answers of its questions."""
        return Threshold(self.min_coverage, of_interval="low")

    def n_questions(self, task: Task) -> int:
        """Return how many chats there are: each new question, and its check."""
        return 2 * self._n_written(task)

    def n_added(self, config: Config, covered: float) -> float:
        """Return how many rows are expected: as many as the teacher answers of others."""
        return covered * self._n_written(config.task)

    @override
    def added(self, config: Config, teacher: str, covered: float) -> str:
        task = config.task
        n = self._n_written(task)
        return (
            f"{teacher} writes {counted(n, 'question', spec=',')} after those of the "
            f"{counted(task.n_train, 'labelled row', spec=',')}, and answers each without seeing "
            f"its answer; about {self.n_added(config, covered):,.0f} are expected to be learnt."
        )

    def _n_written(self, task: Task) -> int:
        return self.n_new * task.n_train

    def learnt(self, task: Task, item: Item) -> str:
        """Return a row's reasoning and answer, or the bare answer."""
        return Supervised(reasoning=self.reasoning).learnt(task, item)

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield the labelled rows, then those that the teacher makes of them.

        Raises:
            TeacherError: the planned teacher is not among the configured ones, or fails.
        """
        yield from Supervised(n_items=self.n_items, reasoning=self.reasoning).draw(
            config, plan, context, tally
        )
        asking, task = Asking.planned(config, plan, context, tally), config.task
        drafts = self._written(task.items("train", self.n_items, config.seed), asking)
        answers = asking.ask(asking.unseen(drafts), "checking")
        tally.refused["not checked: budget used up"] += len(drafts) - len(answers)
        for item, answer in zip(drafts, answers, strict=False):
            if task.score(answer.text, item).exact < 1:
                tally.refused[BLIND] += 1
                continue
            tally.sources[item.id] = f"written by {plan.teacher}"
            yield item, item.answer

    def _written(self, rows: Sequence[Item], asking: Asking) -> list[Item]:
        """Return the new questions with the answers that they were written for."""
        task, refused = asking.task, asking.tally.refused
        max_tokens = limit_of([item.question for item in rows]).tokens
        draws = asking.teacher.draws
        by_answer: dict[str, list[Item]] = {}
        for item in rows:
            by_answer.setdefault(item.answer, []).append(item)
        # Each row once before any a second time: where the money ends, it served all of them.
        pairs = [(item, k) for k in range(self.n_new) for item in rows]
        questions = [
            Question(
                _request(task, self.kinds[k % len(self.kinds)], item, by_answer[item.answer]),
                max_tokens,
                1 + k if draws else 0,
                self.temperature if draws else None,
            )
            for item, k in pairs
        ]
        expect(asking.teacher, questions, asking.context)
        answers = asking.ask(questions)
        refused["not asked: budget used up"] += len(questions) - len(answers)
        excluded, known = held_out(asking.config), {item.family for item in rows}
        seen: set[tuple[str, str]] = set()
        items: list[Item] = []
        for (item, _), answer in zip(pairs, answers, strict=False):
            made = _made(item, answer)
            if made is None:
                refused[NO_TEXT] += 1
            elif made.family in known or (made.family, made.answer) in seen:
                refused[REPEATED] += 1
            elif (leak := excluded.leak(made, made.answer)) is not None:
                refused[leak] += 1
            else:
                # Of one question with two answers the check finds the right one.
                seen.add((made.family, made.answer))
                items.append(made)
        return items


def _request(task: Task, kind: Kind, item: Item, alike: Sequence[Item]) -> list[Message]:
    """Return the chat that asks for a new question.

    Args:
        task: says what is asked of a question.
        kind: of the request.
        item: the row.
        alike: all rows with its answer.
    """
    about = task.system_prompt
    purpose = f" It is for this task: {about}" if about else ""
    if kind == "paraphrase":
        system = (
            "Say the text in other words. Keep its meaning, and all names, numbers and values in "
            f"it, so that its answer stays the same. Write the new text only.{purpose}"
        )
        text = f"Text: {item.question}\nAnswer: {item.answer}\nNew text:"
    else:
        system = (
            "Write one more text with the given answer, like the examples and about something "
            f"else. Write the new text only.{purpose}"
        )
        similar = [row for row in alike if row.id != item.id]
        some = random.Random(item.id).sample(similar, min(len(similar), _N_EXAMPLES - 1))
        shown = "\n".join(f"Text: {row.question}" for row in (*some, item))
        text = f"Answer of all texts: {item.answer}\n{shown}\nNew text:"
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def _made(item: Item, answer: Answer) -> Item | None:
    """Return the row with the question that a teacher wrote; None where it wrote none."""
    text = answer.text.strip()
    for label in ("New text:", "Text:"):
        text = text.removeprefix(label).strip()
    # What it goes on to write behind the text, such as the answer, is no part of it.
    text = text.partition("\nAnswer:")[0].partition("\nText:")[0].strip().strip(_QUOTES).strip()
    if not text or is_truncated(answer):
        return None
    return replace(
        item,
        id=content_id(text),
        family=family_id(text),
        question=text,
        rationale="",
        choices=(),
    )
