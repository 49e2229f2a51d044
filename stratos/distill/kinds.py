"""Train a student that is no language model, on the corpus and the validation rows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from stratos.config import Config, StudentConfig
from stratos.core.atomic_files import replacing
from stratos.core.context import Context
from stratos.distill.words import TeacherRowsLearnt
from stratos.evaluate.baselines import MOST_ROWS
from stratos.models.kinds.base import FILE, WEIGHTS
from stratos.models.kinds.labels_of_teacher import Correction, TaughtStudy, Way
from stratos.models.kinds.rows import Rows, kind_name, students_of_kinds, studied
from stratos.models.students import content_of
from stratos.records import Corpus, Student


def train_kind(config: Config, chosen: StudentConfig, corpus: Corpus, context: Context) -> Student:
    """Train a student on all rows that are not held out for the test.

    Its accuracy is that of cross-validation, by which it was planned, too. Where the probe of this
    process has measured it on the same rows, what it fitted then is used again.
    """
    began, cpu_began = time.monotonic(), time.process_time()
    validation = config.task.items("validation", MOST_ROWS)
    rows = Rows.of_corpus(Path(corpus.path), validation)
    context.tick(0, 1, f"cross-validating {chosen.name}")
    study, choice = studied(rows, students_of_kinds(config), config.seed)
    if isinstance(study, TaughtStudy):
        context.note(str(_learnt(study.correction)))
    name = kind_name(chosen)
    score = next(one for one in choice.scores if one.kind == name)
    context.tick(0, 1, f"training {chosen.name}")
    student = study.fit(name)
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
        steps=0,
        train_tokens=0,
        best_step=0,
        validation_exact=score.accuracy,
        n_validation_items=choice.n_rows,
        n_validation_reused=0,
        n_choosing_items=choice.n_rows,
        best_exact=max(one.accuracy for one in choice.scores),
        curve=(),
        weights_sha256=_digest(folder),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        calibration_error=score.calibration_error,
        content=content_of(config, chosen),
    )


def _learnt(correction: Correction) -> TeacherRowsLearnt:
    """Return how a teacher's rows were learnt."""
    kinds: dict[str, Callable[[Way], bool]] = {
        "gold rows alone": lambda way: way.weight == 0,
        "with the teacher's labels": lambda way: way.weight > 0 and way.vote is None,
        "with corrected ones": lambda way: way.vote is not None,
    }
    reached = {}
    for name, is_so in kinds.items():
        if tried := [one for one in correction.tried if is_so(one.way)]:
            reached[name] = min(tried, key=lambda one: one.nll).accuracy
    way = correction.chosen
    n_rows, n_gold = correction.of_teacher.shape[0], len(correction.folds)
    return TeacherRowsLearnt(n_rows, n_gold, way.weight, way.vote is not None, reached)


def _digest(folder: Path) -> str:
    """Return the digest of what the student has learnt."""
    found = hashlib.sha256()
    for name in (FILE, WEIGHTS):
        found.update((folder / name).read_bytes())
    return found.hexdigest()
