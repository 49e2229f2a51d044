"""The student against the model that wrote the task's log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from stratos.core.intervals import wilson
from stratos.core.printable import shown
from stratos.evaluate.answers import Answers
from stratos.evaluate.metrics import mcnemar_exact
from stratos.records import LoggedVersus
from stratos.tasks.base import Item, Task


def doubted_beside(task: Task, items: Sequence[Item], seed: int) -> list[Item]:
    """Return requests of the test time whose logged answer is doubtful, for these test items.

    They are the same share of all of them that the items are of the test split.
    """
    if not task.is_log or task.logged is None or not task.logged.is_checked:
        return []
    found = task.doubted(task.n_test, seed)
    return found[: round(len(found) * len(items) / max(1, task.n_test))]


def against_log(
    task: Task,
    student: Answers,
    doubted: Sequence[Item],
    ask: Callable[[Sequence[Item]], Answers],
) -> LoggedVersus | None:
    """Compare the student with the logged model; None without a log that tells anything.

    Args:
        task: has the log.
        student: its answers to test items, whose logged answers pass all checks.
        doubted: requests of the same time whose logged answer does not.
        ask: asks the student.
    """
    logged = task.logged if task.is_log else None
    if logged is None or not logged.is_checked:
        return None
    asked = ask(doubted) if doubted else Answers.none()
    agree = [score.exact >= 1 for score in student.scores]
    doubts = [task.doubt(*one) for one in zip(student.items, student.texts, strict=True)]
    of_doubted = [task.doubt(*one) for one in zip(asked.items, asked.texts, strict=True)]
    n, n_doubtful = len(agree) + len(doubted), len(doubted)
    only_student, only_logged = of_doubted.count(None), agree.count(False)
    return LoggedVersus(
        model=shown(logged.name) or "the logged model",
        n_items=n,
        n_doubtful=n_doubtful,
        student_passes=wilson(sum(agree) + only_student, n),
        logged_passes=wilson(n - n_doubtful, n),
        only_student=only_student,
        only_logged=only_logged,
        p_value=mcnemar_exact(only_student, only_logged),
        agrees=wilson(sum(agree), len(agree)),
        student_doubts=dict(doubts_in([*doubts, *of_doubted]).most_common()),
    )


def doubts_in(found: Sequence[str | None]) -> Counter[str]:
    """Count what is doubtful, by reason."""
    return Counter(why for why in found if why is not None)
