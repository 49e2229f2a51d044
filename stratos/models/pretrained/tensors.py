"""Read the headers of safetensors files: names and shapes of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stratos.core.foreign import cause, why_unreadable
from stratos.models.pretrained.model_config import read_json

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Tensor:
    """One tensor as a header tells it."""

    name: str
    shape: tuple[int, ...]

    @property
    def n_elements(self) -> int:
        """Number of its numbers."""
        product = 1
        for length in self.shape:
            product *= length
        return product


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that loaders take.

    Raises:
        OSError: there are none, or some that the index names are not there.
        ValueError: the index is none.
    """
    if (folder / _SINGLE).exists() or (folder / _SINGLE).is_symlink():
        return [folder / _SINGLE]
    if not (folder / _INDEX).exists():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        has = f"; {pickled[0]} would have to be unpickled, which is not allowed" if pickled else ""
        raise OSError(f"it has no {_SINGLE}{has}")
    try:
        index = read_json(folder / _INDEX)
    except ValueError as error:
        raise ValueError(f"{_INDEX}: {error}") from None
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{_INDEX}: it has no weight_map of names")
    files = sorted(set(names.values()))
    for name in files:
        if PurePosixPath(name).name != name:
            raise ValueError(f"{_INDEX}: it names {name}, which is not in the folder")
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
