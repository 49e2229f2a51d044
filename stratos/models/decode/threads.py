"""Autotune the number of CPU threads for decoding.

Where other processes want the cores, threads wait for those that are not running, and fewer of them
may be faster. Every batch begins with a few tokens on half and on twice the threads of the last
one, so that the number follows what else the machine does. On how many threads a sum is made
decides how it is rounded: a tie between two tokens may fall otherwise, as it may in a batch of
another size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

WORTH = 0.9
"""More threads are taken where they need at most this part of the time."""
_ROUNDS = 2
"""Tokens that are decoded on each number of threads in a trial."""
_EVERY = 128
"""Tokens between two trials of a batch."""


def thread_counts(most: int) -> tuple[int, ...]:
    """Return the numbers of threads that may be tried: 1, 2, 4 … and all."""
    return tuple(sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)}))


def fastest(seconds: dict[int, float]) -> int:
    """Return the number of threads to take: more only where they are clearly faster."""
    chosen, *more = sorted(seconds)
    for n in more:
        if seconds[n] <= WORTH * seconds[chosen]:
            chosen = n
    return chosen


class Threads:
    """The choice of one process; `choosing` has it used, and gives torch its threads back."""

    def __init__(self) -> None:
        self._counts: tuple[int, ...] = (1,)
        self._chosen: int | None = None
        self._trial: list[int] = []
        self._seconds: dict[int, float] = {}
        self._n_tokens = 0
        self._started: float | None = None

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Choose among the threads that torch has now, and leave it with them."""
        import torch

        most = torch.get_num_threads()
        self._counts = thread_counts(most)
        if self._chosen not in self._counts:
            self._chosen = None
        try:
            yield
        finally:
            torch.set_num_threads(most)

    def begin(self) -> None:
        """Begin a batch; its first token, for which all prompts are read, tells nothing."""
        self._started = None
        self._plan_trial()

    def token(self) -> None:
        """Be told that a token of each row was written: the next one may be on other threads."""
        now = time.perf_counter()
        if self._started is not None and self._trial:
            tried = self._trial.pop(0)
            self._seconds[tried] = self._seconds.get(tried, 0.0) + now - self._started
            if not self._trial:
                self._chosen = fastest(self._seconds)
        self._n_tokens += 1
        if not self._trial and self._n_tokens % _EVERY == 0:
            self._plan_trial()
        self._set(self._trial[0] if self._trial else self._chosen)
        self._started = time.perf_counter()

    def _plan_trial(self) -> None:
        """Try all numbers at first, and then those next to the chosen one."""
        counts: Sequence[int] = self._counts
        if self._chosen is not None:
            index = counts.index(self._chosen)
            counts = counts[max(0, index - 1) : index + 2]
        self._seconds, self._n_tokens = {}, 0
        self._trial = [*counts] * _ROUNDS if len(counts) > 1 else []

    def _set(self, n: int | None) -> None:
        import torch

        if n is not None and n != torch.get_num_threads():
            torch.set_num_threads(n)


HERE = Threads()
"""Of this process: what one call has found is where the next one begins."""
