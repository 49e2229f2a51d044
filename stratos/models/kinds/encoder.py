"""The mean hidden states of a pretrained encoder: a block of features of a text."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from stratos.models.kinds.base import ENCODER
from stratos.models.kinds.features import Arrays, Features, Matrix, of_length_1
from stratos.models.pretrained.bert import Bert, is_bert

_BATCH, _N_LAYERS = 32, 2


@dataclass(frozen=True)
class Encoder(Features):
    """The mean hidden states of a pretrained encoder: those of its last layer, and of a lower one.

    The last layer tells what a text is about. Two thirds up, more is left of how it is written:
    of sarcasm, praise and authorship that layer knows more.
    """

    name: ClassVar[str] = "encoder"
    about: ClassVar[str] = "the mean of the last hidden states of a pretrained encoder"
    is_slow: ClassVar[bool] = True
    folder: Path
    longest: int = 128
    """Tokens of a text that are read."""

    @property
    @override
    def uses_torch(self) -> bool:
        return not is_bert(self.folder)

    @override
    def transform(self, texts: Sequence[str]) -> Matrix:
        rows = np.zeros((len(texts), _N_LAYERS * self.width), np.float32)
        for part, _, features in self._passes(texts):
            rows[part] = features
        return rows

    def with_states(self, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the states of each text in the lower layer, (tokens, width), and its features."""
        states, rows = [np.zeros(0)] * len(texts), [np.zeros(0)] * len(texts)
        for part, some, features in self._passes(texts):
            for k, state, row in zip(part, some, features, strict=True):
                states[k], rows[k] = state, row
        return states, rows

    def _passes(
        self, texts: Sequence[str]
    ) -> Iterator[tuple[list[int], list[np.ndarray], np.ndarray]]:
        """Yield the numbers of some texts, their states in the lower layer, and their features."""
        encoder = read_encoder(self.folder)
        order = sorted(range(len(texts)), key=lambda k: len(texts[k]))
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            lower, last = _states(encoder, [texts[k] for k in part], self.longest)
            yield part, lower, np.hstack([means_of(last), means_of(lower)])

    @override
    def views(self, features: Matrix) -> list[Matrix]:
        return [features[:, k : k + self.width] for k in range(0, features.shape[1], self.width)]

    @property
    def width(self) -> int:
        """Of a hidden state."""
        return read_encoder(self.folder).width

    @property
    @override
    def n_params(self) -> int:
        return read_encoder(self.folder).n_params

    @override
    def state(self) -> tuple[dict[str, Any], Arrays]:
        return {"longest": self.longest}, {}

    @override
    def save(self, folder: Path) -> None:
        read_encoder(self.folder).save(folder / ENCODER)

    @classmethod
    @override
    def of_state(cls, settings: dict[str, Any], arrays: Arrays, folder: Path) -> Encoder:
        return cls(folder / ENCODER, settings["longest"])


class TorchEncoder:
    """An encoder of another architecture than BERT, which transformers loads.

    Args:
        folder: of its files.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer, self._model = load_encoder(folder)
        self.width: int = self._model.config.hidden_size
        self.n_params = sum(weight.numel() for weight in self._model.parameters())

    def states(
        self, texts: Sequence[str], longest: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the states of each text in the lower layer and in the last, (tokens, width)."""
        import torch

        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"] > 0
        lower, last = (
            [state[some].float().numpy() for state, some in zip(layer, mask, strict=True)]
            for layer in (states[lower_layer(len(states) - 1)], states[-1])
        )
        return lower, last

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        from stratos.models.pretrained.folder import quiet_loading

        with quiet_loading():
            self._tokenizer.save_pretrained(folder)
            self._model.save_pretrained(folder)


@functools.cache
def read_encoder(folder: Path) -> Bert | TorchEncoder:
    """Return the encoder in a folder; it is read once."""
    return Bert.of_folder(folder) if is_bert(folder) else TorchEncoder(folder)


@functools.cache
def load_encoder(folder: Path) -> tuple[Any, Any]:
    """Return the tokenizer and the model in a folder as transformers has them."""
    from transformers import AutoModel, AutoTokenizer

    from stratos.core.foreign import reading
    from stratos.models.pretrained.folder import quiet_loading

    with reading(f"The encoder in {folder}"), quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    return tokenizer, model.eval()


def _states(
    encoder: Bert | TorchEncoder, texts: Sequence[str], longest: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the states of each text in the lower layer and in the last, (tokens, width)."""
    if isinstance(encoder, TorchEncoder):
        return encoder.states(texts, longest)
    tokens = encoder.tokens(texts, longest)
    ends = np.cumsum([len(each) for each in tokens])[:-1]
    states = encoder.states(tokens)
    return np.split(states[lower_layer(encoder.n_layers)], ends), np.split(states[-1], ends)


def lower_layer(n_layers: int) -> int:
    """Return the number of the layer two thirds up; of 6 layers it is the fourth."""
    return 2 * n_layers // 3


def means_of(states: Sequence[np.ndarray]) -> np.ndarray:
    """Return the means over tokens of states, of length 1: shape (texts, width)."""
    return of_length_1(np.stack([each.mean(axis=0) for each in states]))
