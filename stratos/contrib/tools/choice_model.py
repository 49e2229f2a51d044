"""A log-linear choice among described candidates: a conditional logit.

p(candidate) is a softmax over the candidates of one choice. The score of a candidate adds the
weights of its features, which are names. Several candidates may be right: training maximises their
summed probability. So candidates that no training row shows are scored, too, by the features that
they share with others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

_PENALTY = 0.3
_MOST_STEPS = 80
_FEWEST = 2
"""Choices in which a feature stands at least, to have a weight."""


@dataclass(frozen=True)
class Example:
    """One choice of the training rows."""

    features: list[Sequence[str]]
    """Of each candidate."""
    right: list[bool]
    """Whether each candidate is right; one at least is."""


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


def fit(examples: Sequence[Example]) -> ChoiceModel:
    """Return the weights that suit choices best, by L-BFGS with a quadratic penalty."""
    from scipy import sparse
    from scipy.optimize import minimize

    counts = Counter(
        name for example in examples for name in {*chain.from_iterable(example.features)}
    )
    number = {name: k for k, name in enumerate(n for n in counts if counts[n] >= _FEWEST)}
    if not number:
        return ChoiceModel()
    ends, columns = [0], list[int]()
    for example in examples:
        for names in example.features:
            columns += [number[name] for name in names if name in number]
            ends.append(len(columns))
    matrix = sparse.csr_matrix(
        (np.ones(len(columns), np.float32), np.array(columns, np.int32), np.array(ends)),
        (len(ends) - 1, len(number)),
    )
    transposed = matrix.T.tocsr()
    owner = np.repeat(np.arange(len(examples)), [len(e.features) for e in examples])
    right = np.array([*chain.from_iterable(e.right for e in examples)], float)
    n = len(examples)

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

    best = minimize(
        objective,
        np.zeros(len(number)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS},
    )
    return ChoiceModel({name: float(best.x[k]) for name, k in number.items()})
