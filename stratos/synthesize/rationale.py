"""Rationales: the teacher writes reasoning for a known answer, which is checked without it.

The request holds the answer, the reasoning must not lean on it: a text that mentions having been
told is refused. What is left is checked answer-blind. Where the task can check its steps, they are
checked; else the teacher reads the reasoning again with its conclusion cut off, and has to come to
the answer that it never saw in that chat.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean

from stratos.core.context import Context
from stratos.core.errors import BudgetError
from stratos.core.reasons import Reason
from stratos.synthesize.strategy import Tally, Writing
from stratos.synthesize.words import NotWritten, WrongReasoning
from stratos.tasks.answers import states_answer
from stratos.tasks.base import Item, Message, Task
from stratos.tasks.chat import MARK
from stratos.teachers.answer_limit import AnswerLimit, ask_whole
from stratos.teachers.asking import cost_usd, stream_ask
from stratos.teachers.base import TOO_LONG, Answer, Question, Teacher
from stratos.teachers.call_budget import is_paid, n_bytes
from stratos.teachers.cost_estimate import expect, expect_again

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

    task: Task
    teacher: Teacher
    context: Context
    tally: Tally
    limit: AnswerLimit
    """Of a reasoning; raised where too many are cut."""
    n_retries: int

    @property
    def is_paid(self) -> bool:
        """Whether the teacher's tokens cost anything."""
        return is_paid(self.teacher.card())

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
        told = expect(self.teacher, questions, self.context, n_questions=n_items)
        told.check("lower strategy.n_items, take strategy.rationale=engine")

    def write(self, items: Sequence[Item]) -> list[Item | Reason]:
        """Return each item with a reasoning that holds, or why it has none."""
        written: list[Item | Reason] = [NotWritten.NO_MONEY] * len(items)
        chats = [request(item) for item in items]
        pending = list(range(len(items)))
        for _ in range(1 + self.n_retries):
            texts = self._ask([chats[i] for i in pending])
            has_money = len(texts) == len(pending)
            asked = pending[: len(texts)]
            made = [_without_conclusion(text or "") for text in texts]
            problems = self._problems([items[i] for i in asked], texts, made)
            pending = []
            for index, text, body, problem in zip(asked, texts, made, problems, strict=True):
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
            if problem is None and not self.task.checks_steps(written):
                unread.append(len(problems))
            problems.append(problem)
        readings = self._ask([reading(items[i], bodies[i]) for i in unread])
        for place, index in enumerate(unread):
            if place >= len(readings):
                problems[index] = NotWritten.NO_MONEY
            elif (text := readings[place]) is None:
                problems[index] = NotWritten.UNREAD
            elif self.task.score(text, items[index]).exact < 1:
                problems[index] = NotWritten.LEADS_ELSEWHERE
        return problems

    def _at_once(self, written: Item, text: str | None) -> Reason | None:
        if text is None:
            return NotWritten.UNREAD
        if _TOLD.search(text):
            return NotWritten.MENTIONS_ANSWER
        if len(written.rationale.split()) < _FEWEST_WORDS:
            return NotWritten.NO_REASONING
        if self.task.score(text, written).exact < 1:
            return NotWritten.OTHER_ANSWER
        problem = self.task.verify(written)
        return None if problem is None else WrongReasoning(problem)

    def _ask(self, chats: Sequence[list[Message]]) -> list[str | None]:
        """Return the answers, fewer where the money ends; None for a chat that is too long."""
        [asked] = ask_whole(
            self.teacher,
            [(chats, self.limit)],
            self._answers,
            foretell=lambda more: expect_again(self.teacher, more, self.context),
        )
        self.limit = asked.limit.measured_by(asked.answers)
        self.tally.n_answers += len(asked.answers)
        self.tally.n_truncated += len(asked.truncated)
        return [None if one.finish == TOO_LONG else one.text.strip() for one in asked.answers]

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        answers: list[Answer] = []
        try:
            with closing(stream_ask(self.teacher, questions, self.context)) as asking:
                answers.extend(asking)
        except BudgetError as error:
            self.context.ledger.cut()
            self.context.warn(f"Teacher {self.teacher.name} wrote no more reasoning: {error}")
        self.tally.teacher_tokens += sum(a.input_tokens + a.output_tokens for a in answers)
        self.tally.usd += cost_usd(self.teacher.card(), answers)
        return answers


def request(item: Item) -> list[Message]:
    """Return the chat that asks for the reasoning to a known answer."""
    wanted = (
        f"{item.question}\n\nThe answer is {item.answer}. Write the reasoning that leads from the "
        "question to it, as somebody would who does not know it yet: do not mention that it was "
        f"given. End with a line '{MARK} {item.answer}'."
    )
    return [{"role": "system", "content": _HOW}, {"role": "user", "content": wanted}]


def reading(item: Item, body: str) -> list[Message]:
    """Return the chat that reads a reasoning without its conclusion, and without the answer."""
    wanted = (
        f"Question: {item.question}\n\nSomebody's reasoning, of which the end is missing:\n{body}"
        f"\n\nWhat answer does this reasoning lead to? Reply with one line '{MARK} …'."
    )
    how = "You read other people's reasoning and say where it leads, right or wrong."
    return [{"role": "system", "content": how}, {"role": "user", "content": wanted}]


def sizes_of(
    task: Task,
    items: Sequence[Item],
    n_items: int,
    max_tokens: int,
    *,
    n_retries: int,
    refused_share: float,
    n_trial: int | None = None,
) -> Writing | None:
    """Return what writing the reasoning of `n_items` takes, told from some of them.

    Args:
        task: says whether it can check the steps of what is written.
        items: some of them; none gives None.
        n_items: how many there will be.
        max_tokens: longest answer.
        n_retries: how often a refused one may be written again.
        refused_share: share that is expected to be refused, each time.
        n_trial: items on which the teacher is tried; it writes the others only if it is right more
            often than the paths that the items bring. None where it writes all.
    """
    if not items:
        return None
    conclusion = fmean(len(f"{MARK} {item.answer}".encode()) for item in items)
    n_tried = n_items if n_trial is None else min(n_trial, n_items)
    holds = fmean(bool(item.rationale) and task.verify(item) is None for item in items)
    wins = n_trial is None or 1 - refused_share ** (1 + n_retries) > holds
    paths = [len(item.rationale.encode()) for item in items if item.rationale]
    return Writing(
        n_items=n_items,
        n_expected=n_items if wins else n_tried,
        n_least=n_tried,
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
        kept = [one for one in sentences if not states_answer(one)]
        if " ".join(kept).strip():
            lines.append(" ".join(kept))
            break
    return "\n".join(lines).rstrip()
