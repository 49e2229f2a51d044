"""Ask the planned teacher in the planned way, and count what its answers take."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.counted import counted
from stratos.core.errors import TeacherError
from stratos.core.item_progress import with_items
from stratos.records import Plan
from stratos.synthesize.strategy import Tally
from stratos.teachers.answer_limit import is_truncated
from stratos.teachers.asking import ask_questions, cost_usd
from stratos.teachers.base import Answer, Question, Teacher


def ask_and_count(
    teacher: Teacher, questions: Sequence[Question], verb: str, context: Context, tally: Tally
) -> list[Answer]:
    """Return the answers to as many questions as the money suffices for, and count them.

    Args:
        teacher: who is asked.
        questions: in the order in which they are worth their money.
        verb: what is done to the teacher, for the progress.
        context: of the run.
        tally: counts answers, tokens and dollars.
    """
    tick = with_items(context.tick)
    answers = ask_questions(
        teacher,
        questions,
        context,
        tick=lambda done, total: tick(done, total, f"{verb} {teacher.name}"),
        cut=True,
    )
    tally.n_answers += len(answers)
    tally.n_truncated += sum(map(is_truncated, answers))
    tally.teacher_tokens += sum(one.input_tokens + one.output_tokens for one in answers)
    tally.usd += cost_usd(teacher.card(), answers)
    return answers


def planned_teacher(config: Config, plan: Plan, context: Context) -> Teacher:
    """Return the teacher that the plan chose, to be asked in the way that it chose.

    Raises:
        TeacherError: it is not among the configured ones, or has no key.
    """
    for teacher in config.teachers:
        if teacher.name == plan.teacher:
            return context.engine.spread(_in_its_way(teacher, plan, context))
    known = ", ".join(teacher.name for teacher in config.teachers)
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
