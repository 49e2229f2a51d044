"""How often a promise was tried in a run's folder, and what level each try has.

Whoever tries until the promise passes, with more items, another student, teacher, prompt, measure
or engine, looks several times, and each look may pass by chance. The k-th look therefore has the
level δ / (k (k + 1)); these add up to δ however many there are (alpha spending). The very same
answers that were looked at before keep their number.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.tasks.base import Item


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


_LEAVABLE = 0.005
"""Share of all items in slices that may be left out as too rare to be drawn."""


@dataclass(frozen=True)
class Drawn:
    """Some ids, each slice in its share."""

    ids: tuple[str, ...]
    left_out: float = 0.0
    """Share of all items in slices of which there were too few: they count as wrong."""


def in_shares(slice_of: Mapping[str, str], able: Collection[str], n: int) -> Drawn:
    """Draw items so that each slice has the share that it has among all.

    Of every slice the first of `able` in an order by hash are taken, and its number is rounded at
    random (systematic sampling), so that it is right on average. Where a slice has too few, fewer
    are taken of all. Slices that together are at most 0.5% of all are left out where they would
    limit the others; whoever promises something counts them as wrong.

    Args:
        slice_of: slice of every item, by id.
        able: ids that may be drawn.
        n: how many, at most.
    """
    counts = Counter(slice_of.values())
    total = sum(counts.values())
    pools: dict[str, list[str]] = {name: [] for name in counts}
    for one in sorted({*able}, key=_key):
        pools[slice_of[one]].append(one)
    left: list[str] = []
    for name in sorted(counts, key=lambda name: (counts[name], name)):
        share = sum(counts[one] for one in [*left, name]) / total
        if share > _LEAVABLE:
            break
        if len(pools[name]) * total < min(n, len(able)) * counts[name]:
            left.append(name)
    taken = {name: count for name, count in sorted(counts.items()) if name not in left}
    rest = sum(taken.values())
    n = min([n, *(len(pools[name]) * rest // count for name, count in taken.items())])
    start = _fraction(sorted(able)) if n else 0.0
    ids: list[str] = []
    before = 0
    for name, count in taken.items():
        low = math.floor(n * before / rest + start)
        before += count
        high = math.floor(n * before / rest + start)
        ids += pools[name][: high - low]
    return Drawn(tuple(sorted(ids, key=_key)), sum(counts[one] for one in left) / max(1, total))


def natural(items: Sequence[Item], drawn: Drawn) -> list[Item]:
    """Return the items that were drawn, in their order."""
    by_id = {one.id: one for one in items}
    return [by_id[one] for one in drawn.ids]


def _key(id: str) -> bytes:
    return hashlib.sha256(f"cascade {id}".encode("utf-8", "surrogatepass")).digest()


def _fraction(ids: Sequence[str]) -> float:
    return int.from_bytes(_key("\n".join(ids))[:6], "big") / 2**48
