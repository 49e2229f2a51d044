"""The rows that a student of a kind learns from, of the file and of a teacher, and its study.

A teacher's label is wrong in its own way: it confuses the same pairs of labels again and again. So
a student that learns its labels as they are ends where the teacher does. Here a head on gold rows,
and on the teacher's at a small weight, answers the rows of the teacher. Its probabilities give the
teacher's channel P(teacher's label | right label) over all these rows (the expected counts of Dawid
and Skene 1979, with a classifier as in Raykar et al. 2010), and answer and channel together give
each row corrected labels with probabilities.

Whether that is better than the labels as they are, than few of them, or than none, is decided by
cross-validation on the gold rows. A corrected label depends on gold rows near it, so that each fold
has corrected labels of its own, which know nothing of the rows that it holds out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import softmax
from typing_extensions import override

from stratos.config import Config, FitConfig, StudentConfig
from stratos.models.kinds import cross_validation
from stratos.models.kinds.cross_validation import Choice, Study
from stratos.models.kinds.encoder import TunedEncoder
from stratos.models.kinds.features import (
    Features,
    Head,
    Matrix,
    Tfidf,
    fit_head,
    mix,
    mixing_weights,
)
from stratos.models.kinds.set_classifier import SetStudy
from stratos.models.kinds.student_kinds import (
    FEWEST_GOLD,
    KINDS,
    LABELS,
    MOST_ROWS,
    has_weights,
)
from stratos.records import FROM_FILE, corpus_rows
from stratos.tasks.base import Item


@dataclass(frozen=True)
class TeacherRows:
    """Rows that a teacher labelled."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    agreement: tuple[float, ...] = ()
    """Share of the teacher's answers to each row that are its label."""


@dataclass(frozen=True)
class Way:
    """How rows of a teacher are learnt beside gold ones."""

    weight: float
    """Of a row; 0 learns none of them, 1 learns them like gold rows."""
    vote: float | None = None
    """Exponent of the teacher's channel in the corrected labels: 0 leaves its label out of them, 1
    takes it as independent of the student's answer. None learns the labels as they are."""


AS_THEY_ARE = tuple(Way(weight) for weight in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0))
CORRECTED = tuple(Way(weight, vote) for vote in (0.5, 1.0) for weight in (0.1, 1.0))
_STRENGTH = 30.0
"""Inverse strength of the L2 penalty of the head that corrects labels."""
_LEAST = 0.2
"""Probability above which a corrected label is learnt."""


@dataclass(frozen=True)
class Tried:
    """One way under cross-validation on the gold rows."""

    way: Way
    accuracy: float
    nll: float
    """Mean negative log-likelihood in nats, calibrated."""


