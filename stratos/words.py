"""Counts in words: "1 item", "2 items"."""

from __future__ import annotations


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
