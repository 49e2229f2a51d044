"""Self-consistency of a teacher: agreement of several samples at temperature 1.

A teacher that says something else each time is guessing, whatever its likeliest answer is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from stratos.core.context import Context
from stratos.core.counted import counted
from stratos.core.errors import BudgetError, TeacherError
from stratos.probe.complexity import agreement_and_entropy
from stratos.records import SampledAnswers
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Item, Task
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.prompting import chat

TEMPERATURE = 1.0
"""The teacher's own distribution; some providers take no other."""


NOT_LEARNT_FROM = "the teacher covers too little for a strategy of this run to learn from it"
"""Why no samples are drawn of most blind teachers: nothing hinges on them."""


@dataclass(frozen=True)
class Drawn:
    """The answers that were drawn, and how far they agree."""

    record: SampledAnswers
    asked: tuple[tuple[Item, Question, Answer], ...] = ()


def sample_questions(
    task: Task, items: Sequence[Item], prompt: str, n_samples: int, max_tokens: int
) -> list[Question]:
    """Return the questions of all samples, those of one item together.

    Args:
        task: writes the chats.
        items: each is asked `n_samples` times.
        prompt: of the task.
        n_samples: numbered from 1, as 0 is the likeliest answer.
        max_tokens: longest answer.
    """
    return [
        Question(chat(task, item, prompt), max_tokens, 1 + k, TEMPERATURE)
        for item in items
        for k in range(n_samples)
    ]


def draw(
    teacher: Teacher,
    task: Task,
    items: Sequence[Item],
    questions: Sequence[Question],
    context: Context,
    limit_usd: float | None,
) -> Drawn:
    """Ask for the samples and compare them; where the money ends, the items up to there count.

    A teacher that cannot be asked so is no worse a teacher: the record says why not.

    Args:
        teacher: who is asked.
        task: reads the answers.
        items: as of `sample_questions`.
        questions: as `sample_questions` returns them; none are not asked.
        context: of the stage.
        limit_usd: a tighter cap than the budget.
    """
    n_samples = len(questions) // max(1, len(items))
    if n_samples < 2:
        return Drawn(none_drawn("probe.n_samples=0 or probe.n_sample_items=0 asks for none"))
    if not teacher.draws:
        return Drawn(none_drawn("the teacher gives one answer per question"))
    answers: list[Answer] = []
    reason = "the budget did not cover a single item"
    try:
        with closing(stream_ask(teacher, questions, context, limit_usd=limit_usd)) as asking:
            answers.extend(asking)
    except BudgetError as error:
        n_left = len(questions) - len(answers)
        context.ledger.cut(limit_usd)
        context.warn(f"Teacher {teacher.name} was asked {counted(n_left, 'sample')} less: {error}")
    except TeacherError as error:
        context.warn(f"How far samples of {teacher.name} agree is not known: {error}")
        reason = "the teacher failed to give samples"
    asked = tuple(
        (items[k // n_samples], question, answer)
        for k, (question, answer) in enumerate(zip(questions, answers, strict=False))
    )
    n_items = len(answers) // n_samples
    read = [_read(task, item, answer) for item, _, answer in asked]
    found = agreement_and_entropy(
        [read[i * n_samples : (i + 1) * n_samples] for i in range(n_items)]
    )
    if found is None:
        return Drawn(none_drawn(reason), asked)
    return Drawn(SampledAnswers(n_items, n_samples, TEMPERATURE, *found), asked)


def _read(task: Task, item: Item, answer: Answer) -> AnswerText | None:
    return task.parse(answer.text) if task.score(answer.text, item).parsed else None


def none_drawn(reason: str) -> SampledAnswers:
    """Return the record of samples that were not drawn, with the reason."""
    return SampledAnswers(0, 0, TEMPERATURE, reason=reason)
