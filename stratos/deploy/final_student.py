"""The student that is served: it has learnt all rows, once the test has measured it.

With more rows a student gets better, as a rule. What can be checked of that is checked here: it and
the student that was tested answer the same rows of the run, and where the final one is surely right
less often, the tested one is served. That says nothing of other rows, which the test alone does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stratos.config import Config
from stratos.core.formats import counted, percent
from stratos.core.pairs import mcnemar_exact
from stratos.core.reasons import Reason
from stratos.evaluate.verdict import SURE
from stratos.models.kinds import load_predictor
from stratos.models.kinds.base import weights_bytes
from stratos.records import Corpus, Student
from stratos.tasks.base import Item, Split, Task

_MOST_ASKED = 400
"""Rows of each split that both students answer."""


class TrainedOnce(Reason):
    """A language model is not trained again on all rows."""

    student: str
    n_rows: int

    def __str__(self) -> str:
        rows = counted(self.n_rows, "test row", spec=",")
        return (
            f"{self.student} is served as it was tested, without the {rows}: formats of a language "
            "model are compared on them, so that it may not learn them."
        )


class FinalIsWorse(Reason):
    """The student that learnt all rows is right less often than the tested one, which is served."""

    n_rows: int
    only_tested: int
    only_final: int
    p_value: float

    def __str__(self) -> str:
        return (
            f"The student that was trained again on all rows is worse on {self.n_rows:,} of them "
            f"(right alone on {self.only_final:,}, the tested one on {self.only_tested:,}, "
            f"p = {self.p_value:.2g}): the tested one is served."
        )


class FinalIsLarger(Reason):
    """What learnt all rows is larger than `limits.model_mb`, so that the tested one is served."""

    mb: float
    most_mb: float
    tested_mb: float

    def __str__(self) -> str:
        return (
            f"The student that was trained again on all rows has {self.mb:.6g} MB "
            f"(limits.model_mb={self.most_mb:g}): the tested one is served, with "
            f"{self.tested_mb:.6g} MB."
        )


class Agrees(Reason):
    """How often the final student answers as the tested one does."""

    agreement: float
    n_rows: int

    def __str__(self) -> str:
        rows = counted(self.n_rows, "row", spec=",")
        share = percent(self.agreement)
        return f"What is served answers {share} of {rows} as the tested student does."


@dataclass(frozen=True)
class FinalStudent:
    """What is served."""

    folder: Path
    n_rows: int = 0
    """That it has learnt, those of the test among them; 0 where it is the tested one."""
    agreement: float | None = None
    """Share of rows of the run that it answers as the tested one does; None where it is that."""
    note: Reason | None = None


def final_student(
    config: Config, student: Student, corpus: Corpus | None, folder: Path
) -> FinalStudent:
    """Return what is served: by `trainer.final` a student of all rows, or the tested one.

    Args:
        config: of the run.
        student: what the test has measured.
        corpus: what it learnt; None where its record is not at hand.
        folder: to write the final one into.
    """
    tested, task = FinalStudent(Path(student.path)), config.task
    if corpus is None or config.trainer.final == "train":
        return tested
    if student.is_lm:
        is_own = task.has_rows and not task.tests_other_rows
        note = TrainedOnce(student.name, task.n_test) if is_own else None
        return FinalStudent(tested.folder, note=note)
    from stratos.distill.kind_training import with_test_rows  # imports scipy

    path, n_rows = with_test_rows(config, student, corpus, folder)
    if not n_rows:
        return tested
    most_mb = config.limits.model_mb
    mb, tested_mb = (weights_bytes(each) / 1e6 for each in (path, tested.folder))
    if most_mb is not None and max(tested_mb, most_mb) < mb:
        return replace(tested, note=FinalIsLarger(mb, most_mb, tested_mb))
    splits: tuple[Split, ...] = ("train", "validation", "test")
    items = [item for split in splits for item in task.items(split, _MOST_ASKED)]
    return compared(task, items, tested.folder, FinalStudent(path, n_rows))


def compared(task: Task, items: Sequence[Item], tested: Path, final: FinalStudent) -> FinalStudent:
    """Return the final student with its agreement, or the tested one where that is better.

    Args:
        task: compares answers.
        items: that both answer.
        tested: folder of the student that the test has measured.
        final: of all rows.
    """
    texts = [item.question for item in items]
    before, after = (
        [prediction.text for prediction in load_predictor(path).predict(texts)]
        for path in (tested, final.folder)
    )
    right = [
        (task.score(old, item).exact >= 1, task.score(new, item).exact >= 1)
        for old, new, item in zip(before, after, items, strict=True)
    ]
    only_tested, only_final = right.count((True, False)), right.count((False, True))
    p_value = mcnemar_exact(only_final, only_tested)
    if only_tested > only_final and p_value < SURE:
        worse = FinalIsWorse(len(items), only_tested, only_final, p_value)
        return FinalStudent(tested, note=worse)
    agreement = sum(old == new for old, new in zip(before, after, strict=True)) / len(items)
    agrees = Agrees(agreement, len(items))
    return FinalStudent(final.folder, final.n_rows, agreement, agrees)
