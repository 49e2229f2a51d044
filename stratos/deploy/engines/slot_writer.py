"""Answers requests in the slots of a decoder: one that comes joins the others between two tokens.

One thread writes. A slot keeps what it has read when its answer ends, so that a prompt which begins
alike (an instruction, the turns of a chat) is not read again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

import numpy as np

from stratos.core.errors import StratosError
from stratos.deploy.engines.sampling import Sampler, logprob_of
from stratos.models.decode.constrained import Grammar
from stratos.models.decode.decoder import SlotDecoder

_CALL_S = 0.004
"""CPU seconds for which tokens are written at one go: a request that comes waits for them. In half
of that a token takes a fifth more, as its thread is woken twice as often."""
_MOST_AT_ONE_GO = 32
_PART = 64
"""Tokens of prompts that are read between two tokens of the answers: a long prompt stops no one."""


@dataclass(eq=False)
class Answer:
    """One answer, as it is written."""

    prompt: list[int]
    most: int
    """Tokens that it may have."""
    sampler: Sampler
    grammar: Grammar | None = None
    with_logprobs: bool = False
    ids: list[int] = field(default_factory=list)
    """What is written so far, the end token included."""
    logprobs: list[float] = field(default_factory=list)
    is_left: bool = False
    """Whether nobody waits for it any more."""
    begun: asyncio.Future[None] = field(init=False)
    """Done with the first token."""
    over: asyncio.Future[None] = field(init=False)
    """Done with the last one; an error where there is none."""

    def __post_init__(self) -> None:
        """Belong to the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self.begun, self.over = self._loop.create_future(), self._loop.create_future()

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest tokens are all that it needs."""
        return self.sampler.is_greedy and self.grammar is None and not self.with_logprobs

    def end(self, error: Exception | None = None) -> None:
        """Say from another thread that it is over."""
        self.begin()
        self._loop.call_soon_threadsafe(_set, self.over, error)

    def begin(self) -> None:
        """Say from another thread that it has begun."""
        self._loop.call_soon_threadsafe(_set, self.begun, None)


def _set(future: asyncio.Future[None], error: Exception | None) -> None:
    if not future.done():  # its client may be gone
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


class SlotWriter:
    """Writes answers, as many at once as there are slots."""

    def __init__(self, decoder: SlotDecoder, n_slots: int, ends: frozenset[int]) -> None:
        """Begin to wait for answers.

        Args:
            decoder: with so many slots.
            n_slots: answers at once.
            ends: tokens that end one.
        """
        self._decoder, self._ends = decoder, ends
        self._is_end = np.array([t in ends for t in range(decoder.vocabulary)], np.uint8)
        self._waiting: deque[Answer] = deque()
        self._live: dict[int, Answer] = {}
        self._unread: dict[int, list[int]] = {}
        """What slots have to read of their prompts, none of it empty."""
        self._free = list(range(n_slots))
        """The longest unused first."""
        self._texts: list[list[int]] = [[] for _ in range(n_slots)]
        """Tokens that each slot has read."""
        self._token_s = _CALL_S
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def n_waiting(self) -> int:
        """Return how many answers have no slot yet."""
        return len(self._waiting)

    def add(self, answer: Answer) -> None:
        """Write an answer when a slot is free."""
        with self._changed:
            self._waiting.append(answer)
            self._changed.notify()

    def leave(self, answer: Answer) -> None:
        """End an answer that nobody waits for any more; its slot is free after the next token."""
        with self._changed:
            answer.is_left = True
            if answer in self._waiting:
                self._waiting.remove(answer)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._live or self._waiting):
                    self._changed.wait()
                for slot in [slot for slot, answer in self._live.items() if answer.is_left]:
                    self._release(slot)
                self._begin()
            try:
                self._read()
                self._write()
            except Exception as error:  # the server goes on with the next ones
                logging.getLogger(__name__).exception("The decoder failed.")
                failed = StratosError(f"The student failed ({error!r}).")
                for answer in self._live.values():
                    answer.end(failed)
                self._texts = [[] for _ in self._texts]
                self._free += self._live
                self._live.clear()
                self._unread.clear()

    def _release(self, slot: int) -> Answer:
        answer = self._live.pop(slot)
        if self._unread.pop(slot, None) is None:
            self._texts[slot] = answer.prompt + answer.ids[:-1]
        self._free.append(slot)
        return answer

    def _begin(self) -> None:
        """Give free slots to answers that wait.

        One whose beginning is just being read in another slot waits on: it is read once.
        """
        for answer in list(islice(self._waiting, len(self._free))):
            shared = [_n_shared(text, answer.prompt) for text in self._texts]
            source = max(range(len(shared)), key=shared.__getitem__)
            reading = (_n_shared(self._live[slot].prompt, answer.prompt) for slot in self._unread)
            if max(reading, default=0) >= shared[source] + _PART:
                continue
            self._waiting.remove(answer)
            # The slot itself where nobody writes there: it need not be copied.
            slot = source if shared[source] and source in self._free else self._free[0]
            self._free.remove(slot)
            self._decoder.begin(slot, source, shared[source])
            self._unread[slot] = answer.prompt[shared[source] :]
            self._texts[slot] = answer.prompt[: shared[source]]
            self._live[slot] = answer

    def _read(self) -> None:
        """Read a part of the prompts, each in its turn; choose what follows those that end."""
        whole, n_left = dict[int, list[int]](), _PART
        for slot, ids in list(self._unread.items()):
            if len(ids) <= n_left:
                whole[slot] = self._unread.pop(slot)
                n_left -= len(ids)
                continue
            if n_left:
                del self._unread[slot]  # to be the last one
                self._unread[slot] = ids[n_left:]
                self._decoder.extend(slot, ids[:n_left])
                self._texts[slot] += ids[:n_left]
            break
        if not whole:
            return
        begun = [self._live[slot] for slot in whole]
        logits_BV = self._decoder.read(whole)
        for slot, ids in whole.items():
            self._texts[slot] += ids
        self._choose(list(whole), logits_BV)
        for answer in begun:
            answer.begin()

    def _write(self) -> None:
        writing = {slot: a for slot, a in self._live.items() if slot not in self._unread}
        plain = {slot: answer for slot, answer in writing.items() if answer.is_plain}
        chosen = [slot for slot in writing if slot not in plain]
        if chosen:
            last = {slot: [self._live[slot].ids[-1]] for slot in chosen}
            self._choose(chosen, self._decoder.read(last))
        if not plain:
            return
        room = min(answer.most - len(answer.ids) for answer in plain.values())
        most = max(1, min(room, int(_CALL_S / self._token_s), _MOST_AT_ONE_GO))
        last_ids = {slot: answer.ids[-1] for slot, answer in plain.items()}
        started = time.thread_time()  # other work on the machine makes no call shorter
        written = self._decoder.write(last_ids, most, self._is_end)
        self._token_s = max(time.thread_time() - started, 1e-6) / len(written[0])
        for (slot, answer), ids in zip(plain.items(), written, strict=True):
            answer.ids += ids
            self._end_where_over(slot, answer)

    def _choose(self, slots: Sequence[int], logits_BV: np.ndarray) -> None:
        """Choose the next token of answers by their options."""
        for slot, logits_V in zip(slots, logits_BV, strict=True):
            answer = self._live[slot]
            if answer.is_plain:
                token = int(logits_V.argmax())
            else:
                grammar = answer.grammar
                allowed_V = None if grammar is None else grammar.allowed()
                token = answer.sampler.choose(logits_V, allowed_V)
                if grammar is not None:
                    grammar.take(token)
            if answer.with_logprobs:
                answer.logprobs.append(logprob_of(logits_V, token))
            answer.ids.append(token)
            self._end_where_over(slot, answer)

    def _end_where_over(self, slot: int, answer: Answer) -> None:
        if answer.ids[-1] in self._ends or len(answer.ids) >= answer.most:
            self._release(slot).end()


def _n_shared(text: Sequence[int], prompt: Sequence[int]) -> int:
    """Return how many first tokens of a prompt a text begins with; one at least is left to read."""
    pairs = zip(text, prompt[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
