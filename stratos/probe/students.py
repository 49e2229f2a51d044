"""What students that start from existing weights can do before any training.

One of random weights answers nothing, which needs no measurement.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from stratos.config import Config, StudentConfig
from stratos.context import Context
from stratos.intervals import wilson
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
    if not asked or config.complexity.level != "measured":
        return ()
    return tuple(
        _probe(student, Path(student.path).expanduser(), config, asked, context)
        for student in config.students
        if student.path is not None
    )


def _probe(
    student: StudentConfig, folder: Path, config: Config, items: Sequence[Item], context: Context
) -> StudentProbe:
    if not folder.is_dir():
        return StudentProbe(student.name, reason="its weights are in no folder of this machine")
    started = time.perf_counter()
    try:
        right = PretrainedStudent(str(folder)).right_within(
            items,
            config,
            config.probe.student_seconds,
            lambda done: context.tick(1, 1, f"{student.name} before training: {done}"),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return StudentProbe(student.name, reason=f"it cannot be asked ({reason})")
    seconds = time.perf_counter() - started
    if not right:
        limit = config.probe.student_seconds
        reason = f"not one batch of answers took less than probe.student_seconds={limit:g}"
        return StudentProbe(student.name, seconds=seconds, reason=reason)
    exact = wilson(sum(right), len(right))
    return StudentProbe(student.name, len(right), exact, seconds)