class Correction:
    """Gold rows, a teacher's rows, and the head that weighs them against each other.

    Args:
        texts: of the gold rows.
        labels: of the gold rows.
        teacher: rows with the labels of a teacher.
        blocks: of features; the last that learns nothing from texts is used, if there is any.
        seed: of the folds.
        tick: called before each fit.
        options: that are compared, those without corrected labels from light to heavy.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        teacher: TeacherRows,
        blocks: Sequence[Features],
        seed: int = 0,
        tick: Callable[[], None] = lambda: None,
        options: Sequence[Way] = (*AS_THEY_ARE, *CORRECTED),
    ) -> None:
        self._tick, self._ways = tick, options
        self.labels = tuple(sorted({*labels, *teacher.labels}))
        numbers = {label: k for k, label in enumerate(self.labels)}
        self._gold = np.array([numbers[label] for label in labels], int)
        self._given = np.array([numbers[label] for label in teacher.labels], int)
        self._agreement = np.array(teacher.agreement, np.float32)
        n = len(self._gold)
        features = vectors([*texts, *teacher.texts], blocks)
        self._of_gold, self.of_teacher = features[:n], features[n:]
        every = np.ones(n, bool)
        self.folds = np.zeros(0, int)
        if n:
            self.folds = cross_validation.folds_of(texts, self._gold, every, seed)
        self.held_out = [int(fold) for fold in np.unique(self.folds) if fold >= 0]

    @cached_property
    def chosen(self) -> Way:
        """The way with the highest likelihood of the gold rows; of equals the simplest."""
        if len(self._gold) < FEWEST_GOLD:
            return Way(1.0)
        return min(self.tried, key=lambda tried: tried.nll).way

    @property
    def tried(self) -> tuple[Tried, ...]:
        """What all ways reached; none where too few rows are gold."""
        if len(self._gold) < FEWEST_GOLD:
            return ()
        return (*self._as_they_are, *self._corrected)

    @cached_property
    def _as_they_are(self) -> list[Tried]:
        """Try the teacher's own labels; heavier weights are not tried once two did worse."""
        tried: list[Tried] = []
        n_worse = 0
        for way in (way_ for way_ in self._ways if way_.vote is None):
            tried.append(self._tried(way))
            n_worse += tried[-1].nll > min(earlier.nll for earlier in tried)
            if n_worse == 2:
                break
        return tried

    @cached_property
    def _corrected(self) -> list[Tried]:
        return [self._tried(way) for way in self._ways if way.vote is not None]

    @cached_property
    def _base(self) -> Way:
        """The best way to learn the labels as they are, by which they are corrected."""
        if len(self._gold) < FEWEST_GOLD:
            return Way(1.0)
        return min(self._as_they_are, key=lambda tried: tried.nll).way

    def targets(self, way: Way, fold: int | None) -> np.ndarray:
        """Return how much each label of each teacher's row counts, shape (rows, labels).

        Args:
            way: how they are learnt.
            fold: whose gold rows the labels must not know; None for all gold rows.
        """
        rows = np.arange(len(self._given))
        if way.vote is None:
            targets = np.zeros((len(rows), len(self.labels)), np.float32)
            targets[rows, self._given] = way.weight * self._agreement
            return targets
        likely = self.probabilities(way.vote, fold)
        return np.where(likely > _LEAST, way.weight * likely, 0).astype(np.float32)

    def probabilities(self, vote: float, fold: int | None = None) -> np.ndarray:
        """Return how likely each label of a teacher's row is right, shape (rows, labels)."""
        scaled = self._answers(fold)
        likely = softmax(scaled, axis=1)
        counts = np.zeros((len(self.labels), len(self.labels)))  # (right, given)
        np.add.at(counts.T, self._given, likely * self._agreement[:, None])
        counts += counts.sum(axis=0) / max(counts.sum(), 1e-9)  # as many of each as there are given
        channel = np.log(counts + 1e-9) - np.log(counts.sum(axis=1, keepdims=True) + 1e-9)
        votes = vote * self._agreement[:, None] * channel.T[self._given]
        shares: np.ndarray = softmax(scaled + votes, axis=1)
        return shares

    def _answers(self, fold: int | None) -> np.ndarray:
        """Return calibrated log-probabilities of the teacher's rows, by gold rows not in a fold.

        Each half of the rows is answered by a head that has learnt the labels of the other half:
        one that has learnt a row's own label would only repeat it.
        """
        if fold not in self._kept:
            half = np.arange(len(self._given)) % 2 == 0
            shares = np.zeros((len(half), len(self.labels)), np.float32)
            for part in (half, ~half):
                head = self._head(self._base, fold, ~part)
                shares[part] = self._scale * head.log_probabilities(self.of_teacher[part])
            self._kept[fold] = shares
        return self._kept[fold]

    @cached_property
    def _kept(self) -> dict[int | None, np.ndarray]:
        return {}

    @cached_property
    def _scale(self) -> float:
        """The exponent that calibrates the head which corrects labels."""
        if len(self._gold) < FEWEST_GOLD:
            return 1.0
        is_gold = self.folds >= 0
        return float(mixing_weights([self._unseen(self._base)], self._gold[is_gold])[0])

    def head(self) -> Head:
        """Return the head that has learnt all rows in the chosen way."""
        return self._head(self.chosen, None)

    def _tried(self, way: Way) -> Tried:
        is_gold = self.folds >= 0
        unseen, right = self._unseen(way), self._gold[is_gold]
        mixed = mix([unseen], mixing_weights([unseen], right))
        nll = float(-mixed[np.arange(len(right)), right].mean())
        return Tried(way, float((unseen.argmax(axis=1) == right).mean()), nll)

    def _unseen(self, way: Way) -> np.ndarray:
        """Return log-probabilities of the held-out gold rows, shape (rows, labels)."""
        is_gold = self.folds >= 0
        unseen = np.zeros((len(self.folds), len(self.labels)), np.float32)
        for fold in self.held_out:
            new = self.folds == fold
            unseen[new] = self._head(way, fold).log_probabilities(self._of_gold[new])
        return unseen[is_gold]

    def _head(self, way: Way, fold: int | None, part: np.ndarray | None = None) -> Head:
        """Fit a head on the gold rows that are not in a fold, and on all or some teacher's rows."""
        self._tick()
        learnt = np.flatnonzero(self.folds != fold) if fold is not None else slice(None)
        targets = self.targets(way, fold)
        if part is not None:
            targets[~part] = 0
        rows, labels = np.nonzero(targets)
        gold = self._gold[learnt]
        stack = sparse.vstack if sparse.issparse(self._of_gold) else np.vstack
        # The next way begins where the last one ended; a half that has to forget labels does not.
        start = self._last.get(fold) if part is None else None
        head = fit_head(
            stack([self._of_gold[learnt], self.of_teacher[rows]]),
            np.concatenate([gold, labels]),
            len(self.labels),
            _STRENGTH,
            np.concatenate([np.ones(len(gold), np.float32), targets[rows, labels]]),
            start=start,
        )
        if part is None:
            self._last[fold] = head
        return head

    @cached_property
    def _last(self) -> dict[int | None, Head]:
        return {}


