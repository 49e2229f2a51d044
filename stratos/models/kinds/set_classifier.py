"""Several labels per text: a logistic regression for each label, mixed, with one threshold.

Blocks, views, strengths and mixing are those of a student of one label
(`stratos.models.kinds.classifier`). The heads' log-odds are added with weights that maximise the
likelihood of unseen rows. Of calibrated probabilities one threshold for all labels has the highest
micro-F1 (Lipton, Elkan, Naryanaswamy 2014); it is chosen on unseen rows. On training rows of two
sets, a threshold for each label was no better, and worse by up to 6 points with 300 rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logit
from typing_extensions import override

from stratos.models.kinds.base import Prediction
from stratos.models.kinds.classifier import Classifier, Familiarity
from stratos.models.kinds.cross_validation import KindScore, Study
from stratos.models.kinds.features import Features, Head, Matrix
from stratos.tasks.label_sets import labels_of, written

_AT_ONCE = 32
"""Labels that are fitted together: products of matrices are fast, and the memory is bounded."""
_TOLERANCE, _MOST_STEPS = 2e-5, 300
"""Of the gradient of the mean loss, which is small from the start where labels are rare."""
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-3, 20.0
_NEAR_BEST = 0.01
"""Share of the highest micro-F1 that a threshold may lack: the highest such threshold is taken. The
F1 is flat around its maximum, and with fewer labels more answers are right as a whole: on training
rows of two sets (200 and 800 rows) up to 0.4 points of F1 less and 1 to 3 points of exact match
more."""
_FARTHEST = 15.0
"""Log-odds beyond which an answer is as sure as it gets."""
_N_OTHERS = 19
"""Further answers that are told: with the answer as many as the OpenAI API lists."""


def fit_heads(
    features: Matrix,
    targets: np.ndarray,
    strength: float,
    row_weights: np.ndarray | None = None,
    start: Head | None = None,
) -> Head:
    """Fit a logistic regression for each label.

    scikit-learn fits the labels one after the other; here the products with the features are those
    of many labels at once.

    Args:
        features: shape (rows, features).
        targets: whether each row has each label, shape (rows, labels).
        strength: inverse strength of the L2 penalty.
        row_weights: how much each row counts, shape (rows,); 1 where None.
        start: a head of the same rows with another strength, to begin from.
    """
    n_rows, n_labels = targets.shape
    rows = np.ones(n_rows, np.float32) if row_weights is None else np.float32(row_weights)
    frequency = (rows @ targets + 0.5) / (rows.sum() + 1)
    weights = np.zeros((features.shape[1], n_labels), np.float32)
    bias = logit(frequency).astype(np.float32)
    n = rows @ targets
    learnt = np.flatnonzero((n > 0) & (n < rows.sum()))  # others are constant
    transposed = features.T.tocsr() if hasattr(features, "tocsr") else features.T
    for some in np.array_split(learnt, -(-len(learnt) // _AT_ONCE)) if len(learnt) else ():
        own = targets[:, some].astype(np.float32)
        shape = (features.shape[1] + 1, len(some))

        def loss(
            flat: np.ndarray, own: np.ndarray = own, shape: tuple[int, int] = shape
        ) -> tuple[float, np.ndarray]:
            both = flat.reshape(shape).astype(np.float32)
            logits = features @ both[:-1] + both[-1]
            losses = np.logaddexp(0, logits) - own * logits
            errors = (expit(logits) - own) * (rows / rows.sum())[:, None]
            penalty = both[:-1] / (strength * rows.sum())
            slope = np.vstack([transposed @ errors + penalty, errors.sum(axis=0)])
            value = float(rows @ losses.sum(axis=1)) / rows.sum()
            value += 0.5 * float((both[:-1] * penalty).sum())
            return value, slope.astype(np.float64).ravel()

        first = np.vstack([weights[:, some], bias[some]])
        if start is not None:
            first = np.vstack([start.weights[:, some], start.bias[some]])
        fitted = minimize(
            loss,
            first.astype(np.float64).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"gtol": _TOLERANCE, "maxiter": _MOST_STEPS, "ftol": 1e-9},
        ).x.reshape(shape)
        weights[:, some], bias[some] = fitted[:-1], fitted[-1]
    return Head(weights, bias)


def added(logits: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the mixed log-odds, shape (texts, labels)."""
    parts = zip(weights, logits, strict=True)
    return np.asarray(sum(np.float32(weight) * part for weight, part in parts))


