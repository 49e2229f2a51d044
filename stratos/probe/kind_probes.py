"""Measure the kinds of student that are trained in seconds, before anybody is asked or paid."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stratos.config import Config, StudentConfig
from stratos.core.context import Context
from stratos.core.formats import counted, percent
from stratos.core.intervals import wilson
from stratos.models.kinds.base import Predictor, weights_bytes
from stratos.models.kinds.cross_validation import Choice, Study
from stratos.models.kinds.features import STORED, Features
from stratos.models.kinds.learnt_rows import (
    Rows,
    blocks_of,
    free_students,
    milliseconds_alone,
    ordered,
    students_of_kinds,
    studied,
    tuning,
    validation_rows,
)
from stratos.models.kinds.student_kinds import KINDS, LABELS, MOST_ROWS
from stratos.probe.words import CannotLearn, KindsReached, LooksMislabelled, Suspect, Tunes
from stratos.records import Interval, KindProbe
from stratos.synthesize.admission import labelled_rows
from stratos.tasks.base import Item, Task

_SHARES = (0.25, 0.5)
_ENOUGH = 0.8
"""Accuracy from which what needs no model is a student beside language models, of which none is
known."""
_N_RESAMPLES = 300
_SURE_SHARE, _MOST_SHARE = 0.3, 1.5
"""Of the gain that the power law promises, the least and the most. The error of a student neither
falls for ever nor as evenly as its first halvings: on four public sets twice the rows brought more
than the power law in two of five trials, and half as much again in one of eleven
(`benchmarks/kinds/doubling.py`)."""


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy by number of rows, under cross-validation."""

    points: tuple[tuple[float, float], ...]
    """Rows that a model learnt from, and the share of other rows that it answers right."""
    n_doubled: int
    """Twice the rows that there are."""
    gain_low: float
    gain_high: float
    """What so many rows would add to the accuracy, as a share; never below 0. The low end is 0
    where the curve cannot be told from flat."""


def learning_curve(study: Study, kind: str) -> LearningCurve:
    """Return the learning curve of a kind, with what twice the rows would bring.

    The error is taken to fall as a power of the rows (Hestness et al. 2017), fitted to a quarter,
    half and all of them. The interval comes from resamples of the scored rows, which all sizes
    share, each of as many as they are worth; its ends are less and more than theirs, as far as
    trials came short and went beyond.
    """
    sizes, rights = [], []
    for share in _SHARES:
        size, right = study.right_of_share(kind, share)
        sizes.append(size)
        rights.append(right)
    sizes.append(sizes[-1] / _SHARES[-1])
    rights.append(study.score(kind).right)
    right = np.stack(rights).astype(float)  # (sizes, rows)
    random = np.random.default_rng(0)
    n = right.shape[1]
    drawn = random.integers(0, n, (_N_RESAMPLES, max(1, round(study.n_independent()))))
    gains = [
        _gain(np.array(sizes), right[:, rows].mean(axis=1), len(rows), study.n_rows)
        for rows in drawn
    ]
    low, high = np.quantile(gains, (0.025, 0.975))
    points = tuple(zip(sizes, map(float, right.mean(axis=1)), strict=True))
    most = min(_MOST_SHARE * float(high), 1 - points[-1][1])
    return LearningCurve(points, 2 * study.n_rows, min(_SURE_SHARE * float(low), most), most)


def _gain(sizes: np.ndarray, accuracies: np.ndarray, n_scored: int, n_rows: int) -> float:
    """Return how far a power law of the error falls from `n_rows` to twice as many."""
    errors = (1 - accuracies) * n_scored + 0.5  # never 0, whose logarithm has no end
    slope, level = np.polyfit(np.log(sizes), np.log(errors / (n_scored + 1)), 1)
    error = min(1.0, float(np.exp(level + slope * np.log(n_rows))))
    return max(0.0, error * (1 - 2 ** min(0.0, float(slope))))


_HIGHER = 0.02
"""By how much more of wordings that rows show is right before that is said."""
FEWEST_FOR_CURVE = 150
"""Rows below which a learning curve says too little of what more would bring."""
_FOLDS = 5
"""Trainings of cross-validation, each of which takes about as long as one on all rows."""
_BYTES_A_NUMBER = 4
"""Of float32 and int32, as a student has its centroids."""
_HEADER_BYTES = 2_000
"""Of a file of safetensors: names and shapes of its tensors (1,483 bytes of a static student)."""


def probe_kinds(config: Config, context: Context) -> tuple[KindProbe, ...]:
    """Return what each kind of student among the run's reaches by cross-validation."""
    students, free = students_of_kinds(config.students), free_students(config.students)
    if not students and not free:
        return ()
    learnable = [*labelled_rows(config.task), *validation_rows(config)]
    items = ordered(learnable[:MOST_ROWS])
    rows = Rows.of(items)
    classifiers = [student for student in students if student.kind in LABELS]
    probed = list(_classifiers(config, classifiers, items, rows, context)) if classifiers else []
    for student in students:
        if student.kind not in LABELS:
            context.tick(0, 1, f"cross-validating a {student.kind}")
            measured = _alone(config.task, config.seed, student, rows)
            if isinstance(measured, CannotLearn):
                context.note(str(measured))
            else:
                probed.append(measured)
    return (*probed, *_winning(config.task, config.seed, config.students, free, rows, probed))


def mislabelled(
    task: Task, items: Sequence[Item], study: Study, kind: str
) -> LooksMislabelled | None:
    """Return which rows look mislabelled to a kind; None where none does.

    Args:
        task: whose rows they are, each of one label.
        items: of the rows of the study, in its order.
        study: which has cross-validated the kind.
        kind: the best one.
    """
    likely = study.suspects(kind)
    lines = task.lines_of({items[row].id for row in likely})
    wrong = [
        Suspect(lines.get(items[row].id, ""), items[row].answer, label)
        for row, label in likely.items()
    ]
    return LooksMislabelled(tuple(wrong), len(items)) if wrong else None


def _winning(
    task: Task,
    seed: int,
    students: Sequence[StudentConfig],
    free: Sequence[StudentConfig],
    rows: Rows,
    probed: Sequence[KindProbe],
) -> Iterator[KindProbe]:
    """Yield what needs no model and beats all kinds that learn, or is the only one there is."""
    is_named = len(free) == len(students)
    beaten = max((probe.accuracy.mean for probe in probed), default=_ENOUGH)
    for student in free if len(rows.texts) > 1 else ():
        measured = _alone(task, seed, student, rows)
        if isinstance(measured, KindProbe) and (measured.measured > beaten or is_named):
            yield measured


def _alone(task: Task, seed: int, student: StudentConfig, rows: Rows) -> KindProbe | CannotLearn:
    """Return what a kind reaches that is measured by itself, or why it does not do the task."""
    learner = KINDS[student.kind].learns()
    assert learner is not None, "it is no kind for labels"
    if (why := learner.why_not(rows.texts, rows.labels)) is not None:
        return CannotLearn(student.kind, why)
    began = time.perf_counter()
    fit = learner.fit(rows.texts, rows.labels, task, seed)
    return KindProbe(
        student=student.name,
        kind=student.kind,
        accuracy=fit.accuracy,
        measured=fit.accuracy.mean,
        known=None if fit.known is None else fit.known.mean,
        new=None if fit.new is None else fit.new.mean,
        n_rows=fit.n_rows,
        calibration_error=fit.calibration_error,
        seconds=max(time.perf_counter() - began, fit.seconds) / _FOLDS,
        ms_per_answer=milliseconds_alone(fit.student.predict, rows.texts),
        n_params=fit.student.n_params,
        fields=fit.fields,
        n_bytes=_saved_bytes(fit.student),
    )


def _saved_bytes(student: Predictor) -> int:
    """Return the bytes of a student's weights on disk."""
    with tempfile.TemporaryDirectory() as name:
        student.save(Path(name))
        return weights_bytes(Path(name))


