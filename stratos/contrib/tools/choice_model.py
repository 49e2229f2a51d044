"""A log-linear choice among described candidates: a conditional logit.

p(candidate) is a softmax over the candidates of one choice. The score of a candidate adds the
weights of its features, which are names. Several candidates may be right: training maximises their
summed probability. So candidates that no training row shows are scored, too, by the features that
they share with others.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

_PENALTY = 0.3
_MOST_STEPS = 80
_FEWEST = 2
"""Choices in which a feature stands at least, to have a weight."""


class Choices:
    """Choices of training rows; features are kept as numbers, since names would take gigabytes."""

    def __init__(self) -> None:
        """Begin without any."""
        self._numbers: dict[str, int] = {}
        self._n_choices = list[int]()
        """Of each feature, in how many choices it stands."""
        self._columns, self._ends = array("i"), array("q", [0])
        self._sizes, self._right = array("i"), bytearray()

    def add(self, features: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
        """Add a choice.

        Args:
            features: of each candidate.
            right: whether each candidate is right; one at least is.
        """
        numbers, columns = self._numbers, self._columns
        start = len(columns)
        for names in features:
            columns.extend([numbers.setdefault(name, len(numbers)) for name in names])
            self._ends.append(len(columns))
        self._n_choices += [0] * (len(numbers) - len(self._n_choices))
        for number in {*columns[start:]}:
            self._n_choices[number] += 1
        self._sizes.append(len(features))
        self._right += bytes(right)

    def arrays(self) -> tuple[list[str], sparse.csr_matrix, np.ndarray, np.ndarray]:
        """Return the features that have a weight, and all candidates.

        Returns:
            Names of the features; which of them each candidate has, shape (candidates, features);
            the number of each candidate's choice; and 1.0 where a candidate is right.
        """
        from scipy import sparse

        has_weight = np.array(self._n_choices, np.int64) >= _FEWEST
        number = np.cumsum(has_weight) - 1
        names = [name for name, has in zip(self._numbers, has_weight, strict=True) if has]
        columns = np.frombuffer(self._columns, np.int32) if self._columns else np.zeros(0, np.int32)
        stays = has_weight[columns]
        ends = np.concatenate([[0], np.cumsum(stays)])[np.array(self._ends)]
        columns = number[columns[stays]].astype(np.int32)
        shape = (len(ends) - 1, len(names))
        matrix = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape)
        owner = np.repeat(np.arange(len(self._sizes)), self._sizes)
        return names, matrix, owner, np.frombuffer(self._right, np.uint8).astype(float)


@dataclass(frozen=True)
class ChoiceModel:
    """Weights of features."""

    weights: Mapping[str, float] = field(default_factory=dict)

    def probabilities(self, candidates: Sequence[Iterable[str]]) -> np.ndarray:
        """Return the probability of each candidate by its features, shape (candidates,)."""
        weight = self.weights.get
        scores = np.array([sum([weight(name, 0.0) for name in names]) for names in candidates])
        mass = np.exp(scores - scores.max())
        probabilities: np.ndarray = mass / mass.sum()
        return probabilities

    def chances(self, candidates: Sequence[Iterable[str]], second: Iterable[str]) -> np.ndarray:
        """Return the probability of each candidate against a second one, shape (candidates,)."""
        weight = self.weights.get
        scores = np.array([sum([weight(name, 0.0) for name in names]) for names in candidates])
        chances: np.ndarray = 1 / (1 + np.exp(sum(weight(name, 0.0) for name in second) - scores))
        return chances


def fit(choices: Choices) -> ChoiceModel:
    """Return the weights that suit choices best, by L-BFGS with a quadratic penalty."""
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    names, matrix, owner, right = choices.arrays()
    if not names:
        return ChoiceModel()
    transposed = matrix.T.tocsr()
    n = int(owner[-1]) + 1

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = (matrix @ weights.astype(np.float32)).astype(float)
        peak = np.full(n, -np.inf)
        np.maximum.at(peak, owner, scores)
        mass = np.exp(scores - peak[owner])
        total = np.bincount(owner, mass, n)
        correct = np.maximum(np.bincount(owner, mass * right, n), 1e-300)
        slope = mass * (1 / total[owner] - right / correct[owner])
        gradient = transposed @ slope.astype(np.float32) + _PENALTY * weights
        loss = np.log(total).sum() - np.log(correct).sum()
        return float(loss + _PENALTY * weights @ weights / 2), gradient

    with threadpool_limits(limits=1):  # of vectors, threads wait for each other
        best = minimize(
            objective,
            np.zeros(len(names)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MOST_STEPS},
        )
    return ChoiceModel(dict(zip(names, best.x.tolist(), strict=True)))
