"""Rationales: the teacher writes reasoning for a known answer, which is checked without it.

The request holds the answer, the reasoning must not lean on it: a text that mentions having been
told is refused. What is left is checked answer-blind. Where the task can check its steps, they are
checked; else the teacher reads the reasoning again with its conclusion cut off, and has to come to
the answer that it never saw in that chat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from stratos.core.reasons import Reason
from stratos.synthesize.planned_teacher import LEAST, Asking, shown_first, size_of_first_look
from stratos.synthesize.strategy import NotWritten, Writing, WrongReasoning
from stratos.tasks.answers import states_answer
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.chat import MARK
from stratos.teachers.base import TOO_LONG, Question
from stratos.teachers.call_budget import is_paid, n_bytes
from stratos.teachers.cost_estimate import expect
from stratos.teachers.prompting import AnswerLimit, is_truncated, limit_of

_HOW = "You write worked solutions. Reason step by step, from the question alone."
_TOLD = re.compile(
    r"\b(?:given|provided|stated|known|told|correct|right|expected|gold)\s+(?:final\s+)?answer\b"
    r"|\banswer\s+(?:is|was|has been)\s+(?:already\s+)?(?:given|provided|stated|known|told)\b"
    r"|\b(?:you|i)\s+(?:were|was|am|are|have been)\s+(?:told|given)\b|\bas you (?:said|told)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_FEWEST_WORDS = 5
"""Words without which a text is no reasoning."""


@dataclass
class Writer:
    """Lets a teacher write the reasoning of labelled items, and checks it."""

    asking: Asking
    limit: AnswerLimit
    """Of a reasoning; raised where too many are cut."""
    n_retries: int

    @property
    def is_paid(self) -> bool:
        """Whether the teacher's tokens cost anything."""
        return is_paid(self.asking.teacher.card())

    def foretell(self, items: Sequence[Item], n_items: int) -> None:
        """Say what writing once for each of `n_items` will cost; refuse it if money is lacking.

        What is read or written again on top of that ends where the money does.

        Args:
            items: evenly spaced ones of them.
            n_items: how many there will be.

        Raises:
            BudgetError: the money does not suffice.
        """
        questions = [Question(request(item), self.limit.tokens) for item in items]
        estimate = expect(self.asking.teacher, questions, self.asking.context, n_questions=n_items)
        estimate.check("lower strategy.n_items, take strategy.rationale=engine")

    def write(self, items: Sequence[Item]) -> list[Item | Reason]:
        """Return each item with a reasoning that holds, or why it has none."""
        written: list[Item | Reason] = [NotWritten.NO_MONEY] * len(items)
        chats = [request(item) for item in items]
        pending = list(range(len(items)))
        for _ in range(1 + self.n_retries):
            texts = self._ask([chats[i] for i in pending])
            has_money = len(texts) == len(pending)
            indices = pending[: len(texts)]
            made = [_without_conclusion(text or "") for text in texts]
            problems = self._problems([items[i] for i in indices], texts, made)
            pending = []
            for index, text, body, problem in zip(indices, texts, made, problems, strict=True):
                if problem is None:
                    written[index] = replace(items[index], rationale=body, choices=())
                    continue
                # A text that cannot be read back does not hide what was wrong with an earlier one.
                if text is not None or written[index] is NotWritten.NO_MONEY:
                    written[index] = problem
                if text is None or problem is NotWritten.UNREAD:
                    continue  # the next chat would be longer
                pending.append(index)
                chats[index] = [*chats[index], *_feedback(text, problem)]
            if not (has_money and pending):
                break
        return written

    def _problems(
        self, items: Sequence[Item], texts: Sequence[str | None], bodies: Sequence[str]
    ) -> list[Reason | None]:
        """Return what is wrong with each text, or None; one look of the teacher at most."""
        problems: list[Reason | None] = []
        unread: list[int] = []
        for item, text, body in zip(items, texts, bodies, strict=True):
            written = replace(item, rationale=body)
            problem = self._at_once(written, text)
            if problem is None and not self.asking.task.checks_steps(written):
                unread.append(len(problems))
            problems.append(problem)
        readings = self._ask([reading(items[i], bodies[i]) for i in unread])
        for position, index in enumerate(unread):
            if position >= len(readings):
                problems[index] = NotWritten.NO_MONEY
            elif (text := readings[position]) is None:
                problems[index] = NotWritten.UNREAD
            elif self.asking.task.score(text, items[index]).exact < 1:
                problems[index] = NotWritten.LEADS_ELSEWHERE
        return problems

    def _at_once(self, written: Item, text: str | None) -> Reason | None:
        if text is None:
            return NotWritten.UNREAD
        if _TOLD.search(text):
            return NotWritten.MENTIONS_ANSWER
        if len(written.rationale.split()) < _FEWEST_WORDS:
            return NotWritten.NO_REASONING
        if self.asking.task.score(text, written).exact < 1:
            return NotWritten.OTHER_ANSWER
        problem = self.asking.task.verify(written)
        return None if problem is None else WrongReasoning(problem)

    def _ask(self, chats: Sequence[list[Message]]) -> list[str | None]:
        """Return the answers, fewer where the money ends; None for a chat that is too long."""
        result = self.asking.ask_whole(chats, self.limit)
        self.limit = result.limit.measured_by(result.answers)
        return [
            None if answer.finish == TOO_LONG else answer.text.strip() for answer in result.answers
        ]


