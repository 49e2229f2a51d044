"""A logistic regression on far more features than rows, learnt in the space that the rows span.

The penalised solution is a combination of the training rows (the representer theorem), so that rows
may be replaced by coordinates with the same inner products: those of the Cholesky factor of their
Gram matrix. TF-IDF with 100,000 columns becomes a dense square with as many columns as rows; the
head is the same, up to a ridge of 1e-5, and comes in a tenth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular

from stratos.models.kinds.features import Matrix
from stratos.models.kinds.heads import Head

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
