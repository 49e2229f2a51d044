"""A BERT that NumPy computes: sentence encoders such as MiniLM, BGE, E5 and GTE need no PyTorch.

Its hidden states are those of `transformers.BertModel` in float32 (Devlin et al. 2019). The tokens
of several texts stand one after another, so that nothing is padded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from stratos.core.foreign import reading
from stratos.models.pretrained.headers import read_config

Weights = Mapping[str, np.ndarray]
"""Of one layer, as `BertLayer` names them."""
_TOKENIZER = "tokenizer.json"
_WEIGHTS = "model.safetensors"
_FILES = (
    *("config.json", _WEIGHTS, _TOKENIZER, "tokenizer_config.json", "special_tokens_map.json"),
    "vocab.txt",
)
T = TypeVar("T")
_SQRT_HALF = np.float32(np.sqrt(0.5))


def is_bert(folder: Path) -> bool:
    """Return whether a folder holds a BERT of the ordinary form, in files that NumPy reads."""
    if not all((folder / name).is_file() for name in (_WEIGHTS, _TOKENIZER)):
        return False
    try:
        config = read_config(folder / "config.json")
    except (OSError, ValueError):
        return False
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and config.get("dtype", config.get("torch_dtype")) != "bfloat16"
    )


class Bert:
    """A BERT with its tokenizer.

    Args:
        folder: where it was read.
        config: its `config.json`.
        weights: as `BertModel` names them, float32.
        tokenizer: of the package `tokenizers`.
    """

    def __init__(self, folder: Path, config: Any, weights: Weights, tokenizer: Any) -> None:
        self.folder = folder
        self.width: int = config["hidden_size"]
        self.n_layers: int = config["num_hidden_layers"]
        self.n_params = sum(array.size for array in weights.values())
        self._n_heads: int = config["num_attention_heads"]
        self._epsilon = np.float32(config.get("layer_norm_eps", 1e-12))
        self._most_tokens: int = config["max_position_embeddings"]
        self._embeddings = below("embeddings.", weights)
        self.layers = [below(f"encoder.layer.{k}.", weights) for k in range(self.n_layers)]
        """Weights of each layer."""
        self._tokenizer = tokenizer
        tokenizer.no_padding()

    @classmethod
    def of_folder(cls, folder: Path) -> Bert:
        """Return the BERT in a folder of Hugging Face.

        Raises:
            ForeignFileError: its files are damaged, or do not fit each other.
        """
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        with reading(f"The encoder in {folder}"):
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            weights = {
                name.removeprefix("bert."): array.astype(np.float32, copy=False)
                for name, array in load_file(folder / _WEIGHTS).items()
                if array.dtype.kind == "f"
            }
            tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
            bert = cls(folder, config, weights, tokenizer)
            bert.states(bert.tokens(["a"], 8))
            n_tokens, n_vectors = tokenizer.get_vocab_size(), len(bert._embeddings[_WORDS])
            if n_tokens > n_vectors:
                raise ValueError(f"it has {n_vectors:,} vectors for {n_tokens:,} tokens")
        return bert

    def tokens(self, texts: Sequence[str], longest: int) -> list[np.ndarray]:
        """Return the numbers of each text's tokens, `longest` of them at most."""
        self._tokenizer.enable_truncation(min(longest, self._most_tokens))
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        return [np.array(each.ids or [0]) for each in encoded]

    def states(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the hidden states below the first layer and above each, (all tokens, width)."""
        lengths = [len(each) for each in tokens]
        weights = self._embeddings
        x = weights[_WORDS][np.concatenate(tokens)]
        x = x + weights["position_embeddings.weight"][np.concatenate([*map(np.arange, lengths)])]
        x = x + weights["token_type_embeddings.weight"][0]
        states = [self._normed(x, weights, "LayerNorm")]
        for layer in self.layers:
            states.append(self.above(layer, states[-1], lengths))
        return states

    def above(self, layer: Weights, x: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        """Return the hidden states above a layer.

        Args:
            layer: its weights.
            x: the states below, shape (all tokens, width).
            lengths: tokens of each text.
        """
        with _blas().limit(limits=1):
            mixed = self._attended(layer, x, lengths)
            x = self._normed(x + _linear(layer, "attention.output.dense", mixed), layer, _ATTENTION)
            inner = _gelu(_linear(layer, "intermediate.dense", x))
            outer = _linear(layer, "output.dense", inner)
            return self._normed(x + outer, layer, "output.LayerNorm")

    def _attended(self, layer: Weights, x: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        """Return the values that each token takes from those of its own text."""
        queries, keys, values = (
            _linear(layer, f"attention.self.{name}", x).reshape(len(x), self._n_heads, -1)
            for name in ("query", "key", "value")
        )
        queries *= np.float32(queries.shape[2] ** -0.5)
        mixed = np.empty_like(values)
        ends = np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends, strict=True):
            some = slice(start, end)
            scores = queries[some].transpose(1, 0, 2) @ keys[some].transpose(1, 2, 0)
            scores -= scores.max(axis=2, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=2, keepdims=True)
            mixed[some] = (scores @ values[some].transpose(1, 0, 2)).transpose(1, 0, 2)
        return mixed.reshape(x.shape)

    def _normed(self, x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
        x = x - x.mean(axis=1, keepdims=True)
        variances = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1])
        x /= np.sqrt(variances + self._epsilon)
        x *= weights[f"{name}.weight"]
        x += weights[f"{name}.bias"]
        return x

    def save(self, folder: Path) -> None:
        """Copy its files into a folder, byte for byte."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            if (self.folder / name).is_file() and folder != self.folder:
                shutil.copyfile(self.folder / name, folder / name)


_WORDS, _ATTENTION = "word_embeddings.weight", "attention.output.LayerNorm"


@cache
def _blas() -> ThreadpoolController:
    """Return what sets the threads of NumPy's products.

    They are small: threads of one product wait for each other, at best for nothing; where another
    process wants the cores, an answer takes 15 times as long.
    """
    return ThreadpoolController()


def passed(
    work: Callable[[list[np.ndarray]], T], passes: Sequence[list[np.ndarray]]
) -> Iterator[T]:
    """Yield what is made of the tokens of each pass, of as many at once as products had threads."""
    n = max((library["num_threads"] for library in _blas().info()), default=1)
    if min(n, len(passes)) == 1:
        yield from map(work, passes)
        return
    with ThreadPoolExecutor(n) as pool:
        for start in range(0, len(passes), n):
            with _blas().limit(limits=1):
                made = list(pool.map(work, passes[start : start + n]))
            yield from made


def below(prefix: str, weights: Weights) -> dict[str, np.ndarray]:
    """Return the weights whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in weights.items()
        if name.startswith(prefix)
    }


def _linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x @ weights[f"{name}.weight"].T
    y += weights[f"{name}.bias"]
    return y


def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    y = erf(x * _SQRT_HALF)
    y += 1
    y *= x
    y *= np.float32(0.5)
    return y
