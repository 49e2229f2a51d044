"""The answers of a call as they are written: what ends one, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stratos.models.decode.repetition import repeats

_LOOKED_AT = 16
"""Tokens between two looks at whether a row repeats itself."""


class Answers:
    """The tokens of every answer so far."""

    def __init__(
        self,
        limits: Sequence[int],
        ends: frozenset[int],
        *,
        stop_loops: bool,
        tick: Callable[[int, int], None] | None,
        take: Callable[[Sequence[int], Sequence[list[int]]], None] | None,
    ) -> None:
        """Begin with no tokens.

        Args:
            limits: longest answer to each prompt; 0 and less for none.
            ends: tokens that end an answer.
            stop_loops: end a row that repeats itself.
            tick: called with (done, total) as answers end.
            take: takes the numbers of a batch's prompts and their answers, once all have ended.
        """
        self.tokens: list[list[int]] = [[] for _ in limits]
        self._limits, self._ends, self._stop_loops = limits, ends, stop_loops
        self._tick, self._take = tick, take
        self._n_done = 0
        self._batch_of: dict[int, list[int]] = {}
        self._n_left: dict[int, int] = {}

    def begin(self, batch: list[int]) -> list[int]:
        """Be told of the prompts of a batch; return those that have room for an answer."""
        for index in batch:
            self._batch_of[index] = batch
        self._n_left[batch[0]] = len(batch)
        open_ones = [index for index in batch if self._limits[index] > 0]
        for index in batch:
            if self._limits[index] <= 0:
                self._end(index)
        return open_ones

    def add(self, index: int, token: int) -> bool:
        """Add a token to the answer to a prompt; return whether it ends there."""
        written = self.tokens[index]
        written.append(token)
        over = token in self._ends or len(written) >= self._limits[index]
        if self._stop_loops and not over and len(written) % _LOOKED_AT == 0:
            over = repeats(written)
        if over:
            self._end(index)
        return over

    def _end(self, index: int) -> None:
        self._n_done += 1
        if self._tick is not None:
            self._tick(self._n_done, len(self.tokens))
        batch = self._batch_of.pop(index)
        self._n_left[batch[0]] -= 1
        if not self._n_left[batch[0]] and self._take is not None:
            self._take(batch, [self.tokens[one] for one in batch])


def fill_holes(gone: Sequence[bool]) -> list[int]:
    """Return which place moves where so that the rows that stay are the first ones.

    The last rows fill the holes, so that only as many rows move as have ended.
    """
    staying = [place for place, over in enumerate(gone) if not over]
    n_staying = len(staying)
    movers = [place for place in staying if place >= n_staying]
    return [movers.pop() if gone[place] else place for place in range(n_staying)]
