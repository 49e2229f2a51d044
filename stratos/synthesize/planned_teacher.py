"""Ask the planned teacher in the planned way, and count what its answers take.

A teacher whose first answers are all wrong is asked no more. Of n wrong answers and no right one,
at most 3/n of all are right (95%, the rule of three).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.core.formats import counted, exact_usd, percent, percent_range, with_items
from stratos.core.intervals import wilson
from stratos.records import Plan
from stratos.synthesize.strategy import Tally
from stratos.tasks.base import Item, Message, Task
from stratos.teachers.asking import cost_usd, stream_down
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.cost_estimate import expect_again
from stratos.teachers.prompting import (
    AnswerLimit,
    ChatGroup,
    ask_whole,
    chat,
    n_truncated,
    prompting,
)


@dataclass(frozen=True, slots=True)
class Sampling:
    """One way of asking a question."""

    prompt: str
    limit: AnswerLimit
    """Longest answer."""
    sample: int = 0
    temperature: float | None = None

    def questions(self, task: Task, items: Sequence[Item]) -> list[Question]:
        """Return the chats that ask items so."""
        return [
            Question(
                chat(task, item, self.prompt), self.limit.tokens, self.sample, self.temperature
            )
            for item in items
        ]


def samplings(
    teacher: Teacher,
    prompts: Sequence[str],
    *,
    n_most: int,
    temperature: float,
    longest: Callable[[str], AnswerLimit],
) -> list[Sampling]:
    """Return how a question is asked the first, the second … time.

    Args:
        teacher: who is asked; one that draws no answers gives one to each prompt.
        prompts: tried in turn, before any answer is drawn with the first of them.
        n_most: times.
        temperature: of an answer that is drawn.
        longest: the longest answer to a prompt.
    """
    named = [Sampling(prompt, longest(prompt)) for prompt in prompts[:n_most]]
    # Samples of one prompt are numbered from 1: 0 is the answer that was asked for above.
    n_drawn = n_most - len(named) if teacher.draws else 0
    return named + [
        replace(named[0], sample=1 + k, temperature=temperature) for k in range(n_drawn)
    ]


@dataclass(frozen=True)
class Asking:
    """Whom a strategy asks, and where it counts what that takes."""

    config: Config
    plan: Plan
    context: Context
    tally: Tally
    teacher: Teacher

    @staticmethod
    def planned(config: Config, plan: Plan, context: Context, tally: Tally) -> Asking:
        """Return how the planned teacher is asked.

        Raises:
            TeacherError: it is not among the configured ones, or has no key.
        """
        return Asking(config, plan, context, tally, planned_teacher(config.teachers, plan, context))

    @property
    def task(self) -> Task:
        """What it is asked about."""
        return self.config.task

    def ask(self, questions: Sequence[Question], verb: str = "asking") -> list[Answer]:
        """Return the answers to as many questions as the money suffices for, and count them.

        Args:
            questions: in the order in which they are worth their money.
            verb: what is done to the teacher, for the progress.
        """
        answers = self.pay(questions, verb)
        self._count(answers)
        return answers

    def ask_whole(
        self,
        chats: Sequence[list[Message]],
        limit: AnswerLimit,
        pay: Callable[[Sequence[Question]], list[Answer]] | None = None,
    ) -> ChatGroup:
        """Return the answers to as many chats as the money suffices for, and count them.

        Those that are cut for want of room are asked for again, with more.

        Args:
            chats: in the order in which they are worth their money.
            limit: of an answer.
            pay: asks in another way than `pay`.
        """
        [whole] = ask_whole(
            self.teacher,
            [(chats, limit)],
            pay or self.pay,
            foretell=lambda more: expect_again(self.teacher, more, self.context),
        )
        self._count(whole.answers)
        return whole

    def pay(
        self,
        questions: Sequence[Question],
        verb: str = "asking",
        *,
        further: Sequence[Teacher] = (),
        n_later: int = 0,
    ) -> list[Answer]:
        """Return the answers to as many questions as the money suffices for, and what they take.

        Args:
            questions: in the order in which they are worth their money.
            verb: what is done to the teacher, for the progress.
            further: who go on where its money ends, one after the other.
            n_later: questions that would come behind these.
        """
        name, tick = self.teacher.name, with_items(self.context.tick)
        stream = stream_down(
            [self.teacher, *further],
            questions,
            self.context,
            tick=lambda done, total: tick(done, total, f"{verb} {name}"),
        )
        answers: list[Answer] = []
        try:
            with closing(stream):
                for teacher, answer in stream:
                    self.tally.teacher_tokens += answer.input_tokens + answer.output_tokens
                    self.tally.usd += cost_usd(teacher.card(), [answer])
                    answers.append(answer)
        except BudgetError as error:
            n_unasked = counted(len(questions) + n_later - len(answers), "question")
            self.context.ledger.cut()
            self.context.warn(f"Teacher {name} was asked {n_unasked} less: {error}")
        return answers

    def _count(self, answers: Sequence[Answer]) -> None:
        self.tally.n_answers += len(answers)
        self.tally.n_truncated += n_truncated(answers)

    def unseen(self, items: Sequence[Item]) -> list[Question]:
        """Return the chats that ask items as any other: the answer stands in none of them."""
        prompt = self.plan.prompt
        limit = longest_answer(self.task, self.teacher, prompt, self.plan.max_tokens)
        return Sampling(prompt, limit).questions(self.task, items)


def longest_answer(
    task: Task, teacher: Teacher, prompt: str, probed: Mapping[str, int], own: int | None = None
) -> AnswerLimit:
    """Return the longest answer to a prompt: the strategy's own, the probe's, or the data's."""
    if own is None and prompt in probed:
        return AnswerLimit(probed[prompt], "as in the probe")
    return prompting(teacher, task).limit(prompt, own, "strategy.max_tokens")


