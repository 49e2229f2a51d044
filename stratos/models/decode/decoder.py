"""The answers of a call as they are written, and what computes their tokens.

Those behind the second of an answer are computed by transformers, or by a faster decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from stratos.core.extensions import extensions, load
from stratos.models.words import OtherLogits

if TYPE_CHECKING:
    from torch import Tensor

    from stratos.models.decode.picks import Pick
    from stratos.models.decode.threads import Threads


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
            self._take(batch, [self.tokens[row] for row in batch])


def fill_holes(gone: Sequence[bool]) -> list[int]:
    """Return which place moves where so that the rows that stay are the first ones.

    The last rows fill the holes, so that only as many rows move as have ended.
    """
    staying = [index for index, over in enumerate(gone) if not over]
    n_staying = len(staying)
    movers = [index for index in staying if index >= n_staying]
    return [movers.pop() if gone[index] else index for index in range(n_staying)]


class Decoder(StrEnum):
    """What may compute them (`evaluate.decoder`)."""

    AUTO = "auto"
    """The fast decoder of an extension that takes the model, as long as it gives the logits of
    transformers; else transformers."""
    TRANSFORMERS = "transformers"
    """Transformers alone."""


@dataclass
class Decoding:
    """Which decoder may be taken, and which was."""

    decoder: Decoder = Decoder.AUTO
    n_direct: int = 0
    """Batches decoded by a fast decoder."""
    n_different: int = 0
    """Batches whose logits were others, which transformers decoded."""

    def count(self, is_direct: bool) -> None:
        """Count a batch in which a fast decoder was compared with transformers."""
        self.n_direct += is_direct
        self.n_different += not is_direct

    @property
    def used(self) -> str:
        """What decoded, in a word that a record keeps."""
        names = ["direct"] * bool(self.n_direct)
        return " and ".join(names + ["transformers"] * bool(self.n_different or not names))

    @property
    def complaint(self) -> OtherLogits | None:
        """What to warn of; None where both gave the same."""
        return OtherLogits(self.n_different) if self.n_different else None


@dataclass(frozen=True)
class Call:
    """What all batches of one call are decoded with."""

    answers: Answers
    """Take the tokens, and tell which answers have ended."""
    pick: Pick
    batch_size: int
    n_positions: int
    """Tokens of the longest prompt and its answer."""
    poll: Callable[[], None] | None = None
    """Called behind every token."""
    threads: Threads | None = None
    """Chooses the number of CPU threads; None keeps torch's."""


class FastBatch(ABC):
    """A batch that a fast decoder has taken over: it holds keys and values of its rows."""

    @abstractmethod
    def keep(self, places: list[int]) -> None:
        """Keep the rows at these places, in this order: each moves forwards or stays."""

    @abstractmethod
    def decode(self, prompts: list[int], ids_B1: Tensor, positions_B1: Tensor) -> None:
        """Go on with the rows; those whose answers have not ended at return `finish` decodes.

        Args:
            prompts: numbers of the prompts that the rows belong to.
            ids_B1: the last token of each.
            positions_B1: its position.
        """


class FastDecoder(ABC):
    """Decodes the batches of one call from their third token on, without transformers' modules.

    It computes the second token of each batch, too, and leaves a batch to transformers where the
    logits are others.
    """

    @abstractmethod
    def take(
        self, cache: Any, ids_B1: Tensor, mask_BT: Tensor, positions_B1: Tensor, logits_BV: Tensor
    ) -> FastBatch | None:
        """Take a batch over behind a step of transformers; None where the logits are others.

        Args:
            cache: of transformers, with the step's own keys and values; emptied where it is taken.
            ids_B1: tokens that the step read.
            mask_BT: of all tokens in the cache.
            positions_B1: of the tokens that the step read.
            logits_BV: what the step returned.
        """

    @abstractmethod
    def finish(self) -> None:
        """Decode to its end what is left of the batches."""


def fast_decoder(model: Any, call: Call) -> FastDecoder | None:
    """Return the fast decoder of an extension that takes a model; None where none does."""
    makers = (load(extension.decoder) for extension in extensions() if extension.decoder)
    made = (maker(model, call) for maker in makers)
    return next((decoder for decoder in made if decoder is not None), None)
