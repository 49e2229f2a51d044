"""The rows that a student of a kind learns from, and the study that measures it on them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from stratos.config import Config, StudentConfig
from stratos.models.kinds.cross_validation import Choice, Study
from stratos.models.kinds.features import Features, Tfidf
from stratos.models.kinds.labels_of_teacher import TaughtStudy, TeacherRows
from stratos.models.kinds.set_classifier import SetStudy
from stratos.models.kinds.student_kinds import KINDS, LABELS, MOST_ROWS, has_weights
from stratos.models.kinds.tuned import TunedEncoder
from stratos.records import FROM_FILE, corpus_rows
from stratos.tasks.base import Item

_N_TIMES = 4
_N_TIMED = 16
"""Texts that are answered one at a time to tell how long an answer takes."""
FEWEST_TO_TUNE, _FEWEST_ERRORS = 500, 30
"""Rows, and rows that the best cheaper kind gets wrong, below which no encoder is tuned."""
_MOST_SECONDS, _SHARE_OF_LIMIT = 300.0, 0.5
"""CPU seconds of all trainings of a tuned encoder, and the part of a limit in hours, above which it
is left out unless it is named."""
_NONE = TeacherRows()


@dataclass(frozen=True)
class Rows:
    """Rows with gold labels, and beside them rows that a teacher labelled."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    teacher: TeacherRows = _NONE

    @classmethod
    def of(cls, items: Sequence[Item], teacher: TeacherRows = _NONE) -> Rows:
        """Return the rows of items, in an order that depends on nothing but the items."""
        own = ordered(items)
        texts = tuple(item.question for item in own)
        return cls(texts, tuple(item.answer for item in own), teacher)

    @classmethod
    def of_corpus(cls, path: Path, validation: Sequence[Item]) -> Rows:
        """Return the rows of a corpus and validation rows; those that a teacher labelled apart."""
        rows = list(corpus_rows(path))
        gold = [
            Item(row.id, row.slice, row.question, row.answer)
            for row in rows
            if row.source == FROM_FILE
        ]
        labelled = sorted((row for row in rows if row.source != FROM_FILE), key=lambda r: r.id)
        taught = TeacherRows(
            tuple(row.question for row in labelled),
            tuple(row.answer for row in labelled),
            tuple(row.agreement for row in labelled),
        )
        return cls.of([*gold, *validation], taught)

    @property
    def as_gold(self) -> Rows:
        """All rows, a teacher's labels taken like gold ones."""
        return Rows(self.texts + self.teacher.texts, self.labels + self.teacher.labels)


def ordered(items: Sequence[Item]) -> list[Item]:
    """Return items in the order of their rows, each once."""
    unique = {item.id: item for item in items}
    return [unique[key] for key in sorted(unique)]


def blocks_of(students: Sequence[StudentConfig]) -> tuple[Features, ...]:
    """Return the features that students of some kinds need.

    Raises:
        ConfigError: the weights of one are not on this machine.
    """
    own = [(LABELS[student.kind], student) for student in students if student.kind in LABELS]
    return (Tfidf(), *(kind.block(student) for kind, student in own if kind.features))


def studied(
    rows: Rows, students: Sequence[StudentConfig], seed: int, *, several: bool, tunes: bool = False
) -> tuple[Study, Choice]:
    """Cross-validate some kinds on some rows; the last study is kept for the training.

    Args:
        rows: to learn from.
        students: of the run that are no language models.
        seed: of folds and resamples.
        several: whether answers are sets of labels, of which no encoder is tuned.
        tunes: whether the kind that takes minutes is measured, too; once it was, it always is.
    """
    starts = tuple((student.kind, student.path, student.package) for student in students)
    began = time.perf_counter()
    study = _study(rows, starts, seed, several)
    if tunes:
        study.tune()
    choice = study.choose()
    study.seconds += time.perf_counter() - began
    return study, choice


