"""Questions in a teacher's words: what the task made is said anew, and read without the answer.

A question that is made from its answer is worded by a template. A teacher says it as a user would.
Then it is asked that question as it is asked any other, and only where it comes to the answer
without having seen it does the question stand. Elsewhere the template's does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from stratos.config import Config
from stratos.core.context import Context
from stratos.records import Plan
from stratos.synthesize.first_look import LEAST, shown_first, size_of_first_look
from stratos.synthesize.planned_teacher import ask_and_count
from stratos.synthesize.strategy import Tally, Writing
from stratos.tasks.base import Item, Task
from stratos.teachers.answer_limit import is_truncated, limit_of
from stratos.teachers.base import Question, Teacher
from stratos.teachers.call_budget import n_bytes
from stratos.teachers.cost_estimate import expect
from stratos.teachers.prompting import chat, prompting

_ITEMS_PER_ROUND = 256
_QUOTES = "\"'“”‘’`"


@dataclass
class Wording:
    """Has a teacher word the questions that a task made, and read them without the answers."""

    config: Config
    plan: Plan
    teacher: Teacher
    context: Context
    tally: Tally
    n_items: int
    """How many there will be."""
    n_asked: int = field(init=False, default=0)
    n_kept: int = field(init=False, default=0)
    """Questions that stand in the teacher's words."""
    _said: set[str] = field(init=False, default_factory=set)

    @property
    def _task(self) -> Task:
        return self.config.task

    def of(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield items, those in the teacher's words for which that holds."""
        try:
            yield from self._each(items)
        finally:  # a corpus that is full takes no more
            self.context.note(
                f"{self.n_kept:,} of {self.n_asked:,} questions stand in the words of "
                f"{self.teacher.name}, which answered them without seeing the answer. The others "
                "stand as the task words them."
            )

    def _each(self, items: Iterator[Item]) -> Iterator[Item]:
        n_first = size_of_first_look(self.n_items)
        is_asking, batch = True, list[Item]()
        for item in items:
            if not is_asking or self._task.wording(item) is None:
                yield item
                continue
            batch.append(item)
            if len(batch) == (n_first or _ITEMS_PER_ROUND):
                found, is_asking = self._round(batch)
                if n_first and is_asking:
                    self._show_first(len(batch))
                yield from found
                batch, n_first = [], 0
        if batch:
            yield from self._round(batch)[0]

    def _show_first(self, n: int) -> None:
        what, usd = "stand in its words", self.tally.usd
        self.context.note(shown_first(self.teacher.name, what, self.n_kept, n, self.n_items, usd))

    def _foretell(self, items: Sequence[Item]) -> None:
        questions = [*requests(self._task, items), *self._readings(items)]
        n_chats = round(len(questions) * self.n_items / len(items))
        expect(self.teacher, questions, self.context, n_questions=n_chats)

    def _round(self, items: Sequence[Item]) -> tuple[list[Item], bool]:
        """Return items, worded where that holds, and whether to go on."""
        if not self.n_asked:
            self._foretell(items)
        questions = requests(self._task, items)
        answers = ask_and_count(self.teacher, questions, "asking", self.context, self.tally)
        made = {
            place: reworded
            for place, (item, answer) in enumerate(zip(items, answers, strict=False))
            if not is_truncated(answer)
            if (text := _text_of(answer.text))
            if (reworded := self._task.reworded(item, text)) is not None
        }
        checks = self._readings([*made.values()])
        readings = ask_and_count(self.teacher, checks, "checking", self.context, self.tally)
        found = list(items)
        for (place, item), reading in zip(made.items(), readings, strict=False):
            # What a teacher says twice teaches once: the second item keeps its own words.
            is_new = item.family not in self._said
            if is_new and self._task.score(reading.text, item).exact == 1:
                self._said.add(item.family)
                found[place] = item
                self.n_kept += 1
        self.n_asked += len(answers)
        why = ""
        if len(answers) + len(readings) < len(questions) + len(checks):
            why = "the budget is used up"
        elif self.n_asked >= LEAST and not self.n_kept:
            why = f"it read none of its first {self.n_asked} questions back as it should"
        if why:
            self.context.warn(f"Teacher {self.teacher.name} words no more questions: {why}.")
        return found, not why

    def _readings(self, items: Sequence[Item]) -> list[Question]:
        """Return the chats that ask a question as any other: the answer stands in none of them."""
        plan, task = self.plan, self._task
        limit = plan.max_tokens.get(plan.prompt)
        limit = limit or prompting(self.teacher, task).limit(plan.prompt).tokens
        return [Question(chat(task, item, plan.prompt), limit) for item in items]


def requests(task: Task, items: Iterable[Item]) -> list[Question]:
    """Return the chats that ask for other words, of the items whose question can have some."""
    chats = ((item, task.wording(item)) for item in items)
    return [
        Question(chat, limit_of([task.own_words(item.question)]).tokens)
        for item, chat in chats
        if chat is not None
    ]


def sizes_of(task: Task, items: Sequence[Item], n_items: int) -> Writing | None:
    """Return what wording the questions of `n_items` takes, told from some of them.

    Args:
        task: of the items.
        items: some whose question can have other words; none gives None.
        n_items: how many there will be.
    """
    if not items:
        return None
    asked = requests(task, items)
    own = fmean(len(task.own_words(item.question).encode()) for item in items)
    reading = fmean(n_bytes(task.messages(item, task.prompts[0])) for item in items)
    return Writing(
        n_items=n_items,
        n_expected=n_items,
        n_least=n_items,
        request_bytes=fmean(n_bytes(one.chat) for one in asked),
        reading_bytes=reading - own,
        read_share=1.0,
        conclusion_bytes=fmean(len(item.answer.encode()) for item in items),
        path_bytes=own,
        max_tokens=max(one.max_tokens for one in asked),
        n_retries=0,
        refused_share=0.0,
        feedback_bytes=0.0,
        is_learnt=False,
    )


def _text_of(answer: str) -> str:
    """Return the question that a teacher wrote, without a label and quotes around it."""
    text = answer.strip()
    head, found, rest = text.partition(":")
    if found and head.lower() in ("request", "new request", "question", "new question", "user"):
        text = rest.strip()
    is_quoted = len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES
    return text[1:-1].strip() if is_quoted else text
