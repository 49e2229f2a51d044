"""Logistic regressions on groups of features, and how their log-probabilities are mixed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import log_softmax

from stratos.models.kinds.features import Matrix

_MOST_ROWS = 3_000
"""Above it the square of the rows costs more than it saves."""
_RIDGE = 1e-5
"""Rows that stand twice would make the Gram matrix singular."""


@dataclass(frozen=True)
class RowSpace:
    """Coordinates in the span of training rows."""

    rows: sparse.csr_matrix
    """Shape (rows, features)."""
    coordinates: np.ndarray
    """Of the same rows, shape (rows, rows), lower triangular, float32."""

    @classmethod
    def of(cls, rows: Matrix) -> RowSpace | None:
        """Return the span of sparse rows; None of dense or of too many rows."""
        if not sparse.issparse(rows) or rows.shape[0] > min(_MOST_ROWS, rows.shape[1]):
            return None
        wide = sparse.csr_matrix(rows)
        exact = wide.astype(np.float64)
        gram = (exact @ exact.T).toarray()
        gram[np.diag_indices_from(gram)] += _RIDGE
        return cls(wide, cholesky(gram, lower=True).astype(np.float32))

    def transform(self, rows: sparse.csr_matrix) -> np.ndarray:
        """Return the coordinates of other rows, shape (other rows, rows)."""
        products = (self.rows @ rows.T).toarray()
        solved: np.ndarray = solve_triangular(self.coordinates, products, lower=True)
        return solved.T.astype(np.float32)

    def head(self, head: Head) -> Head:
        """Return the head on features of one on coordinates."""
        shares = solve_triangular(self.coordinates, head.weights, lower=True, trans="T")
        return Head(np.asarray(self.rows.T @ shares, np.float32), head.bias)


_FLOOR = np.log(1e-6)
"""Log-probability of a label that a head never saw."""
_TOLERANCE, _MOST_STEPS = 1e-4, 300
"""Of the gradient of the mean loss. With many labels that is small from the start: at 1e-3 a head
of 77 labels stops before it has learnt."""
_LEAST_WEIGHT = 1e-3
"""Of a head whose guesses on unseen rows are worse than none: the likeliest label stays the answer,
with the probability of chance."""
_PRIOR = 3.0
"""Nats that rows have to bring for a sum of the weights that is 1 off."""


@dataclass(frozen=True)
class Head:
    """A logistic regression."""

    weights: np.ndarray
    """Shape (features, labels), float32."""
    bias: np.ndarray
    """Shape (labels,)."""

    def logits(self, features: Matrix) -> np.ndarray:
        """Return shape (texts, labels)."""
        logits: np.ndarray = features @ self.weights + self.bias
        return logits

    def log_probabilities(self, features: Matrix) -> np.ndarray:
        """Return shape (texts, labels), nats; of each text one label is right."""
        return log_softmax(self.logits(features), axis=1)


def fit_head(
    features: Matrix,
    labels: np.ndarray,
    n_labels: int,
    strength: float,
    row_weights: np.ndarray | None = None,
    start: Head | None = None,
) -> Head:
    """Fit a logistic regression; labels without rows get a probability near 0.

    Args:
        features: shape (rows, features).
        labels: numbers below `n_labels`, shape (rows,).
        n_labels: labels that there are.
        strength: inverse strength of the L2 penalty.
        row_weights: how much each row counts, shape (rows,); 1 where None.
        start: a head of the same rows with another strength, to begin from.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    weights = np.zeros((features.shape[1], n_labels), np.float32)
    bias = np.full(n_labels, _FLOOR, np.float32)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0
        return Head(weights, bias)
    with threadpool_limits(limits=1):  # of small matrices, threads wait for each other
        model = LogisticRegression(
            C=strength, tol=_TOLERANCE, max_iter=_MOST_STEPS, warm_start=start is not None
        )
        if start is not None:
            rows, first = start.weights[:, present].T, start.bias[present]
            two = len(present) == 2  # of two labels scikit-learn has the difference
            model.coef_, model.intercept_ = (
                np.diff(a, axis=0) if two else a for a in (rows, first)
            )
        with warnings.catch_warnings():  # of many labels with few rows each, which is no mistake
            warnings.filterwarnings("ignore", message="The number of unique classes")
            model.fit(features, labels, sample_weight=row_weights)
    rows, first = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
    if len(present) == 2:  # one row of weights, for the second label
        rows, first = np.stack([-rows[0] / 2, rows[0] / 2]), np.array([-first[0] / 2, first[0] / 2])
    weights[:, present] = rows.T
    bias[present] = first
    return Head(weights, bias)


def joined(heads: Sequence[Head], weights: np.ndarray) -> tuple[Head, float]:
    """Return the mixture of the heads of a block's views as a head of the block, and its weight.

    Args:
        heads: of each view.
        weights: of each head in the mixture of all blocks.
    """
    total = float(weights.sum())
    shares = weights / total if total else weights
    rows = np.vstack([share * head.weights for share, head in zip(shares, heads, strict=True)])
    bias = np.sum([share * head.bias for share, head in zip(shares, heads, strict=True)], axis=0)
    return Head(rows.astype(np.float32), bias.astype(np.float32)), total


def mix(log_probabilities: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the mixed log-probabilities, shape (texts, labels).

    Args:
        log_probabilities: of each head, shape (texts, labels).
        weights: of each head.
    """
    total = sum(weight * part for weight, part in zip(weights, log_probabilities, strict=True))
    return log_softmax(np.asarray(total), axis=1)


def mixing_weights(log_probabilities: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the positive weights under which unseen rows have the highest likelihood.

    Before a row is read, their sum is taken to be about 1: of 50 rows it would be anything.

    Args:
        log_probabilities: of each head on rows that it has not seen, shape (rows, labels).
        labels: of these rows; without any, all heads weigh the same.
    """
    start = np.full(len(log_probabilities), 1 / len(log_probabilities))
    if not len(labels):
        return start
    parts = np.stack(log_probabilities)  # (heads, rows, labels)
    rows = np.arange(len(labels))
    right = parts[:, rows, labels]  # (heads, rows)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = log_softmax(np.tensordot(weights, parts, 1), axis=1)
        expected = (np.exp(mixed)[None] * parts).sum(axis=2)
        beyond, prior = weights.sum() - 1, _PRIOR / len(rows)
        value = -mixed[rows, labels].mean() + prior * beyond**2
        return float(value), (expected - right).mean(axis=1) + 2 * prior * beyond

    bounds = [(_LEAST_WEIGHT, 20.0)] * len(parts)
    return np.asarray(minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)