def request(item: Item) -> list[Message]:
    """Return the chat that asks for the reasoning to a known answer."""
    instruction = (
        f"{item.question}\n\nThe answer is {item.answer}. Write the reasoning that leads from the "
        "question to it, as somebody would who does not know it yet: do not mention that it was "
        f"given. End with a line '{MARK} {item.answer}'."
    )
    return [{"role": "system", "content": _HOW}, {"role": "user", "content": instruction}]


def reading(item: Item, body: str) -> list[Message]:
    """Return the chat that reads a reasoning without its conclusion, and without the answer."""
    instruction = (
        f"Question: {item.question}\n\nSomebody's reasoning, of which the end is missing:\n{body}"
        f"\n\nWhat answer does this reasoning lead to? Reply with one line '{MARK} …'."
    )
    how = "You read other people's reasoning and say where it leads, right or wrong."
    return [{"role": "system", "content": how}, {"role": "user", "content": instruction}]


def sizes_of(
    task: Task,
    items: Sequence[Item],
    n_items: int,
    max_tokens: int,
    *,
    n_retries: int,
    refused_share: float,
) -> Writing | None:
    """Return what writing the reasoning of `n_items` takes, told from some of them.

    Args:
        task: says whether it can check the steps of what is written.
        items: some of them; none gives None.
        n_items: how many there will be.
        max_tokens: longest answer.
        n_retries: how often a refused one may be written again.
        refused_share: share that is expected to be refused, each time.
    """
    if not items:
        return None
    conclusion = fmean(len(f"{MARK} {item.answer}".encode()) for item in items)
    paths = [len(item.rationale.encode()) for item in items if item.rationale]
    return Writing(
        n_items=n_items,
        request_bytes=fmean(n_bytes(request(item)) for item in items),
        reading_bytes=fmean(n_bytes(reading(item, "")) for item in items),
        read_share=fmean(not task.checks_steps(item) for item in items),
        conclusion_bytes=conclusion,
        path_bytes=fmean(paths) + conclusion if paths else None,
        max_tokens=max_tokens,
        n_retries=n_retries,
        refused_share=refused_share,
        feedback_bytes=n_bytes(_feedback("", NotWritten.OTHER_ANSWER)),
    )


def _feedback(text: str, problem: Reason) -> list[Message]:
    again = f"That does not hold: {problem}. Write it again, from the question alone."
    return [{"role": "assistant", "content": text}, {"role": "user", "content": again}]


def _without_conclusion(text: str) -> str:
    """Return a reasoning without the lines and sentences at its end that announce the answer."""
    lines = text.rstrip().splitlines()
    while lines and (not lines[-1].strip() or states_answer(lines[-1])):
        sentences = _SENTENCE.split(lines.pop())
        rest = [sentence for sentence in sentences if not states_answer(sentence)]
        if " ".join(rest).strip():
            lines.append(" ".join(rest))
            break
    return "\n".join(lines).rstrip()


_ITEMS_PER_ROUND = 256
_QUOTES = "\"'“”‘’`"


