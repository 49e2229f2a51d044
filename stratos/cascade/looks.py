"""How often a promise was tried with other items, and what level each try has.

Whoever asks more items until the promise passes looks several times, and each look may pass by
chance. The k-th look therefore has the level δ / (k (k + 1)); these add up to δ however many there
are (alpha spending). A set of items that was looked at before keeps its number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError


def level(delta: float, look: int) -> float:
    """Return the probability with which the `look`-th look, from 1 on, may break the promise."""
    return delta / (look * (look + 1))


def look_of(folder: Path, ids: Iterable[str], keep: bool) -> int:
    """Return which look it is of a run to choose by these items, from 1 on.

    Args:
        folder: of the run.
        ids: of the items that choose.
        keep: whether the look is written down, so that the next one has another number.

    Raises:
        StratosError: the file of the looks is damaged.
    """
    path = folder / "cascade" / "looks.json"
    digest = hashlib.sha256("\n".join(sorted(ids)).encode("utf-8", "surrogatepass")).hexdigest()
    try:
        looks = msgspec.json.decode(path.read_bytes(), type=list[str])
    except FileNotFoundError:
        looks = []
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"{path} cannot be read ({error}): it counts how often a promise was tried. Give the "
            "command with another hydra.run.dir=<folder>."
        ) from error
    if digest in looks:
        return looks.index(digest) + 1
    if keep:
        _write(path, [*looks, digest])
    return len(looks) + 1


def _write(path: Path, looks: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(looks))
    except OSError as error:
        raise StratosError(
            f"{path} cannot be written ({error}): it counts how often a promise was tried. Make "
            "the folder of the run writable, or copy it to one that is."
        ) from error
