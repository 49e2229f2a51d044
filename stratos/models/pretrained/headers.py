"""Read a model's config.json, and the headers of its safetensors and GGUF files.

The common reader of GGUF trusts the counts that a file states, and goes on for ever where they are
false: here they are checked against its size.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from stratos.core.foreign import cause, open_regular, why_unreadable
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.models.words import NoMultiple, NoSize, NotWhole, OutOfBounds

_LONGEST = 16 * 2**20
"""Bytes of a JSON file of a model, the tokenizer's apart; of all texts of a GGUF header, too."""

_SIZES: dict[str, tuple[tuple[str, ...], int]] = {
    "layers": (("num_hidden_layers", "n_layer", "num_layers"), 10_000),
    "width": (("hidden_size", "n_embd", "d_model"), 10_000_000),
    "attention heads": (("num_attention_heads", "n_head"), 100_000),
    "vocabulary": (("vocab_size",), 100_000_000),
}
"""What every causal model has: its names in a config, and more than any model has of it."""
_OPTIONAL = {
    "num_key_value_heads": 100_000,
    "head_dim": 1_000_000,
    "intermediate_size": 100_000_000,
    "n_inner": 100_000_000,
    "ffn_dim": 100_000_000,
    "max_position_embeddings": 1_000_000_000,
    "n_positions": 1_000_000_000,
    "n_ctx": 1_000_000_000,
}


def read_json(path: Path) -> Any:
    """Return what a JSON file of a model holds.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is not JSON, or too large for what it is.
    """
    with open_regular(path) as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise ValueError(f"it is larger than {_LONGEST // 2**20} MiB")
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg}, line {error.lineno})") from None


def read_config(path: Path) -> dict[str, Any]:
    """Return a model's config.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is not a JSON object.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError("it is not a JSON object")
    return config


def wrong_size(config: Mapping[str, Any]) -> Reason | None:
    """Return the first size of a config that no causal model can have; None if none."""
    config = _of_text(config)
    for what, (names, most) in _SIZES.items():
        name = next((name for name in names if config.get(name) is not None), None)
        if name is None:
            return NoSize(what, names[0])
        if problem := _wrong(name, config[name], most):
            return problem
    for name, most in _OPTIONAL.items():
        if config.get(name) is not None and (problem := _wrong(name, config[name], most)):
            return problem
    return _wrong_heads(config)


def vocabulary_of(config: Mapping[str, Any]) -> int:
    """Return the tokens that a model knows, by a config whose sizes are right."""
    return int(_of_text(config)["vocab_size"])


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the sizes of a model's part for text: one that reads images too has them apart."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, Mapping) else config


def _wrong(name: str, value: Any, most: int) -> Reason | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return NotWhole(name, json.dumps(value)[:40])
    return None if 1 <= value <= most else OutOfBounds(name, value, most)


def _wrong_heads(config: Mapping[str, Any]) -> Reason | None:
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if width and heads and not config.get("head_dim") and width % heads:
        return NoMultiple("hidden_size", width, "num_attention_heads", heads)
    kv_heads = config.get("num_key_value_heads")
    if heads and kv_heads and heads % kv_heads:
        return NoMultiple("num_attention_heads", heads, "num_key_value_heads", kv_heads)
    return None


_SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Tensor:
    """One tensor as a header tells it."""

    name: str
    shape: tuple[int, ...]

    @property
    def n_elements(self) -> int:
        """Number of its numbers."""
        return math.prod(self.shape)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that loaders take.

    Raises:
        OSError: there are none, or some that the index names are not there.
        ValueError: the index is none.
    """
    if (folder / _SINGLE).exists() or (folder / _SINGLE).is_symlink():
        return [folder / _SINGLE]
    if not (folder / INDEX).exists():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        has = f"; {pickled[0]} would have to be unpickled, which is not allowed" if pickled else ""
        raise OSError(f"it has no {_SINGLE}{has}")
    try:
        index = read_json(folder / INDEX)
    except ValueError as error:
        raise ValueError(f"{INDEX}: {error}") from None
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{INDEX}: it has no weight_map of names")
    files = sorted(set(names.values()))
    for name in files:
        if PurePosixPath(name).name != name:
            raise ValueError(f"{INDEX}: it names {name}, which is not in the folder")
        if reason := why_unreadable(folder / name):
            raise OSError(f"{name}: {reason}")
    return [folder / name for name in files]


def read_tensors(path: Path) -> Iterator[Tensor]:
    """Yield the tensors of a file by its header alone.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: the header is none, or does not fit the file.
    """
    from safetensors import safe_open

    if reason := why_unreadable(path):
        raise OSError(str(reason))
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                yield Tensor(name, tuple(file.get_slice(name).get_shape()))
    except OSError as error:
        raise OSError(cause(error)) from error
    except Exception as error:  # SafetensorError, and what Rust makes of the rest
        text = cause(error).removeprefix("Error while deserializing header: ")
        raise ValueError(f"it is not a safetensors file, or it is truncated ({text})") from error


