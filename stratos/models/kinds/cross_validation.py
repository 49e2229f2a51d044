"""Which kind suits the rows: each is cross-validated on the same folds, and the choice is honest.

All kinds are mixtures of the same few blocks, so that each block is fitted once a fold, whatever
the number of kinds. The accuracy of the chosen one is estimated by bootstrap bias-corrected
cross-validation (Tsamardinos, Greasidou, Borboudakis 2018): the kind is chosen again on each
resample of the rows and scored on the rows that the resample left out, so that the optimism of a
choice among several is not reported as accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stratos.models.kinds.classifier import Classifier, fit_head, mix, mixing_weights
from stratos.models.kinds.features import Features, Matrix

KINDS: dict[str, tuple[str, ...]] = {
    "linear": ("tfidf",),
    "static": ("static",),
    "static_linear": ("static", "tfidf"),
    "encoder": ("encoder",),
    "encoder_linear": ("encoder", "tfidf"),
}
"""Blocks of each kind, the cheapest kind first."""
STRENGTHS: dict[str, tuple[float, ...]] = {
    "tfidf": (10.0, 100.0),
    "static": (10.0, 100.0),
    "encoder": (10.0, 100.0),
}
_N_FOLDS = 5
_N_RESAMPLES = 200
"""Resamples of the bias-corrected estimate."""


@dataclass(frozen=True)
class KindScore:
    """What cross-validation found of one kind."""

    kind: str
    accuracy: float
    """Share of rows that a model answers right which has not seen them."""
    nll: float
    """Their mean negative log-likelihood in nats, after calibration on other rows."""
    calibration_error: float
    """Expected calibration error (15 bins of equal width)."""
    right: np.ndarray
    """Whether each row was answered right, shape (rows,)."""


@dataclass(frozen=True)
class Choice:
    """The chosen kind, and what all reached."""

    kind: str
    accuracy: float
    """Of the chosen kind, without the optimism of the choice."""
    low: float
    high: float
    """95% interval of it, by the same resamples."""
    scores: tuple[KindScore, ...]
    n_rows: int
    cpu_seconds: float


class Study:
    """Rows and blocks under cross-validation.

    Args:
        texts: of the rows.
        answers: their labels.
        blocks: that kinds may use; a kind that lacks a block is left out.
        seed: of folds and resamples.
        tick: called before each fit.
    """

    def __init__(
        self,
        texts: Sequence[str],
        answers: Sequence[str],
        blocks: Sequence[Features],
        seed: int = 0,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._texts, self._seed, self._tick = list(texts), seed, tick
        self.labels = tuple(sorted(set(answers)))
        numbers = {label: k for k, label in enumerate(self.labels)}
        self._answers = np.array([numbers[answer] for answer in answers])
        self._blocks = {block.name: block for block in blocks}
        self._fixed: dict[str, Matrix] = {
            name: block.transform(self._texts)
            for name, block in self._blocks.items()
            if not block.is_fitted
        }
        self._strengths: dict[str, float] = {}
        self._folds = _folds(self._answers, seed)

    @property
    def kinds(self) -> list[str]:
        """Names of the kinds whose blocks are there, the cheapest first."""
        return [kind for kind, blocks in KINDS.items() if set(blocks) <= set(self._blocks)]

    def choose(self) -> Choice:
        """Cross-validate all kinds and choose the one with the highest accuracy; ties: cheaper."""
        began = time.process_time()
        unseen = {name: self._unseen(name) for name in self._blocks}
        scores = [self._score(kind, [unseen[name] for name in KINDS[kind]]) for kind in self.kinds]
        self._unseen_of = unseen
        right = np.stack([score.right for score in scores])
        best = scores[int(right.mean(axis=1).argmax())].kind
        mean, low, high = _without_optimism(right, self._seed)
        return Choice(
            best, mean, low, high, tuple(scores), len(self._texts), time.process_time() - began
        )

    def fit(self, kind: str) -> Classifier:
        """Return the kind fitted on all rows, mixed and calibrated on rows unseen in `choose`."""
        blocks, heads = [], []
        for name in KINDS[kind]:
            self._tick()
            block = self._blocks[name].fitted(self._texts)
            features = self._fixed[name] if name in self._fixed else block.transform(self._texts)
            blocks.append(block)
            heads.append(fit_head(features, self._answers, len(self.labels), self._strengths[name]))
        parts = [self._unseen_of[name] for name in KINDS[kind]]
        weights = mixing_weights(parts, self._answers)
        return Classifier(self.labels, tuple(blocks), tuple(heads), weights)

    def _unseen(self, name: str) -> np.ndarray:
        """Return log-probabilities of each row by heads that have not seen it, (rows, labels)."""
        n, n_labels = len(self._texts), len(self.labels)
        by_strength = {s: np.zeros((n, n_labels), np.float32) for s in STRENGTHS[name]}
        for fold in range(_N_FOLDS):
            learnt, held = np.flatnonzero(self._folds != fold), np.flatnonzero(self._folds == fold)
            known, new = self._features(name, learnt, held)
            for strength, rows in by_strength.items():
                self._tick()
                head = fit_head(known, self._answers[learnt], n_labels, strength)
                rows[held] = head.log_probabilities(new)
        every = np.arange(n)

        def nll(strength: float) -> float:
            rows = by_strength[strength]
            weights = mixing_weights([rows], self._answers)
            return float(-mix([rows], weights)[every, self._answers].mean())

        self._strengths[name] = min(by_strength, key=nll)
        return by_strength[self._strengths[name]]

    def _features(self, name: str, learnt: np.ndarray, held: np.ndarray) -> tuple[Matrix, Matrix]:
        if name in self._fixed:
            return self._fixed[name][learnt], self._fixed[name][held]
        block = self._blocks[name].fitted([self._texts[k] for k in learnt])
        return (
            block.transform([self._texts[k] for k in learnt]),
            block.transform([self._texts[k] for k in held]),
        )

    def _score(self, kind: str, parts: list[np.ndarray]) -> KindScore:
        """Score a mixture; its weights come from the other folds, as its heads do."""
        n = len(self._texts)
        mixed = np.zeros_like(parts[0])
        for fold in range(_N_FOLDS):
            held = self._folds == fold
            weights = mixing_weights([part[~held] for part in parts], self._answers[~held])
            mixed[held] = mix([part[held] for part in parts], weights)
        right = mixed.argmax(axis=1) == self._answers
        return KindScore(
            kind,
            float(right.mean()),
            float(-mixed[np.arange(n), self._answers].mean()),
            calibration_error(np.exp(mixed.max(axis=1)), right),
            right,
        )


def _folds(answers: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each row; the rows of a label are spread evenly over folds."""
    random = np.random.default_rng(seed)
    folds = np.empty(len(answers), int)
    offset = 0
    for label in np.unique(answers):
        rows = random.permutation(np.flatnonzero(answers == label))
        folds[rows] = (np.arange(len(rows)) + offset) % _N_FOLDS
        offset += len(rows)
    return folds


def _without_optimism(right: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return mean, low and high of the accuracy of a choice by accuracy, shape (kinds, rows)."""
    random = np.random.default_rng(seed)
    n = right.shape[1]
    means = []
    for _ in range(_N_RESAMPLES):
        drawn = random.integers(0, n, n)
        out = np.setdiff1d(np.arange(n), drawn)
        chosen = right[:, drawn].mean(axis=1).argmax()
        if len(out):
            means.append(right[chosen, out].mean())
    mean = float(np.mean(means)) if means else float(right.mean(axis=1).max())
    # Of all rows, not of the third that a resample leaves out.
    half = 1.96 * float(np.sqrt(mean * (1 - mean) / n)) if 0 < mean < 1 else 1.5 / n
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def calibration_error(confidence: np.ndarray, right: np.ndarray, n_bins: int = 15) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy over bins."""
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return float(
        sum(
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )
