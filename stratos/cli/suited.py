"""Which teachers and students of a choice a task takes.

Where a run names one of a group it gets that one. Among several:

- A student is taken that does such a task. For labels these are the kinds that are measured in
  seconds. Where answers are JSON objects a tagger is measured first; language models are taken for
  these and all other tasks.
- Random weights learn a language of their own from as many examples as a task makes. They are not
  taken where a file's rows are all there is to learn from.
- No teacher is asked where every row has its label: it could only repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stratos.config import Config, StudentConfig
from stratos.models.kinds.suits import LM, kinds_for
from stratos.tasks.base import Task
from stratos.teachers.base import Teacher, on_task
from stratos.teachers.nobody import Nobody


def suited(config: Config) -> Config:
    """Return the config with the teachers and students that its task takes."""
    students = _students(config.students, config.task)
    return replace(config, students=students, teachers=_teachers(config))


def _students(students: Sequence[StudentConfig], task: Task) -> tuple[StudentConfig, ...]:
    if len(students) == 1:
        return tuple(students)
    kinds = kinds_for(task)
    if not task.has_labels:
        kinds = (*kinds, LM)
    able = tuple(student for student in students if student.kind in kinds)
    if task.has_rows and task.vocabulary() is None:
        able = tuple(student for student in able if student.kind != LM or student.path is not None)
    return able or tuple(students)


def _teachers(config: Config) -> tuple[Teacher, ...]:
    teachers, task = on_task(config.teachers, config.task), config.task
    if len(config.teachers) == 1 or not kinds_for(task):
        return teachers
    if task.takes_unlabelled:
        return (*teachers, Nobody())  # where no teacher labels rows well enough, none is asked more
    return (Nobody(), *(teacher for teacher in teachers if teacher.is_measured))
