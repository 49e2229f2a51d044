"""Stop an answer that only repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LONGEST_PERIOD = 64
_FEWEST_TIMES = 4
SHORTEST = 64
"""Tokens that have to repeat before an answer is stopped for it."""


def repeats(
    written: Sequence[Any], shortest: int = SHORTEST, period: int = _LONGEST_PERIOD
) -> bool:
    """Return whether the end of an answer is one piece again and again, four times at least.

    Args:
        written: its tokens, or its text.
        shortest: elements that have to repeat.
        period: elements of the longest piece.
    """
    for size in range(1, period + 1):
        span = max(shortest, _FEWEST_TIMES * size)
        if span > len(written):
            return False
        if written[-1] != written[-1 - size]:
            continue
        end = written[-span:]
        if end[size:] == end[:-size]:
            return True
    return False
