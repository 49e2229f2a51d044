"""On-policy rows: prompts of the corpus, and behind them what the student itself writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stratos.distill.data import Batch, PackedLoader, pack

Writer = Callable[[Sequence[np.ndarray]], list[list[int]]]
"""Takes the tokens of prompts, returns those that the student writes behind them."""

_STREAM = 0x5EED
"""Sets the coin that is thrown for each step apart from the seed's other uses."""


class OnPolicyLoader(PackedLoader):
    """Rows of a packed loader, a share of whose steps are the student's own texts.

    The texts of several steps ahead are written at once, because a larger batch is decoded at
    little more cost; so a text is at most `buffer_steps` gradient steps old when it is learned
    from. The texts that wait are part of the state, so a resumed training reads the same ones.
    """

    def __init__(
        self,
        *loader: Any,
        write: Writer,
        lmbda: float,
        buffer_steps: int,
        **named: Any,
    ) -> None:
        """Take what `PackedLoader` takes, and what makes the texts.

        Args:
            loader: as of `PackedLoader`.
            write: the student at its present weights.
            lmbda: share of the steps that are on its own texts.
            buffer_steps: on-policy steps whose texts are written at once.
            named: as of `PackedLoader`.
        """
        super().__init__(*loader, **named)
        self._write, self._buffer_steps = write, buffer_steps
        coins = np.random.default_rng([self._seed, _STREAM]).random(self.n_steps)
        self._own = coins < lmbda
        self._texts: dict[int, list[list[int]]] = {}

    @property
    def n_own_steps(self) -> int:
        """Return the number of steps on the student's own texts."""
        return int(self._own.sum())

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows were yielded, and the texts that wait."""
        return {**super().state_dict(), "texts": dict(self._texts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the rows that were yielded, with the texts that waited."""
        super().load_state_dict(state)
        self._texts = dict(state["texts"])

    def row(self, index: int) -> Batch:
        """Return a row of the corpus, or of the student's own texts."""
        given = super().row(index)
        if not self._own[index // self._accumulate] or len(given.document_ids_D) == 0:
            return given
        if index not in self._texts:
            self._fill(index)
        texts = self._texts.pop(index)
        documents = given.document_ids_D
        prompts = [self._data.prompt(document) for document in documents]
        whole = [np.append(p, text) for p, text in zip(prompts, texts, strict=True)]
        lengths = self._data.prompt_lengths[documents]
        # How much the other rows of the step have is not known yet: each is divided by its own.
        return pack(whole, lengths, documents, written=True)

    def _fill(self, index: int) -> None:
        """Write the texts of this row and of the on-policy rows that follow it."""
        rows: list[int] = []
        n_rows = self._buffer_steps * self._accumulate
        for row in range(index, len(self)):
            if self._own[row // self._accumulate]:
                rows.append(row)
            if len(rows) == n_rows:
                break
        documents = [super(OnPolicyLoader, self).row(row).document_ids_D for row in rows]
        prompts = [self._data.prompt(document) for one in documents for document in one]
        texts = iter(self._write(prompts))
        for row, one in zip(rows, documents, strict=True):
            self._texts[row] = [next(texts) for _ in one]


def writer(
    learner: Any,
    tokenizer: Any,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
) -> Writer:
    """Return the student as a writer: it samples at its present weights."""
    from stratos.evaluate.generate import write

    def sample(logits_BV: Tensor) -> Tensor:
        return torch.multinomial((logits_BV.float() / temperature).softmax(-1), 1)

    def written(prompts: Sequence[np.ndarray]) -> list[list[int]]:
        with learner.unpacked():
            return write(
                learner.model,
                tokenizer,
                [prompt.tolist() for prompt in prompts],
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                pick=sample,
            )

    return written
