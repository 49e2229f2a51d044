"""The answers of a call as they are written: what computes and picks tokens, on which threads.

Those behind the second of an answer are computed by transformers, or by a faster decoder.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from stratos.core.errors import StratosError
from stratos.core.extensions import extensions, load
from stratos.core.reasons import Because, Reason
from stratos.models.words import OtherLogits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


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


class SlotDecoder(ABC):
    """Writes the texts of a server beside each other, each in a slot.

    What is written into one does not depend on what the others hold.
    """

    vocabulary: int
    """Tokens that there are logits of."""

    @abstractmethod
    def begin(self, slot: int, source: int, n_tokens: int) -> None:
        """Begin a text with the first tokens of that in another slot, or in the same one."""

    @abstractmethod
    def extend(self, slot: int, ids: Sequence[int]) -> None:
        """Add tokens to a text."""

    @abstractmethod
    def read(self, texts: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Add tokens to texts; return the logits (B, V) behind them.

        Args:
            texts: slots, and one token at least of each.
        """

    @abstractmethod
    def write(self, last: Mapping[int, int], most: int, ends: NDArray[np.uint8]) -> list[list[int]]:
        """Go on with texts by the likeliest tokens; return those of each.

        All get as many: `most`, or fewer where one of them ends. The last is not in the text yet.

        Args:
            last: slots, and the token of each that is not in its text yet.
            most: tokens of each; there is room for them.
            ends: (V,): 1 for tokens that end a text.
        """


def slot_decoder(model: Any, n_slots: int, context: int) -> SlotDecoder:
    """Return what decodes a model for a server.

    Args:
        model: of transformers; it is not needed afterwards.
        n_slots: texts at once.
        context: tokens of the longest.

    Raises:
        StratosError: no extension does.
    """
    why: Reason = Because("no extension has a decoder")
    for extension in extensions():
        if extension.slots:
            made: SlotDecoder | Reason = load(extension.slots)(model, n_slots, context)
            if isinstance(made, SlotDecoder):
                return made
            why = made
    raise StratosError(f"The model cannot be decoded directly: {why}.")


# What chooses the next token of each row: the likeliest, or one drawn.

Pick = Callable[["Tensor", Sequence[int]], "Tensor"]
"""Takes the next token's logits (B, V) and the numbers of the prompts that the rows belong to, and
returns the token of each row, (B, 1). It is asked once for each token, in the order of a row; which
rows are asked for together is the decoder's affair."""


def likeliest(logits_BV: Tensor, prompts: Sequence[int] = ()) -> Tensor:
    """Return the likeliest token of each row, (B, 1)."""
    return logits_BV.argmax(-1, keepdim=True)


class Likelihood:
    """Picks as another does, and adds up the log-probability of what is picked."""

    def __init__(self, pick: Pick, n_prompts: int) -> None:
        """Begin with no tokens.

        Args:
            pick: chooses the tokens.
            n_prompts: prompts in all.
        """
        self._pick = pick
        self.sums = [0.0] * n_prompts

    def __call__(self, logits_BV: Tensor, prompts: Sequence[int]) -> Tensor:
        """Return the token of each row, (B, 1)."""
        total_B1 = logits_BV.float().logsumexp(-1, keepdim=True)
        picked_B1 = self._pick(logits_BV, prompts)
        logprobs_B1 = logits_BV.gather(-1, picked_B1).float() - total_B1
        for prompt, logprob in zip(prompts, logprobs_B1[:, 0].tolist(), strict=True):
            self.sums[prompt] += logprob
        return picked_B1


class Drawn:
    """Draws each token with its probability, by a number that belongs to the prompt and the place.

    So a text does not depend on which others are written beside it, or in what order.
    """

    def __init__(self, n_prompts: int, max_new_tokens: int, temperature: float) -> None:
        """Draw all numbers from torch's generator.

        Args:
            n_prompts: prompts in all.
            max_new_tokens: longest text, in tokens.
            temperature: what logits are divided by, above 0.
        """
        import torch

        self._numbers = torch.rand(n_prompts, max_new_tokens, dtype=torch.float64)
        self._places = [0] * n_prompts
        self._temperature = temperature

    def __call__(self, logits_BV: Tensor, prompts: Sequence[int]) -> Tensor:
        """Return the token of each row, (B, 1)."""
        import torch

        places = [self._places[prompt] for prompt in prompts]
        for prompt in prompts:
            self._places[prompt] += 1
        sums_BV = (logits_BV.double() / self._temperature).softmax(-1).cumsum(-1)
        numbers_B1 = self._numbers[list(prompts), places].to(sums_BV.device)[:, None]
        # The first token whose sum is above the number; rounding may leave the last sum below 1.
        drawn_B1 = torch.searchsorted(sums_BV, numbers_B1 * sums_BV[:, -1:], right=True)
        return drawn_B1.clamp_(max=logits_BV.shape[-1] - 1)


# Autotune the number of CPU threads for decoding.
#
# Where other processes want the cores, threads wait for those that are not running, and fewer of
# them may be faster. Every batch begins with a few tokens on half and on twice the threads of the
# last one, so that the number follows what else the machine does. On how many threads a sum is made
# decides how it is rounded: a tie between two tokens may fall otherwise, as it may in a batch of
# another size.

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
