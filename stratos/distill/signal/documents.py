"""Documents of a packed row, and the row that the teacher reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stratos.distill.data import Batch
from stratos.distill.packed import Documents


@dataclass(frozen=True)
class Split:
    """The documents of a batch as arrays of token ids, in the row's order."""

    prompts: list[np.ndarray]
    completions: list[np.ndarray]

    @property
    def place_starts(self) -> np.ndarray:
        """First learned place of each document among the M of the batch, and M behind them."""
        return np.concatenate([[0], np.cumsum([len(one) for one in self.completions])])


def split(batch: Batch) -> Split:
    """Take a packed row apart."""
    tokens = batch.tokens_1N[0].cpu().numpy()
    starts = np.flatnonzero(batch.positions_1N[0].cpu().numpy() == 0)
    bounds = np.append(starts, len(tokens))
    # A learned place is the one before its token, so it lies in the same document.
    n_learned = np.diff(np.searchsorted(batch.rows_M.cpu().numpy(), bounds))
    prompts, completions = [], []
    for start, stop, n in zip(starts, bounds[1:], n_learned, strict=True):
        prompts.append(tokens[start : stop - n])
        completions.append(tokens[stop - n : stop])
    return Split(prompts, completions)


@dataclass(frozen=True)
class TeacherRow:
    """What a teacher reads: tokens (N,) of all texts, and which places predict completions (M,)."""

    tokens_N: Tensor
    positions_N: Tensor
    lengths: list[int]
    rows_M: Tensor

    @staticmethod
    def of(prompts: Sequence[np.ndarray], completions: Sequence[np.ndarray]) -> TeacherRow:
        """Lay texts out behind each other; every token of a completion is predicted."""
        lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
        starts = np.cumsum([0, *lengths[:-1]])
        tokens = np.concatenate(
            [part for pair in zip(prompts, completions, strict=True) for part in pair]
        )
        rows = [
            np.arange(start + len(p) - 1, start + len(p) + len(c) - 1)
            for start, p, c in zip(starts, prompts, completions, strict=True)
        ]
        return TeacherRow(
            torch.from_numpy(tokens.astype(np.int64)),
            torch.from_numpy(np.arange(len(tokens)) - np.repeat(starts, lengths)),
            lengths,
            torch.from_numpy(np.concatenate(rows)),
        )

    def documents(self) -> Documents:
        """Return where the texts lie."""
        return Documents.of(self.lengths)
