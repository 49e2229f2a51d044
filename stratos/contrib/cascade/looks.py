"""How often a promise was tried in a run's folder, and what level each try has.

Whoever tries until the promise passes, with more items, another student, teacher, prompt, measure
or engine, looks several times, and each look may pass by chance. The k-th look therefore has the
level δ / (k (k + 1)); these add up to δ however many there are (alpha spending). The very same
answers that were looked at before keep their number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError


def level(delta: float, look: int) -> float:
    """Return the probability with which the `look`-th look, from 1 on, may break the promise."""
    return delta / (look * (look + 1))


def look_of(
    folder: Path, ids: Iterable[str], facts: Iterable[str], answers: Iterable[str] | None
) -> int:
    """Return which look it is of a run to choose by these answers, from 1 on.

    Args:
        folder: of the run.
        ids: of the items that choose.
        facts: what decides the answers: student, teacher, prompts, measure, engine.
        answers: what is tested, a line for each item: then the look is written down, so that any
            other has another number. None before anybody was asked: the first look with the same
            items and facts counts.

    Raises:
        StratosError: the file of the looks is damaged.
    """
    path = folder / "cascade" / "looks.json"
    setting = _digest([sorted(ids), [*facts]])
    try:
        looks = msgspec.json.decode(path.read_bytes(), type=list[str])
    except FileNotFoundError:
        looks = []
    except (OSError, msgspec.DecodeError) as error:
        raise StratosError(
            f"{path} cannot be read ({error}): it counts how often a promise was tried. Give the "
            "command with another hydra.run.dir=<folder>."
        ) from error
    if answers is None:
        same = (k for k, one in enumerate(looks, 1) if one.startswith(f"{setting} "))
        return next(same, len(looks) + 1)
    look = f"{setting} {_digest(sorted(answers))}"
    if look in looks:
        return looks.index(look) + 1
    _write(path, [*looks, look])
    return len(looks) + 1


def _digest(value: Any) -> str:
    # Escaped, since texts may have lone surrogates.
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _write(path: Path, looks: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(looks))
    except OSError as error:
        raise StratosError(
            f"{path} cannot be written ({error}): it counts how often a promise was tried. Make "
            "the folder of the run writable, or copy it to one that is."
        ) from error