@lru_cache(maxsize=1)
def _study(
    rows: Rows,
    starts: tuple[tuple[str, str | None, str | None], ...],
    seed: int,
    several: bool,
) -> Study:
    students = [StudentConfig(kind, kind, path, package=package) for kind, path, package in starts]
    blocks = blocks_of(students)
    if several:
        return _of_sets(rows, blocks, seed)
    if rows.teacher.texts:
        return TaughtStudy(rows.texts, rows.labels, rows.teacher, blocks, seed)
    return Study(rows.texts, rows.labels, blocks, seed)


@dataclass(frozen=True)
class Tuning:
    """Whether an encoder is tuned on the rows."""

    cpu_seconds: float
    """What it will take on this machine."""
    is_tried: bool


def tuning(
    config: Config, rows: Rows, students: Sequence[StudentConfig], study: Study, choice: Choice
) -> Tuning | None:
    """Return whether the tuned kind is worth its time; None where it cannot win.

    It is tried where there are rows enough and errors enough to gain by, and where it takes no more
    than `_MOST_SECONDS` and a part of what the limits allow; where the run has no other student it
    is always tried.
    """
    block = next((b for b in blocks_of(students) if isinstance(b, TunedEncoder)), None)
    is_named = len(students) == 1
    errors = (1 - choice.accuracy) * len(rows.texts)
    is_hopeless = len(rows.texts) < FEWEST_TO_TUNE or errors < _FEWEST_ERRORS
    if block is None or config.task.has_several_labels:
        return None
    if (is_hopeless and not is_named) or not block.can_tune:
        return None
    learns_test = not config.task.tests_other_rows  # it is trained once more, with the test rows
    seconds = block.cpu_seconds(rows.texts, study.n_trainings + learns_test)
    limits = (config.limits.train_hours, config.limits.deadline_hours)
    most = min(_MOST_SECONDS, *(_SHARE_OF_LIMIT * 3600 * h for h in limits if h is not None))
    return Tuning(seconds, is_named or seconds <= most)


def _of_sets(rows: Rows, blocks: Sequence[Features], seed: int) -> SetStudy:
    """Return the study of sets of labels; a teacher's rows weigh as it agrees with itself."""
    taught = rows.teacher
    if not rows.texts:
        return SetStudy(taught.texts, taught.labels, blocks, seed)
    both = rows.as_gold
    n = len(rows.texts)
    weights = np.array([*[1.0] * n, *taught.agreement], np.float32) if taught.texts else None
    is_gold = np.arange(len(both.texts)) < n
    return SetStudy(both.texts, both.labels, blocks, seed, row_weights=weights, is_gold=is_gold)


def training_items(corpus_path: Path) -> list[Item]:
    """Read the items of a corpus file."""
    return [
        Item(row.id, row.slice, row.question, row.answer, rationale=row.rationale)
        for row in corpus_rows(corpus_path)
    ]


def validation_rows(config: Config) -> list[Item]:
    """Return the validation rows that may be learnt: all, where no room needs unread ones."""
    is_shared = any(room.takes_validation for room in config.rooms.values())
    n = config.callbacks.n_validation_read if is_shared else MOST_ROWS
    return config.task.items("validation", n)


def students_of_kinds(students: Sequence[StudentConfig]) -> tuple[StudentConfig, ...]:
    """Return the students of a run that learn a model which is none of language, and are here."""
    return tuple(
        student
        for student in students
        if not (student.is_lm or KINDS[student.kind].is_free) and has_weights(student)
    )


def free_students(students: Sequence[StudentConfig]) -> tuple[StudentConfig, ...]:
    """Return the students of a run that need no model."""
    return tuple(student for student in students if KINDS[student.kind].is_free)


def milliseconds_alone(predict: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return the median of what one text alone takes, each at its best of a few times.

    Other work on the machine makes times by the clock longer; threads of the model add up in the
    time of the processor. The shorter of the two is that of a machine which does nothing else.
    """
    predict(texts[:1])
    seconds = []
    for text in texts[:_N_TIMED]:
        best = math.inf
        for _ in range(_N_TIMES):
            clock, processor = time.perf_counter(), time.process_time()
            predict([text])
            took = (time.perf_counter() - clock, time.process_time() - processor)
            best = min(best, *took)
        seconds.append(best)
    return 1000 * median(seconds)