@dataclass
class Wording:
    """Has a teacher word the questions that a task made, and read them without the answers."""

    asking: Asking
    n_items: int
    """How many there will be."""
    n_asked: int = field(init=False, default=0)
    n_kept: int = field(init=False, default=0)
    """Questions that stand in the teacher's words."""
    _said: set[str] = field(init=False, default_factory=set)

    def of(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield items, those in the teacher's words for which that holds."""
        try:
            yield from self._each(items)
        finally:  # a corpus that is full takes no more
            self.asking.context.note(
                f"{self.n_kept:,} of {self.n_asked:,} questions stand in the words of "
                f"{self.asking.teacher.name}, which answered them without seeing the answer. The "
                "others stand as the task words them."
            )

    def _each(self, items: Iterator[Item]) -> Iterator[Item]:
        n_first = size_of_first_look(self.n_items)
        is_asking, batch = True, list[Item]()
        for item in items:
            if not is_asking or self.asking.task.wording(item) is None:
                yield item
                continue
            batch.append(item)
            if len(batch) == (n_first or _ITEMS_PER_ROUND):
                rewritten, is_asking = self._round(batch)
                if n_first and is_asking:
                    self._show_first(len(batch))
                yield from rewritten
                batch, n_first = [], 0
        if batch:
            yield from self._round(batch)[0]

    def _show_first(self, n: int) -> None:
        name, usd = self.asking.teacher.name, self.asking.tally.usd
        what = "stand in its words"
        self.asking.context.note(shown_first(name, what, self.n_kept, n, self.n_items, usd))

    def _foretell(self, items: Sequence[Item]) -> None:
        questions = [*requests(self.asking.task, items), *self.asking.unseen(items)]
        n_chats = round(len(questions) * self.n_items / len(items))
        expect(self.asking.teacher, questions, self.asking.context, n_questions=n_chats)

    def _round(self, items: Sequence[Item]) -> tuple[list[Item], bool]:
        """Return items, worded where that holds, and whether to go on."""
        if not self.n_asked:
            self._foretell(items)
        questions = requests(self.asking.task, items)
        answers = self.asking.ask(questions)
        made = {
            index: reworded
            for index, (item, answer) in enumerate(zip(items, answers, strict=False))
            if not is_truncated(answer)
            if (text := _text_of(answer.text))
            if (reworded := self.asking.task.reworded(item, text)) is not None
        }
        checks = self.asking.unseen([*made.values()])
        readings = self.asking.ask(checks, "checking")
        rewritten = list(items)
        for (index, item), reading in zip(made.items(), readings, strict=False):
            # What a teacher says twice teaches once: the second item keeps its own words.
            is_new = item.family not in self._said
            if is_new and self.asking.task.score(reading.text, item).exact == 1:
                self._said.add(item.family)
                rewritten[index] = item
                self.n_kept += 1
        self.n_asked += len(answers)
        why = ""
        if len(answers) + len(readings) < len(questions) + len(checks):
            why = "the budget is used up"
        elif self.n_asked >= LEAST and not self.n_kept:
            why = f"it read none of its first {self.n_asked} questions back as it should"
        if why:
            self.asking.context.warn(
                f"Teacher {self.asking.teacher.name} words no more questions: {why}."
            )
        return rewritten, not why


def requests(task: Task, items: Iterable[Item]) -> list[Question]:
    """Return the chats that ask for other words, of the items whose question can have some."""
    chats = ((item, task.wording(item)) for item in items)
    return [
        Question(chat, limit_of([task.own_words(item.question)]).tokens)
        for item, chat in chats
        if chat is not None
    ]


def sizes_of_wording(task: Task, items: Sequence[Item], n_items: int) -> Writing | None:
    """Return what wording the questions of `n_items` takes, told from some of them.

    Args:
        task: of the items.
        items: some whose question can have other words; none gives None.
        n_items: how many there will be.
    """
    if not items:
        return None
    questions = requests(task, items)
    own = fmean(len(task.own_words(item.question).encode()) for item in items)
    reading = fmean(n_bytes(task.messages(item, task.prompts[0])) for item in items)
    return Writing(
        n_items=n_items,
        request_bytes=fmean(n_bytes(question.chat) for question in questions),
        reading_bytes=reading - own,
        read_share=1.0,
        conclusion_bytes=fmean(len(item.answer.encode()) for item in items),
        path_bytes=own,
        max_tokens=max(question.max_tokens for question in questions),
        n_retries=0,
        refused_share=0.0,
        feedback_bytes=0.0,
        is_learnt=False,
    )


def _text_of(answer: str) -> str:
    """Return the question that a teacher wrote, without a label and quotes around it."""
    text = answer.strip()
    head, colon, rest = text.partition(":")
    if colon and head.lower() in ("request", "new request", "question", "new question", "user"):
        text = rest.strip()
    is_quoted = len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES
    return text[1:-1].strip() if is_quoted else text
