"""Compiled decoding that never runs thin: where a row ends, the next one takes its place.

Transformers reads the prompts of a batch at once, and its second token is computed both ways, as in
`contrib.cpu.direct`. The rows then wait until others have ended. A row costs the same whichever
rows are beside it, as none is padded.
"""

from __future__ import annotations

from ctypes import CDLL
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stratos.contrib.cpu import kernel
from stratos.contrib.cpu.compiled import Compiled, Rows
from stratos.contrib.cpu.direct import Direct, DirectDecoder, agree
from stratos.models.decode.decoder import Call, FastBatch, FastDecoder, fill_holes

ROWS_A_THREAD = 16
"""Rows that a thread decodes at once. More take no less time each: their keys and values leave the
cache of a CPU."""


class Rolling(FastDecoder):
    """The rows of one call."""

    def __init__(self, library: CDLL, model: Any, call: Call) -> None:
        """Begin with no rows.

        Args:
            library: of `stratos.contrib.cpu.kernel`.
            model: one that `Direct.can_decode` takes.
            call: what its batches share.
        """
        self._weights = Compiled(library, model, call.n_positions)
        self._call = call
        self._most = min(call.batch_size, ROWS_A_THREAD * torch.get_num_threads())
        self._rows, self._waiting = Rows(self._weights), Rows(self._weights)
        # Of each row, and then of each that waits: its prompt's number, and its last token.
        self._prompts: list[int] = []
        self._ids: list[int] = []

    def take(
        self, cache: Any, ids_B1: Tensor, mask_BT: Tensor, positions_B1: Tensor, logits_BV: Tensor
    ) -> FastBatch | None:
        """Take a batch over; see `FastDecoder`."""
        rows = Rows(self._weights)
        rows.add(cache, mask_BT[:, :-1])
        if not agree(rows.step(ids_B1[:, 0].tolist()), logits_BV):
            return None
        cache.layers.clear()  # what it holds is held by the rows now
        return _Batch(self, rows)

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
        if self._call.threads is not None:  # other steps come now than were measured last
            self._call.threads.begin()
        self._fill()

    def _fill(self) -> None:
        """Let rows that wait take the free places."""
        self._rows.append(self._waiting, self._most - len(self._rows))

    def _step(self) -> None:
        """Write a token of each row."""
        n = len(self._rows)
        logits_BV = self._rows.step(self._ids[:n])
        call = self._call
        if call.poll is not None:
            call.poll()
        if call.threads is not None:
            call.threads.token()
        prompts = self._prompts[:n]
        picked: list[int] = call.pick(logits_BV, prompts)[:, 0].tolist()
        self._ids[:n] = picked
        over = [
            call.answers.add(prompt, token) for prompt, token in zip(prompts, picked, strict=True)
        ]
        if any(over):
            staying = fill_holes(over)
            self._rows.keep(staying)
            self._prompts[:n] = [self._prompts[place] for place in staying]
            self._ids[:n] = [self._ids[place] for place in staying]
            self._fill()


@dataclass(frozen=True)
class _Batch(FastBatch):
    """The rows of one batch until they join the others."""

    decoder: Rolling
    rows: Rows

    def keep(self, places: list[int]) -> None:
        """Keep rows, in this order."""
        self.rows.keep(places)

    def decode(self, prompts: list[int], ids_B1: Tensor, positions_B1: Tensor) -> None:
        """Decode until all rows have a place among the others."""
        self.decoder.join(prompts, ids_B1[:, 0].tolist(), self.rows)


def decoder(model: Any, call: Call) -> FastDecoder | None:
    """Return what decodes in place of a model's modules; None for a model of another kind."""
    if not Direct.can_decode(model):
        return None
    library = kernel.load()
    return DirectDecoder(model, call) if library is None else Rolling(library, model, call)
