"""Compiled decoding that never runs thin: where a row ends, the next one takes its place.

Transformers reads the prompts of a batch at once, and its second token is computed both ways, as in
`contrib.cpu.direct`. The rows then wait until others have ended. A row costs the same whichever
rows are beside it, as none is padded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stratos.contrib.cpu.compiled import Compiled, Rows
from stratos.contrib.cpu.direct import agree
from stratos.models.decode.answers import Answers, fill_holes
from stratos.models.decode.picks import Pick

if TYPE_CHECKING:
    from stratos.models.decode.threads import Threads

ROWS_A_THREAD = 16
"""Rows that a thread decodes at once. More take no less time each: their keys and values leave the
cache of a CPU."""


class Rolling:
    """The rows of one call."""

    def __init__(
        self,
        weights: Compiled,
        answers: Answers,
        pick: Pick,
        *,
        batch_size: int,
        poll: Callable[[], None] | None,
        threads: Threads | None,
    ) -> None:
        """Begin with no rows.

        Args:
            weights: of the model.
            answers: are told the tokens.
            pick: chooses them.
            batch_size: most rows at once.
            poll: called behind every token.
            threads: what chooses their number; None for torch's.
        """
        self._weights, self._answers, self._pick = weights, answers, pick
        self._poll, self._threads = poll, threads
        self._most = min(batch_size, ROWS_A_THREAD * torch.get_num_threads())
        self._rows, self._waiting = Rows(weights), Rows(weights)
        # Of each row, and then of each that waits: its prompt's number, and its last token.
        self._prompts: list[int] = []
        self._ids: list[int] = []

    def take(self, cache: Any, ids_B1: Tensor, mask_BT: Tensor, logits_BV: Tensor) -> Rows | None:
        """Go on behind a step of transformers, unless its logits are others than those made here.

        Args:
            cache: of transformers, with the step's own keys and values; emptied where this goes on.
            ids_B1: tokens that the step read.
            mask_BT: of all tokens in the cache.
            logits_BV: what the step returned.
        """
        rows = Rows(self._weights)
        rows.add(cache, mask_BT[:, :-1])
        if not agree(rows.step(ids_B1[:, 0].tolist()), logits_BV):
            return None
        cache.layers.clear()  # what it holds is held by the rows now
        return rows

    def join(self, prompts: list[int], ids: list[int], rows: Rows) -> None:
        """Decode until all of some rows have a place.

        Args:
            prompts: numbers of the prompts that the rows belong to.
            ids: their last tokens.
            rows: their keys and values.
        """
        self._prompts += prompts
        self._ids += ids
        self._waiting.append(rows, len(rows))
        self._begin()
        while len(self._waiting):
            self._step()

    def finish(self) -> None:
        """Decode all rows to their ends."""
        self._begin()
        while len(self._rows):
            self._step()

    def _begin(self) -> None:
        if self._threads is not None:  # other steps come now than were measured last
            self._threads.begin()
        self._fill()

    def _fill(self) -> None:
        """Let rows that wait take the free places."""
        self._rows.append(self._waiting, self._most - len(self._rows))

    def _step(self) -> None:
        """Write a token of each row."""
        n = len(self._rows)
        logits_BV = self._rows.step(self._ids[:n])
        if self._poll is not None:
            self._poll()
        if self._threads is not None:
            self._threads.token()
        prompts = self._prompts[:n]
        picked: list[int] = self._pick(logits_BV, prompts)[:, 0].tolist()
        self._ids[:n] = picked
        over = [
            self._answers.add(prompt, token) for prompt, token in zip(prompts, picked, strict=True)
        ]
        if any(over):
            kept = fill_holes(over)
            self._rows.keep(kept)
            self._prompts[:n] = [self._prompts[place] for place in kept]
            self._ids[:n] = [self._ids[place] for place in kept]
            self._fill()