_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""Values by their type, as `struct` reads them: integers, floats and booleans."""
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 8
_LEAST_FIELD, _LEAST_TENSOR = 13, 24
"""Bytes that a field and the description of a tensor take at least."""
_LEAST_BITS = 1
"""Of a weight, however it is quantized."""
_LONGEST_KEPT = 2**16
"""Bytes of a text that is kept, the chat template's apart."""
_MOST_VALUES = 2_000_000
"""Fields, elements of arrays and tensors: the largest vocabulary, of 262,144 tokens, takes 1.3
million. Readers take 600 bytes and 25 µs for each."""
_TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True)
class GgufHeader:
    """What the header of a GGUF file tells."""

    values: Mapping[str, Any]
    """Numbers, booleans and texts by their names."""
    lengths: Mapping[str, int]
    """Elements of each array."""
    n_params: int

    @property
    def template(self) -> str:
        """The chat template; "" without one."""
        template = self.values.get(_TEMPLATE, "")
        return template if isinstance(template, str) else ""


_headers: dict[tuple[int, int, int, int], GgufHeader] = {}
"""Of files that this process read, by device, inode, size and time of the last change."""


def read_gguf(path: Path) -> GgufHeader:
    """Walk through the fields and tensors that the header of a GGUF file describes.

    A vocabulary is a hundred thousand fields, so a file is walked through once, until it changes.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is not a GGUF file, or states what does not fit into it, or more than any
            model has.
    """
    with open_regular(path) as file:
        state = os.fstat(file.fileno())
        identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if identity not in _headers:
            _headers[identity] = _Walk(file, state.st_size).header()
        return _headers[identity]


class _Walk:
    """A walk through a header, which trusts no number in it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._n_values, self._n_bytes = file, size, 0, 0

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise ValueError("it is not a GGUF file")
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"its version {version} is not {' or '.join(map(str, _VERSIONS))}")
        n_tensors, n_fields = self._number("Q"), self._number("Q")
        if n_tensors * _LEAST_TENSOR + n_fields * _LEAST_FIELD > self._size:
            raise ValueError(
                f"it states {n_tensors:,} tensors and {n_fields:,} fields, and has "
                f"{self._size:,} bytes"
            )
        self._count(n_tensors + n_fields)
        values: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(n_fields):
            name = self._text()
            if name in values or name in lengths:
                raise ValueError(f"it has the field {shown(name)} twice")
            kind = self._number("I")
            if kind == _ARRAY:
                lengths[name] = self._array()
            else:
                values[name] = self._value(kind, name)
        n_params = sum(self._tensor() for _ in range(n_tensors))
        if not n_tensors:
            raise ValueError("it has no tensors")
        layers = values.get(f"{values.get('general.architecture')}.block_count", 0)
        # What a file lacks is drawn at random by loaders.
        if not isinstance(layers, int) or not 0 <= layers <= n_tensors:
            raise ValueError(f"it states {layers!r:.40} layers, and has {n_tensors:,} tensors")
        return GgufHeader(values, lengths, n_params)

    def _value(self, kind: int, name: str) -> Any:
        if kind == _STRING:
            return self._text() if name == _TEMPLATE else self._short_text()
        if kind not in _SCALARS:
            raise ValueError(f"it has a value of type {kind}, which does not exist")
        return self._number(_SCALARS[kind])

    def _array(self) -> int:
        kind, length = self._number("I"), self._number("Q")
        if kind in _SCALARS:
            self._skip(struct.calcsize(_SCALARS[kind]) * length)
        elif kind != _STRING:
            raise ValueError(f"it has an array of type {kind}: of numbers and texts alone")
        self._count(length)
        for _ in range(length if kind == _STRING else 0):
            self._skip(self._number("Q"))
        return length

    def _tensor(self) -> int:
        """Return the number of its elements."""
        self._skip(self._number("Q"))
        n_dimensions = self._number("I")
        if n_dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {n_dimensions} dimensions")
        n_elements = math.prod(self._number("Q") for _ in range(n_dimensions))
        self._skip(4)
        offset = self._number("Q")
        if offset + n_elements * _LEAST_BITS // 8 > self._size:
            raise ValueError("it is truncated: a tensor lies beyond its end")
        return n_elements

    def _count(self, n_values: int) -> None:
        self._n_values += n_values
        if self._n_values > _MOST_VALUES:
            raise ValueError(
                f"it has {self._n_values:,} fields, tokens and tensors or more, and "
                f"{_MOST_VALUES:,} are the most that are read"
            )

    def _short_text(self) -> str:
        """Return a text; "" for a long one, such as a whole tokenizer, which is not kept."""
        length = self._number("Q")
        if length > _LONGEST_KEPT:
            self._skip(length)
            return ""
        return self._text(length)

    def _text(self, length: int | None = None) -> str:
        length = self._number("Q") if length is None else length
        self._check(length)
        self._n_bytes += length
        if self._n_bytes > _LONGEST:
            raise ValueError(f"the names and texts of its fields exceed {_LONGEST // 2**20} MiB")
        return self._take(length).decode("utf-8", "replace")

    def _number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self._take(struct.calcsize(form)))[0]

    def _take(self, n_bytes: int) -> bytes:
        self._check(n_bytes)
        return self._file.read(n_bytes)

    def _skip(self, n_bytes: int) -> None:
        self._check(n_bytes)
        self._file.seek(n_bytes, 1)

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self._size - self._file.tell():
            raise ValueError("it is truncated, or its header claims more than it holds")
