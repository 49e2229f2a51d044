"""Accuracy of pretrained students before training.

One of random weights answers nothing, which needs no measurement.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from stratos.config import Config, StudentConfig
from stratos.core.context import Context
from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.foreign import cause
from stratos.core.intervals import wilson
from stratos.records import StudentProbe
from stratos.synthesize.admission import PretrainedStudent
from stratos.tasks.base import Item


def probe_students(
    config: Config, items: Sequence[Item], context: Context
) -> tuple[StudentProbe, ...]:
    """Ask each student whose weights lie in a folder of this machine, within its time.

    Args:
        config: the run.
        items: validation items, of which the first `probe.n_student_items` are asked.
        context: of the stage.
    """
    asked = items[: config.probe.n_student_items]
    if not asked or config.complexity.is_declared:
        return ()
    return tuple(
        _probe(student, Path(student.path).expanduser(), config, asked, context)
        for student in config.students
        # Nobody named those: asking each of them takes longer than what it would tell is worth.
        if student.path is not None and not student.only_if_here
    )


def _probe(
    student: StudentConfig, folder: Path, config: Config, items: Sequence[Item], context: Context
) -> StudentProbe:
    if not folder.is_dir():
        return StudentProbe(student.name, reason="its weights are not on this machine")
    started = time.perf_counter()
    try:
        right = PretrainedStudent(str(folder), config.task.system_prompt).right_within(
            items,
            config,
            config.probe.student_seconds,
            lambda done: context.tick(1, 1, f"{student.name} before training: {done}"),
        )
    except Exception as error:  # whatever a foreign model, or its template, makes a library raise
        if isinstance(error, StratosError) and not isinstance(error, ForeignFileError):
            raise
        reason = cause(error.__cause__ or error)
        return StudentProbe(student.name, reason=f"it cannot be asked ({reason})")
    seconds = time.perf_counter() - started
    if not right:
        limit = config.probe.student_seconds
        reason = f"no batch of answers finished within probe.student_seconds={limit:g}"
        return StudentProbe(student.name, seconds=seconds, reason=reason)
    exact = wilson(sum(right), len(right))
    return StudentProbe(student.name, len(right), exact, seconds)
