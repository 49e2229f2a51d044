"""A classifier of texts: a logistic regression on each view of the features, mixed and calibrated.

Every view of a block has a head of its own, and the log-probabilities of the heads are added with
weights that maximise the likelihood of rows which the heads have not seen. The same weights
calibrate: they shrink what is too sure of itself. So views of all sizes combine without a common
scale, and one that says nothing gets a weight near 0.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from typing_extensions import override

from stratos.models.kinds.base import FILE, WEIGHTS, Prediction, Predictor
from stratos.models.kinds.features import Arrays, Encoder, Features, Matrix, StaticTable, Tfidf
from stratos.models.kinds.tuned import TunedEncoder

_BLOCKS: dict[str, type[Features]] = {
    block.name: block for block in (Tfidf, StaticTable, Encoder, TunedEncoder)
}
"""By the name that a student's JSON has."""
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
_N_OTHERS = 19
"""Further labels that are told: with the answer as many as the OpenAI API lists."""


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


@dataclass(frozen=True)
class Classifier(Predictor):
    """A student for labels."""

    format = "classifier"

    labels: tuple[str, ...]
    blocks: tuple[Features, ...]
    heads: tuple[Head, ...]
    weights: np.ndarray
    """Of the heads, shape (heads,)."""
    unseen: float = field(default=0.0, kw_only=True)
    """Share of texts whose label no row had that it learnt: of these no answer is right."""

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return how likely each label is, shape (texts, labels); rows add up to 1 - `unseen`."""
        parts = [
            head.log_probabilities(block.transform(texts))
            for block, head in zip(self.blocks, self.heads, strict=True)
        ]
        return np.exp(mix(parts, self.weights)) * (1 - self.unseen)

    @override
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        predictions = []
        for row in self.probabilities(texts) if texts else ():
            best, *next_best = np.argsort(-row)[: _N_OTHERS + 1]
            listed = tuple((self.labels[k], float(row[k])) for k in next_best)
            predictions.append(Prediction(self.labels[best], float(row[best]), listed))
        return predictions

    @property
    @override
    def n_params(self) -> int:
        heads = sum(head.weights.size + head.bias.size for head in self.heads)
        return heads + sum(block.n_params for block in self.blocks)

    @property
    @override
    def uses_torch(self) -> bool:
        return any(block.uses_torch for block in self.blocks)

    @override
    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        arrays: Arrays = {"mixing_weights": self.weights}
        blocks = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            settings, own = block.state()
            blocks.append({"name": block.name, **settings})
            arrays |= {f"{block.name}.{name}": array for name, array in own.items()}
            arrays |= {f"{block.name}.head": head.weights, f"{block.name}.bias": head.bias}
            block.save(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / WEIGHTS)
        described = {
            "format": self.format,
            "labels": self.labels,
            "unseen": self.unseen,
            "blocks": blocks,
            **self._more,
        }
        text = json.dumps(described, ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text, encoding="utf-8")

    @property
    def _more(self) -> dict[str, Any]:
        """What `student.json` has beside labels and blocks: fields of the class."""
        return {}

    @classmethod
    @override
    def load(cls, folder: Path) -> Self:
        from safetensors.numpy import load_file

        described = json.loads((folder / FILE).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS)
        blocks, heads = [], []
        for settings in described["blocks"]:
            name = settings["name"]
            own = {
                key.removeprefix(f"{name}."): array
                for key, array in arrays.items()
                if key.startswith(f"{name}.")
            }
            heads.append(Head(own.pop("head"), own.pop("bias")))
            blocks.append(_BLOCKS[name].of_state(settings, own, folder))
        labels = tuple(described["labels"])
        mixing = arrays["mixing_weights"]
        numbers = [mixing, *(array for head in heads for array in (head.weights, head.bias))]
        is_whole = all(
            head.weights.ndim == 2 and head.weights.shape[1] == len(labels) == len(head.bias)
            for head in heads
        )
        if not (heads and is_whole and len(mixing) == len(heads)):
            raise ValueError("its heads do not fit its labels")
        if not all(np.isfinite(number).all() for number in numbers):
            raise ValueError("one of its weights is no number")
        if not all(isinstance(label, str) for label in labels):
            raise ValueError("one of its labels is no text")
        unseen = float(described.get("unseen", 0.0))
        if not 0 <= unseen <= 1:
            raise ValueError("its share of unseen labels is none")
        more = cls._read_more(described)
        return cls(labels, tuple(blocks), tuple(heads), mixing, unseen=unseen, **more)

    @classmethod
    def _read_more(cls, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that `_more` wrote."""
        return {}