def adding_weights(logits: Sequence[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """Return the positive weights under which unseen rows have the highest likelihood.

    Args:
        logits: of each head on rows that it has not seen, shape (rows, labels).
        targets: whether each row has each label; without rows, all heads weigh the same.
    """
    start = np.full(len(logits), 1 / len(logits))
    if not len(targets):
        return start
    parts = np.stack(logits)  # (heads, rows, labels)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.tensordot(weights.astype(np.float32), parts, 1)
        losses = np.logaddexp(0, mixed) - targets * mixed
        slopes = np.tensordot(parts, expit(mixed) - targets, 2)
        return float(losses.sum()) / len(targets), slopes.astype(np.float64) / len(targets)

    bounds = [(_LEAST_WEIGHT, _MOST_WEIGHT)] * len(parts)
    return np.asarray(minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


@dataclass(frozen=True)
class Decision:
    """Which labels are answered, and how likely it is that these are all, and no other."""

    threshold: float
    """Log-odds from which a label is answered."""
    is_never_empty: bool
    """Whether the likeliest label is answered in any case: no row that was learnt has none."""
    slope: float = 1.0
    offset: float = 0.0
    """From the log-odds of the answer, its labels taken as independent, to calibrated ones."""

    @classmethod
    def fitted(cls, logits: np.ndarray, targets: np.ndarray, is_never_empty: bool) -> Decision:
        """Return the decision with about the highest micro-F1 on unseen rows, calibrated on them.

        Args:
            logits: mixed, shape (rows, labels).
            targets: whether each row has each label.
            is_never_empty: as the attribute.
        """
        free = np.ones(logits.shape, bool)
        if is_never_empty and len(logits):
            free[np.arange(len(logits)), logits.argmax(axis=1)] = False
        order = np.argsort(-logits[free], kind="stable")
        values, hits = logits[free][order], targets[free][order].cumsum()
        n_right = np.concatenate([[0], hits]) + targets[~free].sum()
        n_answered = np.arange(len(values) + 1) + (~free).sum()
        scores = 2 * n_right / np.maximum(n_answered + targets.sum(), 1)
        best = int(np.flatnonzero(scores >= (1 - _NEAR_BEST) * scores.max())[0])
        ends = np.concatenate([[_FARTHEST], values, [-_FARTHEST]])
        threshold = float(ends[best : best + 2].mean())
        bare = cls(threshold, is_never_empty)
        sets = bare.sets(logits)
        right = (sets == targets).all(axis=1)
        if len(np.unique(right)) < 2:
            return bare
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression().fit(bare._sureness(logits, sets)[:, None], right)
        slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
        return cls(threshold, is_never_empty, slope, offset)

    def sets(self, logits: np.ndarray) -> np.ndarray:
        """Return whether each label is answered, shape (texts, labels)."""
        answered: np.ndarray = logits >= self.threshold
        if self.is_never_empty and len(logits):
            answered[np.arange(len(logits)), logits.argmax(axis=1)] = True
        return answered

    def confidence(self, logits: np.ndarray, sets: np.ndarray) -> np.ndarray:
        """Return how likely each set of labels is right, shape (texts,)."""
        sure: np.ndarray = expit(self.slope * self._sureness(logits, sets) + self.offset)
        return sure

    def _sureness(self, logits: np.ndarray, sets: np.ndarray) -> np.ndarray:
        log_p = log_probability(logits, sets)
        odds = log_p - np.log(np.maximum(-np.expm1(log_p), 1e-9))
        return np.clip(odds, -_FARTHEST, _FARTHEST)


def log_probability(logits: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Return how likely sets are if labels are independent, nats, shape (texts,)."""
    return -np.logaddexp(0, np.where(sets, -logits, logits)).sum(axis=1, dtype=np.float64)


@dataclass(frozen=True)
class SetClassifier(Classifier):
    """A student for several labels."""

    format = "label_sets"

    decision: Decision

    @override
    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return how likely a text has each label, shape (texts, labels)."""
        return np.asarray(expit(self._logits(self._features(texts))))

    def _logits(self, features: Sequence[Matrix]) -> np.ndarray:
        """Return the calibrated log-odds of each label, shape (texts, labels)."""
        parts = [head.logits(some) for head, some in zip(self.heads, features, strict=True)]
        return added(parts, self.weights)

    @override
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        if not texts:
            return []
        features = self._features(texts)
        logits = self._logits(features)
        sets = self.decision.sets(logits)
        sure = self.decision.confidence(logits, sets)
        rows = zip(logits, sets, sure, self._familiar(features), strict=True)
        return [self._predicted(*row) for row in rows]

    def _predicted(
        self, logits: np.ndarray, labels: np.ndarray, sure: float, familiar: float
    ) -> Prediction:
        """Return an answer, and those that differ from it in the least sure labels.

        What the answer leaves of the probability is theirs by what they are worth with independent
        labels. Of a text that is unlike the rows, all are less likely.
        """
        flips = np.argsort(np.abs(logits), kind="stable")[:_N_OTHERS]
        sets = np.repeat(labels[None], len(flips), axis=0)
        sets[np.arange(len(flips)), flips] ^= True
        if self.decision.is_never_empty:
            sets = sets[sets.any(axis=1)]
        shares = np.exp(log_probability(np.repeat(logits[None], len(sets), axis=0), sets))
        rest = -np.expm1(log_probability(logits[None], labels[None]))[0]
        shares *= familiar * (1 - sure) / max(rest, 1e-9)
        order = np.argsort(-shares, kind="stable")
        next_best = tuple((self._text(sets[k]), float(shares[k])) for k in order)
        return Prediction(self._text(labels), float(familiar * sure), next_best)

    def _text(self, labels: np.ndarray) -> str:
        return written(self.labels[k] for k in np.flatnonzero(labels))

    @property
    @override
    def _more(self) -> dict[str, Any]:
        return {"decision": asdict(self.decision)}

    @classmethod
    @override
    def _read_more(cls, described: Mapping[str, Any]) -> dict[str, Any]:
        decision = Decision(**described["decision"])
        if not np.isfinite([decision.threshold, decision.slope, decision.offset]).all():
            raise ValueError("its threshold is no number")
        return {"decision": decision}


class SetStudy(Study):
    """Kinds under cross-validation on rows of several labels, which are chosen by micro-F1."""

    @override
    def _read(self, answers: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the labels, and whether each row has each, shape (rows, labels)."""
        sets = [labels_of(answer) or () for answer in answers]
        labels = tuple(sorted({label for some in sets for label in some}))
        numbers = {label: k for k, label in enumerate(labels)}
        targets = np.zeros((len(sets), len(labels)), bool)
        for row, some in zip(targets, sets, strict=True):
            row[[numbers[label] for label in some]] = True
        return labels, targets

    @override
    def _strata(self) -> np.ndarray:
        """Return of each row its rarest label: so each fold has its share of rare labels."""
        counts = self._answers.sum(axis=0)
        rarity = np.where(self._answers, counts, len(self._answers) + 1)
        rarest: np.ndarray = np.where(self._answers.any(axis=1), rarity.argmin(axis=1), -1)
        return rarest

    @override
    def _by_even_folds(self, score: KindScore) -> float:
        """Return 0: only the rarest label of each row is spread evenly."""
        return 0.0

    @override
    def _learnable(self) -> np.ndarray:
        return np.ones(len(self._answers), bool)

    @override
    def _fit_head(
        self,
        features: Matrix,
        rows: np.ndarray,
        strength: float,
        weights: np.ndarray | None,
        start: Head | None,
    ) -> Head:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            return fit_heads(features, self._answers[rows], strength, weights, start)

    @override
    def _scores_of(self, head: Head, features: Matrix) -> np.ndarray:
        return head.logits(features)

    @override
    def _mix(self, parts: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        return added(parts, weights)

    @override
    def _weights_of(self, parts: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
        return adding_weights(parts, self._answers[rows])

    @override
    def _losses(self, mixed: np.ndarray) -> np.ndarray:
        return -log_probability(mixed, self._answers[self._held])

    @property
    @override
    def _chance(self) -> float:
        return 0.0  # of very many sets

    @property
    def _is_never_empty(self) -> bool:
        return bool(self._answers.any(axis=1).all())

    @override
    def _judged(
        self, mixed: np.ndarray, rows: np.ndarray, rest: np.ndarray, of_others: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        decision = Decision.fitted(rest, self._answers[of_others], self._is_never_empty)
        sets, gold = decision.sets(mixed), self._answers[rows]
        counts = np.stack([2 * (sets & gold).sum(1), sets.sum(1) + gold.sum(1)], 1)
        return decision.confidence(mixed, sets), (sets == gold).all(axis=1), counts

    @override
    def _student(
        self,
        kind: str,
        chosen: Study,
        blocks: Sequence[Features],
        heads: Sequence[Head],
        weights: np.ndarray,
        centroids: sparse.csr_matrix,
    ) -> SetClassifier:
        assert isinstance(chosen, SetStudy)
        parts = chosen._unseen(kind)
        mixed = added(parts, chosen._mixing_weights(parts))
        targets = chosen._answers[chosen._held]
        decision = Decision.fitted(mixed, targets, self._is_never_empty)
        return SetClassifier(
            self.labels,
            tuple(blocks),
            tuple(heads),
            weights,
            decision,
            centroids=centroids,
            familiarity=Familiarity.of(chosen._similar(kind)),
        )

    @property
    @override
    def _plain(self) -> type[Study]:
        return SetStudy
