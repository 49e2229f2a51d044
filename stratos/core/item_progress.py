"""The progress of a part of a stage in words: items, rate, and time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from stratos.core.formats import clock, per_second

_LEAST_SECONDS = 1.0
"""Before that a rate says little."""


def with_items(tick: Callable[..., None]) -> Callable[..., None]:
    """Return a stage's tick whose text says how many items are done, how fast, and what is left.

    Args:
        tick: of the stage, called with (done, total, text).
    """
    progress = ItemProgress()

    def told(done: float, total: float, text: str = "") -> None:
        tick(done, total, progress.said(text, done, total) if text and done else text)

    return told


class ItemProgress:
    """Follows the items of one part after the other; each part has a name."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._part, self._done = "", 0.0
        self._started, self._first = 0.0, 0.0

    def said(self, part: str, done: float, total: float) -> str:
        """Return how far a part is: "student · 120 of 500 · 4.2/s · 1:30 left".

        Args:
            part: its name; another one, or fewer items than before, starts the clock again.
            done: items that are done.
            total: items that there are.
        """
        now = self._now()
        if part != self._part or done < self._done:
            self._part, self._started, self._first = part, now, done
        self._done = done
        told = f"{part} · {done:,.0f} of {total:,.0f}"
        passed, n_new = now - self._started, done - self._first
        if passed < _LEAST_SECONDS or n_new <= 0 or done >= total:
            return told
        rate = n_new / passed
        return f"{told} · {per_second(rate)} · {clock((total - done) / rate)} left"
