"""Gold rows beside rows that a teacher labelled: what each is worth, as the gold rows tell.

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.special import softmax
from typing_extensions import override

from stratos.models.kinds import cross_validation
from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.features import Features, Head, Matrix, fit_head, mix, mixing_weights


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
_FEWEST_GOLD = 20
"""Gold rows below which nothing is decided by them: the labels are learnt as they are."""


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
        ways: that are compared, those without corrected labels from light to heavy.
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
        if len(self._gold) < _FEWEST_GOLD:
            return Way(1.0)
        return min(self.tried, key=lambda tried: tried.nll).way

    @property
    def tried(self) -> tuple[Tried, ...]:
        """What all ways reached; none where too few rows are gold."""
        if len(self._gold) < _FEWEST_GOLD:
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
        if len(self._gold) < _FEWEST_GOLD:
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
        if len(self._gold) < _FEWEST_GOLD:
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
