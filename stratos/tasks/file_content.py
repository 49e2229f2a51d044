"""What was read of a task's files: once in a process, for all tasks of the same settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stratos.tasks.rows import FileRows

if TYPE_CHECKING:
    from stratos.tasks.near_duplicates import Near

_MOST_CONTENTS = 4
"""Tasks of one process whose files are read once, whoever makes them anew."""
_contents: dict[tuple[Any, ...], Content] = {}


@dataclass(frozen=True)
class Content:
    """What was read of a task's files."""

    files: tuple[FileRows, ...]
    unlabelled: FileRows | None = None
    """Rows without answers."""
    near: Near | None = None
    """Near duplicates among the rows; None where the task has groups of its own, or none."""
    labels: tuple[str, ...] = ()
    """The labels of a classification that names none."""
    spellings: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of these labels their spellings in the file, with how many rows have them."""


def read_once(key: tuple[Any, ...], read: Callable[[], Content]) -> Content:
    """Return what `read` gives, which is remembered of the last few keys.

    Check, run and every job of a sweep make a task of their own of the same settings.
    """
    if key not in _contents:
        content = read()
        while len(_contents) >= _MOST_CONTENTS:
            del _contents[next(iter(_contents))]
        _contents[key] = content
    return _contents[key]
