"""One of several by its name: the students, teachers and strategies of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class HasName(Protocol):
    """What is looked up."""

    @property
    def name(self) -> str:
        """By which it is known; no other of its kind has it."""
        ...


N = TypeVar("N", bound=HasName)


def find(ones: Iterable[N], name: str) -> N | None:
    """Return the one that has a name; None if there is none."""
    return next((one for one in ones if one.name == name), None)


def named(ones: Iterable[N], name: str) -> N:
    """Return the one that has a name, where it is known that there is one.

    Raises:
        KeyError: there is none.
    """
    found = find(ones, name)
    if found is None:
        raise KeyError(name)
    return found