class TaughtStudy(Study):
    """Kinds under cross-validation on gold rows, beside which they learn a teacher's rows.

    Args:
        texts: of the gold rows.
        labels: of the gold rows.
        teacher: rows with the labels of a teacher.
        blocks: that kinds may use.
        seed: of folds and resamples.
        tick: called before each fit.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        teacher: TeacherRows,
        blocks: Sequence[Features],
        seed: int = 0,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.correction = fitted = Correction(texts, labels, teacher, blocks, seed, tick)
        folds = [*fitted.held_out, None]
        by_fold = {fold: fitted.targets(fitted.chosen, fold) for fold in folds}
        # A row stands once for each label that it has beside some fold, weighted by the fold.
        rows, given = np.nonzero(np.max([*by_fold.values()], axis=0))
        n = len(texts)
        super().__init__(
            [*texts, *(teacher.texts[row] for row in rows)],
            [*labels, *(fitted.labels[label] for label in given)],
            blocks,
            seed,
            tick,
            row_weights=np.concatenate([np.ones(n, np.float32), by_fold[None][rows, given]]),
            is_gold=np.arange(n + len(rows)) < n,
        )
        gold = np.ones(n, np.float32)
        self._by_fold = {
            fold: np.concatenate([gold, targets[rows, given]]) for fold, targets in by_fold.items()
        }
        assert np.array_equal(self._folds[:n], fitted.folds), "both hold out the same rows"

    @override
    def _fit(
        self, features: Matrix, rows: np.ndarray, strength: float, start: Head | None = None
    ) -> Head:
        self._tick()
        left_out = set(self.correction.held_out) - set(self._folds[rows].tolist())
        weights = self._by_fold[left_out.pop() if len(left_out) == 1 else None][rows]
        used = weights > 0
        answers, n_labels = self._answers[rows[used]], len(self.labels)
        return fit_head(features[used], answers, n_labels, strength, weights[used], start=start)

    @override
    def _all_weights(self) -> np.ndarray:
        return self._by_fold[None]


def vectors(texts: Sequence[str], blocks: Sequence[Features]) -> Matrix:
    """Return the first view of the last block that learns nothing from texts; else a fitted one's.

    One head is enough to weigh labels. The kinds that then learn them have all blocks.
    """
    fixed = [block for block in blocks if not block.is_fitted]
    block = fixed[-1] if fixed else blocks[0].fitted(texts)
    return block.views(block.transform(texts))[0]


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
    starts = tuple((s.kind, s.path, s.package, s.fit) for s in students)
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
    starts: tuple[tuple[str, str | None, str | None, FitConfig], ...],
    seed: int,
    several: bool,
) -> Study:
    students = [StudentConfig(kind, kind, path, package=p, fit=f) for kind, path, p, f in starts]
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
    """Return the median of what one text alone takes on one core, each at its best of a few times.

    Other work on the machine makes times by the clock longer; threads of the model add up in the
    time of the processor. The shorter of the two is that of a machine which does nothing else.
    """
    from threadpoolctl import threadpool_limits

    predict(texts[:1])
    seconds = []
    with threadpool_limits(limits=1):  # as a server answers
        for text in texts[:_N_TIMED]:
            best = math.inf
            for _ in range(_N_TIMES):
                clock, processor = time.perf_counter(), time.process_time()
                predict([text])
                took = (time.perf_counter() - clock, time.process_time() - processor)
                best = min(best, *took)
            seconds.append(best)
    return 1000 * median(seconds)
