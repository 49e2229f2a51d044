"""A linear-chain conditional random field over token features (Lafferty, McCallum, Pereira 2001).

p(labels | tokens) is proportional to exp(sum of emissions[t, label_t] + moves[label_t-1, label_t]).
Training maximises the log-likelihood with an L2 penalty by L-BFGS. The forward and backward passes
run over all sequences of one length at once, in probabilities that are scaled at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy import sparse

_COPIES, _DROP = 3, 0.5
"""Noisy copies of each sequence, and the share of their features that is dropped."""
_PENALTY, _MOST_STEPS, _FEWEST = 0.1, 80, 2
"""`_FEWEST` tokens have a feature that is used."""


@dataclass(frozen=True)
class Chain:
    """Weights of a chain."""

    labels: list[str]
    columns: np.ndarray
    """Numbers of the features in use, in ascending order."""
    emissions: np.ndarray
    """Shape (columns, labels)."""
    moves: np.ndarray
    """Shape (labels, labels): from the label before."""
    initial: np.ndarray
    """Shape (labels,)."""

    def decode(self, features: np.ndarray) -> tuple[list[str], np.ndarray, float]:
        """Return the likeliest labels, how likely each is by itself, and all of them together.

        Args:
            features: numbers of features, 0 for none, shape (tokens, slots).
        """
        spots = np.minimum(np.searchsorted(self.columns, features), len(self.columns) - 1)
        in_use = (self.columns[spots] == features) & (features > 0)
        scores = np.einsum("tk,tkl->tl", in_use, self.emissions[spots])
        scores[0] += self.initial
        path, best = viterbi(scores, self.moves)
        log_z, marginals, _ = expectations(scores[None], self.moves, np.ones(1))
        certain = marginals[0][np.arange(len(path)), path]
        return [self.labels[k] for k in path], certain, float(np.exp(min(best - log_z, 0.0)))


def viterbi(scores: np.ndarray, moves: np.ndarray) -> tuple[list[int], float]:
    """Return the best path of labels and its score; `scores` has shape (tokens, labels)."""
    total, back = scores[0], []
    for row in scores[1:]:
        options = total[:, None] + moves
        back.append(options.argmax(axis=0))
        total = options.max(axis=0) + row
    path = [int(total.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return path[::-1], float(total.max())


def expectations(
    block: np.ndarray, moves: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the log partition function, the marginals and the expected moves.

    Args:
        block: scores of sequences of one length, shape (sequences, tokens, labels).
        moves: scores, shape (labels, labels).
        weights: of the sequences; they count in the first and the last that is returned.
    """
    steps, n_labels = range(block.shape[1]), block.shape[2]
    exp_moves = np.exp(moves)
    peaks = block.max(axis=2)
    mass = np.exp(block - peaks[:, :, None])
    alpha, scale = mass.copy(), np.empty(block.shape[:2])
    for t in steps:
        if t:
            alpha[:, t] *= alpha[:, t - 1] @ exp_moves
        scale[:, t] = alpha[:, t].sum(axis=1)
        alpha[:, t] /= scale[:, t, None]
    beta = np.ones_like(mass)
    for t in reversed(steps[:-1]):
        ahead = mass[:, t + 1] * beta[:, t + 1]
        beta[:, t] = ahead @ exp_moves.T / scale[:, t + 1, None]
    marginals = alpha * beta
    marginals /= marginals.sum(axis=2, keepdims=True)
    ahead = mass[:, 1:] * beta[:, 1:] / scale[:, 1:, None] * weights[:, None, None]
    pairs = alpha[:, :-1].reshape(-1, n_labels).T @ ahead.reshape(-1, n_labels)
    log_z = float(((np.log(scale) + peaks).sum(axis=1) * weights).sum())
    return log_z, marginals, exp_moves * pairs


def fit(
    features: Sequence[np.ndarray], targets: Sequence[Sequence[str]], weights: np.ndarray
) -> Chain:
    """Train a chain; copies without half of the features spread the evidence.

    Args:
        features: of each sequence, shape (tokens, slots).
        targets: labels of its tokens.
        weights: how much each sequence counts.
    """
    from scipy.optimize import minimize

    random = np.random.default_rng(0)
    copies = [
        np.where(random.random(x.shape) < _DROP, 0, x) for _ in range(_COPIES) for x in features
    ]
    every = [
        *zip(
            [*features, *copies],
            [*targets] * (1 + _COPIES),
            np.tile(weights, 1 + _COPIES),
            strict=True,
        )
    ]
    every = sorted((s for s in every if len(s[0])), key=lambda s: len(s[0]))
    lengths = np.array([len(x) for x, _, _ in every])
    starts = np.cumsum([0, *lengths])
    labels = sorted({label for _, row, _ in every for label in row})
    n = len(labels)
    truth = np.array([labels.index(label) for _, row, _ in every for label in row])
    of_sequence = np.array([weight for _, _, weight in every])
    of_token = np.repeat(of_sequence, lengths)
    matrix, columns = _design(np.concatenate([x for x, _, _ in every]))
    follows = np.ones(len(truth), dtype=bool)
    follows[starts[:-1]] = False
    counts = np.zeros((n, n))
    np.add.at(counts, (truth[:-1][follows[1:]], truth[1:][follows[1:]]), of_token[1:][follows[1:]])
    right = np.zeros((len(truth), n))
    right[np.arange(len(truth)), truth] = 1
    transposed, size = matrix.T.tocsr(), len(columns) * n
    blocks = [list(same) for _, same in groupby(range(len(every)), key=lambda k: lengths[k])]

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        emissions, moves = values[:size].reshape(-1, n), values[size:-n].reshape(n, n)
        scores = matrix @ emissions
        scores[starts[:-1]] += values[-n:]
        value = -float(((scores * right).sum(axis=1) * of_token).sum() + (moves * counts).sum())
        slope, expected = np.empty_like(scores), -counts
        for block in blocks:
            rows = slice(starts[block[0]], starts[block[-1] + 1])
            part = scores[rows].reshape(len(block), -1, n)
            log_z, marginals, pairs = expectations(part, moves, of_sequence[block])
            value, expected = value + log_z, expected + pairs
            slope[rows] = (marginals.reshape(-1, n) - right[rows]) * of_token[rows, None]
        parts = [(transposed @ slope).ravel(), expected.ravel(), slope[starts[:-1]].sum(axis=0)]
        penalty = _PENALTY * (1 + _COPIES)
        return value + penalty * float(values @ values) / 2, np.concatenate(
            parts
        ) + penalty * values

    best = minimize(
        objective,
        np.zeros(size + n * n + n),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS},
    ).x
    moves = best[size:-n].reshape(n, n)
    return Chain(labels, columns, best[:size].reshape(-1, n), moves, best[-n:])


def _design(tokens: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return the 0/1 matrix of the features of all tokens, and the numbers of its columns."""
    flat, owner = tokens.ravel(), np.repeat(np.arange(len(tokens)), tokens.shape[1])
    ids, counts = np.unique(flat, return_counts=True)
    columns = ids[(counts >= _FEWEST) & (ids > 0)]
    columns = columns if len(columns) else np.ones(1, ids.dtype)
    spots = np.minimum(np.searchsorted(columns, flat), len(columns) - 1)
    in_use = columns[spots] == flat
    ones = np.ones(int(in_use.sum()), dtype=np.float32)
    cells = (owner[in_use], spots[in_use])
    return sparse.csr_matrix((ones, cells), (len(tokens), len(columns))), columns