def planned_teacher(teachers: Sequence[Teacher], plan: Plan, context: Context) -> Teacher:
    """Return the teacher that the plan chose, to be asked in the way that it chose.

    Raises:
        TeacherError: it is not among the configured ones, or has no key.
    """
    for teacher in teachers:
        if teacher.name == plan.teacher:
            return context.engine.spread(_in_its_way(teacher, plan, context))
    known = ", ".join(teacher.name for teacher in teachers)
    raise TeacherError(
        f"The plan's teacher {plan.teacher} is not configured (configured: {known}). "
        "Give the command that made the plan, or plan again with stages=[probe,plan,synthesize]."
    )


def _in_its_way(teacher: Teacher, plan: Plan, context: Context) -> Teacher:
    """Return a teacher that hands questions in as batches, where the plan counts with that."""
    hours = [role.hours for role in plan.roles_of("teacher") if role.as_batch]
    n_under_way = context.ledger.batches.n_under_way(f"teacher {teacher.name}")
    if n_under_way and teacher.takes_batches:
        context.note(
            f"Teacher {teacher.name}: a batch of {counted(n_under_way, 'question', spec=',')} from "
            "an earlier run is paid and still running: waiting for it."
        )
        return teacher.as_batch()
    if not hours or teacher.batch:
        return teacher
    if not teacher.takes_batches:
        context.warn(
            f"The plan buys the answers of {teacher.name} as a batch, which its class does not "
            "support: the questions are sent one by one, at the full price."
        )
        return teacher
    context.note(
        f"Teacher {teacher.name} is asked through its provider's batch API, as planned: answers "
        f"come within {counted(hours[0], 'hour', spec='g')}. To get them sooner, plan with"
        " limits.deadline_hours=…"
    )
    return teacher.as_batch()


LEAST, _MOST, _SHARE = 64, 512, 1 / 16
"""Items of the first look: a share of all of them, between two bounds."""


def size_of_first_look(n_items: int) -> int:
    """Return after how many items it is told whether a teacher is ever right; 0 for no look.

    Args:
        n_items: of all.
    """
    n = round(min(_MOST, max(LEAST, _SHARE * n_items)))
    return n if n < n_items else 0


def shown_first(who: str, what: str, n_good: int, n: int, n_items: int, paid_usd: float) -> str:
    """Return as a sentence what the first answers show, before all others are paid.

    Args:
        who: was asked.
        what: is so of the good ones, such as "agree".
        n_good: how many are.
        n: items that were asked about.
        n_items: how many there are.
        paid_usd: what these cost.
    """
    share = wilson(n_good, n)
    paid = ""
    if paid_usd:
        rest = exact_usd(paid_usd * (n_items - n) / n)
        paid = f" {exact_usd(paid_usd)} is paid for them, about {rest} for the others."
    return (
        f"Teacher {who}: of the first {counted(n, 'item')} of {n_items:,}, {n_good} {what}, "
        f"{percent(share.mean)} ({percent_range(share.low, share.high)}).{paid}"
    )


def none_right(reason: str, n: int, n_items: int, paid_usd: float, instead: str) -> TeacherError:
    """Return the error that ends the asking.

    Args:
        reason: what was wrong, and the first example of it, as sentences.
        n: how many it was asked.
        n_items: how many there are.
        paid_usd: what that cost.
        instead: what to type.
    """
    paid = f" {exact_usd(paid_usd)} is paid for them." if paid_usd else ""
    return TeacherError(
        f"{reason}{paid} At most {3 / n:.1%} of all {n_items:,} can be expected to be right (95%): "
        f"no more are asked. Type {instead}."
    )
