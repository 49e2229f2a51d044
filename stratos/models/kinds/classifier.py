"""A classifier of texts: a logistic regression on each view of the features, mixed and calibrated.

Every view of a block has a head of its own, and the log-probabilities of the heads are added with
weights that maximise the likelihood of rows which the heads have not seen. The same weights
calibrate: they shrink what is too sure of itself. So views of all sizes combine without a common
scale, and one that says nothing gets a weight near 0.

A head is sure of texts that are like none of its rows, too: random letters have to be of some
label. So the probability of a text falls to chance where its features are far from those of every
label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse
from typing_extensions import override

from stratos.models.kinds.base import FILE, WEIGHTS, Prediction, Predictor
from stratos.models.kinds.features import STORED, Arrays, Features, Head, Matrix, Tfidf, mix
from stratos.models.kinds.student_kinds import LABELS

_N_OTHERS = 19
"""Further labels that are told: with the answer as many as the OpenAI API lists."""


_CENTROIDS = ("centroids.data", "centroids.indices", "centroids.indptr")
"""Names of the arrays of a sparse matrix by rows in the weights of a student."""


def block_class(name: str) -> type[Features]:
    """Return the class of a block of features, by the name that a student's JSON has."""
    return Tfidf if name == Tfidf.name else LABELS[name].block_class()


@dataclass(frozen=True)
class Familiarity:
    """How far the texts of a task are from the rows that were learnt, and so what is none of them.

    A text is as similar to the rows as the cosine of its features with the centroid of the nearest
    label says.
    """

    low: float
    """Similarity that all but 1% of the rows have to a student that has not seen them."""
    middle: float
    """Their median."""
    _SHARE: ClassVar[float] = 0.01
    _LEAST_WIDTH: ClassVar[float] = 0.05
    """Of the ramp: rows that are all alike would make it a step."""
    _LEAST: ClassVar[float] = 0.01
    """What holds of any text: so the likeliest label stays the answer."""

    @classmethod
    def of(cls, similarities: np.ndarray) -> Familiarity:
        """Return what the similarities of unseen rows tell, shape (rows,)."""
        low, middle = np.quantile(similarities, [cls._SHARE, 0.5])
        return cls(float(low), float(middle))

    def shares(self, similarities: np.ndarray) -> np.ndarray:
        """Return how much of what is known of rows holds of texts, from 0.01 to 1, shape (texts,).

        All of it from `low` on; as far below it as the median lies above, next to nothing.
        """
        width = max(self.middle - self.low, self._LEAST_WIDTH)
        shares: np.ndarray = np.clip(1 - (self.low - similarities) / width, self._LEAST, 1)
        return shares


def centroids_of(features: Matrix, groups: np.ndarray, n_groups: int) -> sparse.csr_matrix:
    """Return the directions of the mean features of groups of rows, shape (features, groups).

    Args:
        features: shape (rows, features).
        groups: that of each row, below `n_groups`.
        n_groups: groups that there are; one without rows is as far from all texts as can be.
    """
    ones = np.ones(len(groups), np.float32)
    members = sparse.csr_matrix((ones, (np.arange(len(groups)), groups)), (len(groups), n_groups))
    sums = sparse.csr_matrix(features.T @ members)
    lengths = np.sqrt(np.bincount(sums.indices, sums.data**2, minlength=n_groups))
    sums.data /= np.maximum(lengths[sums.indices], 1e-9).astype(np.float32)
    return sums


def similarities_to(centroids: sparse.csr_matrix, features: Matrix) -> np.ndarray:
    """Return the cosine of each text's features with the nearest centroid, shape (texts,)."""
    products = features @ centroids
    if isinstance(features, np.ndarray):
        lengths = np.linalg.norm(features, axis=1)
    else:
        products = products.toarray()
        lengths = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
    nearest: np.ndarray = products.max(axis=1) / np.maximum(lengths, 1e-9)
    return nearest


