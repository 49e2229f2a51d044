"""The compiled decoder for a server: texts grow beside each other, each in a slot of its own.

A prompt is read by the same compiled steps that write an answer, as rows that share keys and
values. Sums run in the same order whatever is read together, so that an answer does not depend on
what else the server does, nor on what a slot took over from another one.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from stratos.contrib.cpu.cpu_decoder import ROW, Compiled, agree, can_decode, load
from stratos.core.reasons import Because
from stratos.models.decode.decoder import SlotDecoder

_ROWS = 64
"""Tokens of prompts that are read in one step."""


class Slots(SlotDecoder):
    """Slots with keys and values for a whole context, whose memory is taken as they fill."""

    def __init__(self, weights: Compiled, n_slots: int, context: int) -> None:
        """Begin with empty texts.

        Args:
            weights: for so many positions.
            n_slots: texts at once.
            context: tokens of the longest text.
        """
        self.vocabulary = weights.vocabulary
        self._weights, room = weights, weights.rounded(context)
        keys, values = weights.empty_states(room)
        self._states = [(_unused(keys.shape), _unused(values.shape)) for _ in range(n_slots)]
        self._rows = np.zeros(n_slots, ROW)
        self._rows["room"] = room
        self._rows["keys"] = [keys.ctypes.data for keys, _ in self._states]
        self._rows["values"] = [values.ctypes.data for _, values in self._states]

    @override
    def begin(self, slot: int, source: int, n_tokens: int) -> None:
        self._rows["n_tokens"][slot] = n_tokens
        if slot != source and n_tokens:
            (keys, values), (own_keys, own_values) = self._states[source], self._states[slot]
            n_blocks = self._weights.rounded(n_tokens) // self._weights.rounded(1)
            own_keys[:, :, :n_blocks] = keys[:, :, :n_blocks]
            own_values[:, :, :n_tokens] = values[:, :, :n_tokens]

    @override
    def extend(self, slot: int, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _ROWS):
            part = ids[start : start + _ROWS]
            rows = np.repeat(self._rows[slot : slot + 1], len(part))
            rows["id"] = part
            rows["n_tokens"] += np.arange(len(part))
            self._weights.logits(rows, n=0)
            self._rows["n_tokens"][slot] += len(part)

    @override
    def read(self, texts: Mapping[int, Sequence[int]]) -> np.ndarray:
        for slot, ids in texts.items():
            self.extend(slot, ids[:-1])
        slots = list(texts)
        rows = self._rows[slots]
        rows["id"] = [ids[-1] for ids in texts.values()]
        logits_BV = self._weights.logits(rows)
        self._rows[slots] = rows
        return logits_BV

    @override
    def write(self, last: Mapping[int, int], most: int, ends: np.ndarray) -> list[list[int]]:
        slots = list(last)
        rows = self._rows[slots]
        rows["id"] = list(last.values())
        written = self._weights.likeliest(rows, most, ends)
        self._rows[slots] = rows
        return written.T.tolist()


def _unused(shape: tuple[int, ...]) -> np.ndarray:
    """Return zeros whose memory is taken page by page.

    numpy asks for huge pages: the first tokens would take the memory of the whole context, and
    seconds to clear it.
    """
    n_bytes = 4 * math.prod(shape)
    region = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        region.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(region, np.float32).reshape(shape)


def slots(model: Any, n_slots: int, context: int) -> Slots | Because:
    """Return what decodes a model for a server, or why it does not; see `Extension.slots`."""
    if not can_decode(model):
        return Because("it is no small Llama in float32")
    library = load()
    if library is None:
        return Because(
            "step.c was not compiled: install gcc or clang with the headers of libc, and let "
            "STRATOS_CACHE name a folder that only you can write to"
        )
    made = Slots(Compiled(library, model, context), n_slots, context)
    ids = [token % made.vocabulary for token in range(1, min(context, 40), 3)]
    with torch.inference_mode():
        expected_BV = model(input_ids=torch.tensor([ids]), logits_to_keep=1).logits[:, -1]
    own_BV = torch.from_numpy(made.read({0: ids}))
    made.begin(0, 0, 0)
    if not agree(own_BV, expected_BV):
        return Because("its logits are not those of transformers")
    return made
