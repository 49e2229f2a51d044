"""Which share of requests each slice of a task has."""

from __future__ import annotations

from collections import Counter

from stratos.tasks.base import Split, Task

_ALL = 1_000_000_000


def slices_of(task: Task, split: Split, n: int, seed: int = 0) -> dict[str, str]:
    """Return the slice of each item of a split by its id; of a task without rows, of `n` items."""
    items = task.items(split, _ALL if task.has_rows else n, seed)
    return {one.id: one.slice for one in items}


def shares_of_slices(task: Task) -> dict[str, float]:
    """Return the share of each slice among the validation rows: `Task.items` alternates them.

    Rows are taken to come in the shares of requests, and are split alike in every slice. Empty for
    a task of one slice, and for one without rows: how often its slices are asked is not known.
    """
    if not task.has_rows or len(task.slices) < 2:
        return {}
    counts = Counter(slices_of(task, "validation", _ALL).values())
    return {name: n / counts.total() for name, n in sorted(counts.items())}
