"""What a log proves of the model that wrote it: nobody is asked."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.core.counted import counted
from stratos.core.intervals import wilson
from stratos.records import AnswerSpread, Interval, LoggedProof, TeacherProbe
from stratos.tasks.base import Task
from stratos.tasks.logged_model import mean_and_deviation
from stratos.teachers.base import Teacher
from stratos.teachers.logged import LoggedTeacher

_AS_LOGGED = "zero_shot"
"""The prompt of chats as they were logged."""
_NOTHING = Interval(0.5, 0.0, 1.0, "nothing in the log could show a wrong answer", is_known=False)


def of_log(teacher: LoggedTeacher) -> TeacherProbe:
    """Return what the answers of the validation time prove of their model.

    Its accuracy is at most the share of them that nothing speaks against: no check tells a wrong
    answer that looks like a right one.
    """
    assert teacher.log is not None and teacher.log.logged is not None
    found = teacher.log.logged
    asked, asked_by = mean_and_deviation(found.input_tokens)
    said, said_by = mean_and_deviation(found.output_tokens)
    n = found.n_rows
    source = f"{counted(n, 'logged answer', spec=',')}, by the checks of the log: an upper bound"
    return TeacherProbe(
        teacher=teacher.name,
        card=teacher.card(),
        prompt=_AS_LOGGED,
        n_items=n,
        exact=wilson(found.n_held, n, source=source) if found.is_checked and n else _NOTHING,
        choice=wilson(0, 0),
        exact_by_slice={},
        parsable=1.0,
        echoes=0.0,
        input_tokens=round(asked * n),
        output_tokens=round(said * n),
        seconds=0.0,
        cpu_seconds=0.0,
        usd=0.0,
        n_cached=n,
        spread=AnswerSpread(asked_by, said_by, 0.0) if n > 1 else None,
        logged=LoggedProof(found.name, found.is_checked, dict(found.doubts), found.are_counted),
    )


def priced_log(teachers: Sequence[Teacher], task: Task) -> LoggedTeacher | None:
    """Return the logged teacher of a run, or one by its model's card; None without log or price."""
    if not task.is_log:
        return None
    own = [one for one in teachers if isinstance(one, LoggedTeacher)]
    teacher = own[0] if own else LoggedTeacher().of(task)
    return teacher if teacher.unreachable() is None else None


def said_of(one: TeacherProbe) -> str:
    """Return as a sentence what the log proves; "" of a model that was asked."""
    proof = one.logged
    if proof is None:
        return ""
    n = counted(one.n_items, "answer", spec=",")
    guess = (
        ""
        if proof.are_counted
        else " The log does not say all tokens: four characters count as one."
    )
    if not proof.is_checked:
        return (
            f"{proof.model} is known by its log: nothing in it could show that one of its {n} of "
            f"the validation time is wrong.{guess}"
        )
    why = "; ".join(f"{k:,} × {reason}" for reason, k in proof.doubts.items())
    against = f" Doubtful: {why}." if why else ""
    return (
        f"{proof.model} is known by its log: nothing speaks against {one.exact.mean:.1%} of its "
        f"{n} of the validation time, which is an upper bound of its accuracy.{against}{guess}"
    )