def _classifiers(
    config: Config,
    students: Sequence[StudentConfig],
    items: Sequence[Item],
    rows: Rows,
    context: Context,
) -> tuple[KindProbe, ...]:
    """Return what each kind for labels reaches, on the same folds."""
    context.tick(0, 1, f"cross-validating {counted(len(students), 'kind')} of student")
    several = config.task.has_several_labels
    study, choice = studied(rows, students, config.seed, several=several)
    seconds = dict.fromkeys(LABELS, study.seconds)
    if (tunes := tuning(config, rows, students, study, choice)) is not None:
        reached = (choice.kind, choice.accuracy, choice.low, choice.high)
        context.note(str(Tunes(*reached, tunes.cpu_seconds, tunes.is_tried)))
        if tunes.is_tried:
            so_far = f"{choice.kind} has {percent(choice.accuracy)}"
            context.tick(0, 1, f"cross-validating a tuned encoder; {so_far}")
            study, choice = studied(rows, students, config.seed, several=several, tunes=True)
            tuned = (kind for kind in study.kinds if LABELS[kind].takes_minutes)
            seconds |= dict.fromkeys(tuned, study.seconds)
    blocks = {
        block.name: block if block.learns_labels else block.fitted(rows.texts).compact(rows.texts)
        for block in blocks_of(students)
    }
    probed = [
        _probed(student, study, choice, blocks, rows, seconds[student.kind])
        for student in students
        if student.kind in study.kinds
    ]
    if config.task.tests_other_wordings:
        probed = [replace(probe, known=known_wordings(study, probe.kind)) for probe in probed]
    if several:
        probed = [replace(probe, micro_f1=_micro_f1(probe, choice)) for probe in probed]
    elif wrong := mislabelled(config.task, items, study, choice.kind):
        context.warn(str(wrong))
    kind = LABELS[choice.kind].curve_of or choice.kind
    if study.n_rows < FEWEST_FOR_CURVE or kind not in study.kinds:
        return tuple(probed)
    context.tick(1, 1, "learning curve")
    curve = learning_curve(study, kind)
    gain = curve.gain_low, curve.gain_high
    return tuple(
        replace(probe, curve=curve.points, gain=gain) if probe.kind == choice.kind else probe
        for probe in probed
    )


def _probed(
    student: StudentConfig,
    study: Study,
    choice: Choice,
    blocks: dict[str, Features],
    rows: Rows,
    seconds: float,
) -> KindProbe:
    index = [score.kind for score in choice.scores].index(student.kind)
    used = [blocks[name] for name in LABELS[student.kind].blocks]
    n = choice.n_independent
    # Kinds are behind by their micro-F1. Where each text has one label, that is the accuracy.
    mean = choice.accuracy * max(0.0, 1 - choice.behind[index] / max(choice.micro_f1[0], 1e-9))
    source = f"cross-validation on {counted(choice.n_rows, 'row', spec=',')}"
    n_features = [block.transform(rows.texts[:1]).shape[1] for block in used]
    n_columns = sum(n_features) + len(used)
    return KindProbe(
        student=student.name,
        kind=student.kind,
        accuracy=wilson(mean * n, n, source=source),
        measured=choice.scores[index].accuracy,
        n_rows=study.n_rows,
        calibration_error=choice.scores[index].calibration_error,
        seconds=seconds / _FOLDS,
        ms_per_answer=milliseconds_alone(
            lambda texts: [block.transform(texts) for block in used], rows.texts
        ),
        n_params=sum(block.n_params for block in used) + n_columns * len(study.labels),
        n_bytes=sum(block.n_bytes for block in used)
        + n_columns * len(study.labels) * np.dtype(STORED).itemsize
        + _centroid_bytes(used[0], n_features[0], study, rows.texts)
        + _HEADER_BYTES,
    )


def _centroid_bytes(block: Features, n_features: int, study: Study, texts: Sequence[str]) -> int:
    """Return the bytes of what tells how near a text is to each label, by its first block."""
    n_entries = n_features * len(study.labels)
    if not block.is_slow:  # an encoder has all of its features in each row
        n_entries = study.centroids(block.transform(texts), np.arange(len(texts))).nnz
    # Value and column of each entry, and where each row of them begins.
    return _BYTES_A_NUMBER * (2 * n_entries + n_features + 1)


def known_wordings(study: Study, kind: str) -> float | None:
    """Return the accuracy of a kind on wordings that rows show; None where it is no higher."""
    if LABELS[kind].takes_minutes:
        return None
    known = float(study.right_of_known(kind).mean())
    return known if known >= study.score(kind).accuracy + _HIGHER else None


def _micro_f1(probed: KindProbe, choice: Choice) -> Interval:
    """Return the micro-F1 of a kind: of the chosen one without the optimism of the choice."""
    mean, low, high = choice.micro_f1
    if probed.kind != choice.kind:
        own = next(score.micro_f1 for score in choice.scores if score.kind == probed.kind)
        mean, low, high = own, max(0.0, own + low - mean), min(1.0, own + high - mean)
    return Interval(mean, low, high, probed.accuracy.source)


def in_words(kinds: Sequence[KindProbe]) -> KindsReached | None:
    """Return what to say of kinds that were measured; None without any."""
    return KindsReached(tuple(kinds)) if kinds else None
