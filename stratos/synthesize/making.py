"""Generate training items from drafts, locally or on a cluster, in a fixed order.

What costs time, writing the path and verifying it, is the same wherever it is done. A task
that writes `drafts(n, seed)`, which takes all the chances, and `made_of(draft)`, which takes none,
has its items made there; of another task they are drawn here and verified there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from stratos.core.chunk_engine import Engine, Here, in_chunks
from stratos.core.reasons import Reason
from stratos.tasks.base import Item, Task

_CHUNK = 256
"""Items of one call on a cluster: about a tenth of a second of work."""


@dataclass(frozen=True, slots=True)
class Made:
    """An item, and what verifying it found, if that was done already."""

    item: Item
    verified: bool = False
    problem: Reason | None = None
    """What is wrong with a verified item."""

    def wrong(self, task: Task) -> Reason | None:
        """Return what is wrong with the item, or None."""
        return self.problem if self.verified else task.verify(self.item)


def make(task: Task, n: int, seed: int, engine: Engine) -> Iterator[Made]:
    """Yield the items of `task.reverse(n, seed)` in its order; verified, if an engine helps.

    Args:
        task: can reverse.
        n: most items.
        seed: of the draws.
        engine: where items with a path are made and verified.
    """
    if isinstance(engine, Here):
        return map(Made, task.reverse(n, seed))
    makes = task.has_drafts
    drafts: Iterator[Any] = task.drafts(n, seed) if makes else task.reverse(n, seed)
    chunks = engine.map(partial(_make, task, makes), in_chunks(drafts, _CHUNK))
    return (made for chunk in chunks for made in chunk)


def _make(task: Task, makes: bool, drafts: list[Any]) -> list[Made]:
    items = [task.made_of(draft) for draft in drafts] if makes else drafts
    return [Made(i, True, task.verify(i)) if i.rationale else Made(i) for i in items]
