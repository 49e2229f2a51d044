"""Counts and lists in words: "1 item", "2 items", "a, b and c"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_NAMED = 4
"""Names that a sentence lists before it only counts."""


def counted(n: float, singular: str, plural: str = "", *, spec: str = "") -> str:
    """Return a count and what it counts, in the number that goes with it.

    Args:
        n: how many.
        singular: what follows "1": a noun, or a noun and what depends on it ("item is").
        plural: what follows any other number; without it the singular with an s.
        spec: how the number is written, as in an f-string: "," separates thousands.
    """
    written = f"{n:{spec}}"
    return f"{written} {singular if written == '1' else plural or f'{singular}s'}"


def cut_short(n: int, n_answers: int) -> str:
    """Return how many of a model's answers ended at the longest length, in words."""
    return f"{n:,} of {counted(n_answers, 'answer', spec=',')} cut short"


def listed(words: Iterable[str], last: str = "and") -> str:
    """Join words as a sentence does."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def by_reason(left_out: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (who, why) of what is left out; all with one reason stand together, and are counted.

    Args:
        left_out: who to why.
    """
    groups: dict[str, list[str]] = {}
    for who, why in left_out.items():
        groups.setdefault(why, []).append(who)
    return [(_named(names), why) for why, names in groups.items()]


def _named(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return listed(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more ({len(names)} in all)"
