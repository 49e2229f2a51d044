"""A classifier of texts: a logistic regression on each view of the features, mixed and calibrated.

Every view of a block has a head of its own, and the log-probabilities of the heads are added with
weights that maximise the likelihood of rows which the heads have not seen. The same weights
calibrate: they shrink what is too sure of itself. So views of all sizes combine without a common
scale, and one that says nothing gets a weight near 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from typing_extensions import override

from stratos.models.kinds.base import FILE, WEIGHTS, Prediction, Predictor
from stratos.models.kinds.features import Arrays, Features, Head, Tfidf, mix
from stratos.models.kinds.student_kinds import LABELS

_N_OTHERS = 19
"""Further labels that are told: with the answer as many as the OpenAI API lists."""


def block_class(name: str) -> type[Features]:
    """Return the class of a block of features, by the name that a student's JSON has."""
    return Tfidf if name == Tfidf.name else LABELS[name].block_class()


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
        return heads + sum(block.n_params for block in self.blocks)

    @property
    @override
    def uses_torch(self) -> bool:
        return any(block.uses_torch for block in self.blocks)

    @property
    @override
    def is_slow(self) -> bool:
        return any(block.is_slow for block in self.blocks)

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
        more = cls._read_more(described)
        return cls(labels, tuple(blocks), tuple(heads), mixing, unseen=unseen, **more)

    @classmethod
    def _read_more(cls, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that `_more` wrote."""
        return {}


def _fits(block: Features, head: Head) -> bool:
    """Return whether a head has a weight of each feature; an encoder's are seen when it answers."""
    return block.is_slow or block.transform([""]).shape[1] == len(head.weights)