@dataclass(frozen=True)
class Classifier(Predictor):
    """A student for labels."""

    format = "classifier"

    labels: tuple[str, ...]
    blocks: tuple[Features, ...]
    heads: tuple[Head, ...]
    weights: np.ndarray
    """Of the heads, shape (heads,)."""
    centroids: sparse.csr_matrix = field(kw_only=True)
    """Of the labels in the features of the first block, shape (features, labels)."""
    familiarity: Familiarity = field(kw_only=True)
    unseen: float = field(default=0.0, kw_only=True)
    """Share of texts whose label no row had that it learnt: of these no answer is right."""

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return how likely each label is, shape (texts, labels); rows add up to 1 - `unseen`."""
        features = self._features(texts)
        parts = [h.log_probabilities(f) for h, f in zip(self.heads, features, strict=True)]
        chance = 1 / len(self.labels)
        beyond = np.exp(mix(parts, self.weights)) - chance
        return (chance + self._familiar(features)[:, None] * beyond) * (1 - self.unseen)

    def _features(self, texts: Sequence[str]) -> list[Matrix]:
        """Return what each block makes of texts."""
        return [block.transform(texts) for block in self.blocks]

    def _familiar(self, features: Sequence[Matrix]) -> np.ndarray:
        """Return how much of what is known of rows holds of texts, by the features of blocks."""
        return self.familiarity.shares(similarities_to(self.centroids, features[0]))

    @override
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
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
        return heads + self.centroids.nnz + sum(block.n_params for block in self.blocks)

    @property
    @override
    def uses_torch(self) -> bool:
        return any(block.uses_torch for block in self.blocks)

    @property
    @override
    def vocabulary(self) -> tuple[int, int] | None:
        return next((block.vocabulary for block in self.blocks if block.vocabulary), None)

    @property
    @override
    def is_slow(self) -> bool:
        return any(block.is_slow for block in self.blocks)

    @override
    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        near = self.centroids
        parts = zip(_CENTROIDS, (near.data, near.indices, near.indptr), strict=True)
        arrays: Arrays = {"mixing_weights": self.weights, **dict(parts)}
        blocks = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            settings, own = block.state()
            blocks.append({"name": block.name, **settings})
            arrays |= {f"{block.name}.{name}": array for name, array in own.items()}
            arrays[f"{block.name}.head"] = head.weights.astype(STORED)
            arrays[f"{block.name}.bias"] = head.bias
            block.save(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / WEIGHTS)
        described = {
            "format": self.format,
            "labels": self.labels,
            "unseen": self.unseen,
            "familiarity": asdict(self.familiarity),
            "blocks": blocks,
            **self._more,
        }
        text = json.dumps(described, ensure_ascii=False)
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
            heads.append(Head(own.pop("head").astype(np.float32), own.pop("bias")))
            blocks.append(block_class(name).of_state(settings, own, folder))
        labels = tuple(described["labels"])
        mixing = arrays["mixing_weights"]
        is_whole = all(
            head.weights.ndim == 2 and head.weights.shape[1] == len(labels) == len(head.bias)
            for head in heads
        )
        if not (heads and is_whole and mixing.shape == (len(heads),)):
            raise ValueError("its heads do not fit its labels")
        if not all(np.isfinite(array).all() for array in arrays.values()) or (mixing < 0).any():
            raise ValueError("one of its weights is no number, or below 0")
        if len(set(labels)) < len(labels) or not all(isinstance(la, str) for la in labels):
            raise ValueError("one of its labels is no text, or there twice")
        if any(not _fits(block, head) for block, head in zip(blocks, heads, strict=True)):
            raise ValueError("its heads do not fit its features")
        unseen = float(described.get("unseen", 0.0))
        if not 0 <= unseen <= 1:
            raise ValueError("its share of unseen labels is none")
        familiarity = Familiarity(**described["familiarity"])
        if not np.isfinite([familiarity.low, familiarity.middle]).all():
            raise ValueError("the similarity of its rows is no number")
        return cls(
            labels,
            tuple(blocks),
            tuple(heads),
            mixing,
            centroids=_centroids_read(arrays, len(heads[0].weights), len(labels)),
            familiarity=familiarity,
            unseen=unseen,
            **cls._read_more(described),
        )

    @classmethod
    def _read_more(cls, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that `_more` wrote."""
        return {}


def _centroids_read(arrays: Arrays, n_features: int, n_labels: int) -> sparse.csr_matrix:
    """Return the centroids that a student's file has; an index beyond them would read any memory.

    Raises:
        ValueError: they do not fit the features.
    """
    data, indices, indptr = (arrays[name] for name in _CENTROIDS)
    shape = (n_features, n_labels + 1)  # of sets, rows without a label may have one of their own
    centroids = sparse.csr_matrix((data, indices, indptr), shape)
    centroids.check_format(full_check=True)
    return centroids


def _fits(block: Features, head: Head) -> bool:
    """Return whether a head has a weight of each feature; an encoder's are seen when it answers."""
    return block.is_slow or block.transform([""]).shape[1] == len(head.weights)
