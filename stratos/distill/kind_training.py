"""Distil a student of a kind that takes no gradient steps; it imports scipy, scikit-learn."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from stratos.config import Config, StudentConfig
from stratos.core.atomic_files import replacing
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.distill.words import TeacherRowsLearnt
from stratos.models.kinds.base import FILE, WEIGHTS, Predictor, note_learnt
from stratos.models.kinds.learnt_rows import (
    Correction,
    Rows,
    TaughtStudy,
    Way,
    students_of_kinds,
    studied,
    validation_rows,
)
from stratos.models.kinds.student_kinds import KINDS, MOST_ROWS
from stratos.models.students import content_of
from stratos.records import Corpus, Student


def train_kind(config: Config, chosen: StudentConfig, corpus: Corpus, context: Context) -> Student:
    """Train a student on all rows that are not held out for the test.

    Its accuracy is that of cross-validation, by which it was planned, too. Where the probe of this
    process has measured it on the same rows, what it fitted then is used again.
    """
    began, cpu_began = time.monotonic(), time.process_time()
    rows = Rows.of_corpus(Path(corpus.path), validation_rows(config))
    context.tick(0, 1, f"cross-validating {chosen.name}")
    student, accuracy, calibration_error = _fitted(config, chosen, rows, context)
    folder = context.run_dir / "distill" / "student"
    with replacing(folder) as staged:
        staged.mkdir(parents=True)
        student.save(staged)
    return Student(
        name=chosen.name,
        kind=chosen.kind,
        path=str(folder),
        untouched_path="",
        n_params=student.n_params,
        vocabulary=student.vocabulary,
        steps=0,
        train_tokens=0,
        best_step=0,
        validation_exact=accuracy,
        n_validation_items=len(rows.texts),
        n_validation_reused=0,
        n_choosing_items=len(rows.texts),
        best_exact=accuracy,
        curve=(),
        weights_sha256=_digest(folder),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        calibration_error=calibration_error,
        content=content_of(config, chosen),
    )


def with_test_rows(
    config: Config, student: Student, corpus: Corpus, folder: Path
) -> tuple[Path, int]:
    """Fit a student of a kind once more, on the rows of its test as well; it is what is served.

    The test has measured the student that did not learn them; with more rows it gets better, not
    worse. With them come rows that were left out since they repeat some of the test. A test that is
    a file of its own is not learnt, so that it stays one for later runs, and none is where a room
    measures the bundle on rows that it has not learnt.

    Args:
        config: of the run.
        student: what was measured.
        corpus: what it learnt.
        folder: to write into.

    Returns:
        The folder of what is served, and its rows; the student's own folder and 0 where it learns
        no more.
    """
    task, own = config.task, Path(student.path)
    takes_unread = any(room.takes_validation for room in config.rooms.values())
    if student.is_lm or task.tests_other_rows or takes_unread:
        return own, 0
    rows = Rows.of_corpus(Path(corpus.path), validation_rows(config))
    learnt = set(rows.texts)
    labelled = [*task.items("train", MOST_ROWS), *task.items("test", MOST_ROWS)]
    test = Rows.of([item for item in labelled if item.question not in learnt])
    known = rows.as_gold
    every = Rows(known.texts + test.texts, known.labels + test.labels)
    served: Predictor
    if (learner := KINDS[student.kind].learns()) is not None:
        served = learner.fit_again(own, every.texts, every.labels, task, config.seed)
        n_rows = len(every.texts)
    else:
        several = task.has_several_labels
        study, _ = studied(rows, students_of_kinds(config.students), config.seed, several=several)
        served = study.fit_with(student.kind, test.texts, test.labels)
        n_rows = study.n_rows + len(test.texts)
    with replacing(folder) as staged:
        staged.mkdir(parents=True)
        served.save(staged)
        note_learnt(staged, n_rows)
    return folder, n_rows


def _fitted(
    config: Config, chosen: StudentConfig, rows: Rows, context: Context
) -> tuple[Predictor, float, float]:
    """Return a student fitted on rows, and accuracy and calibration error by cross-validation."""
    if (learner := KINDS[chosen.kind].learns()) is not None:
        known = rows.as_gold
        fit = learner.fit(known.texts, known.labels, config.task, config.seed)
        return fit.student, fit.accuracy.mean, fit.calibration_error
    study, choice = studied(
        rows,
        students_of_kinds(config.students),
        config.seed,
        several=config.task.has_several_labels,
        tunes=KINDS[chosen.kind].takes_minutes,
    )
    if isinstance(study, TaughtStudy):
        context.note(str(_learnt(study.correction)))
    score = next((score for score in choice.scores if score.kind == chosen.kind), None)
    if score is None:
        raise StratosError(
            f"The student {chosen.name} was planned where its weights are. They are not on this "
            "machine."
        )
    return study.fit(chosen.kind), score.accuracy, score.calibration_error


def _digest(folder: Path) -> str:
    """Return the digest of what the student has learnt."""
    digest = hashlib.sha256()
    for name in (FILE, WEIGHTS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _learnt(correction: Correction) -> TeacherRowsLearnt:
    """Return how a teacher's rows were learnt."""
    kinds: dict[str, Callable[[Way], bool]] = {
        "gold rows alone": lambda way: way.weight == 0,
        "with the teacher's labels": lambda way: way.weight > 0 and way.vote is None,
        "with corrected ones": lambda way: way.vote is not None,
    }
    reached = {}
    for name, is_so in kinds.items():
        if tried := [attempt for attempt in correction.tried if is_so(attempt.way)]:
            reached[name] = min(tried, key=lambda attempt: attempt.nll).accuracy
    way = correction.chosen
    n_rows, n_gold = correction.of_teacher.shape[0], len(correction.folds)
    return TeacherRowsLearnt(n_rows, n_gold, way.weight, way.vote is not None, reached)
