"""On-policy rows: corpus prompts with completions that the student samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stratos.distill.collectives import gathered, summed
from stratos.distill.data import Batch, PackedLoader, pack
from stratos.distill.full_weights import whole_model

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
        self._texts: dict[int, tuple[list[list[int]], float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return how many rows were yielded, and the texts that wait, of every process."""
        return {**super().state_dict(), "texts_by_rank": gathered(dict(self._texts))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the rows that were yielded, with the texts that waited."""
        super().load_state_dict(state)
        self._texts = dict(state["texts_by_rank"][self._rank])

    def row(self, index: int) -> Batch:
        """Return a row of the corpus, or of the student's own texts."""
        step = index // self._accumulate
        if not self._own[step]:
            return super().row(index)
        if index not in self._texts:
            self._fill(step)
        texts, n_tokens = self._texts.pop(index)
        documents = self.documents(index)
        if not texts:
            return super().row(index)
        prompts = [self._data.prompt(document) for document in documents]
        whole = [np.append(p, text) for p, text in zip(prompts, texts, strict=True)]
        lengths = self._data.prompt_lengths[documents]
        return pack(whole, lengths, documents, n_tokens, written=True)

    def _fill(self, step: int) -> None:
        """Write the texts of this step and of the on-policy steps that follow it."""
        steps = [step + int(ahead) for ahead in np.flatnonzero(self._own[step:])]
        steps = steps[: self._buffer_steps]
        parts = range(self._accumulate)
        documents = {
            own * self._accumulate + part: self.documents(own * self._accumulate + part)
            for own in steps
            for part in parts
        }
        prompts = [self._data.prompt(document) for one in documents.values() for document in one]
        texts = iter(self._write(prompts))
        written = {row: [next(texts) for _ in one] for row, one in documents.items()}
        learned = [
            sum(len(text) for part in parts for text in written[own * self._accumulate + part])
            for own in steps
        ]
        n_parts = self._accumulate * self._n_ranks
        for own, total in zip(steps, summed(*learned), strict=True):
            for part in parts:
                row = own * self._accumulate + part
                self._texts[row] = written[row], total / n_parts


def writer(
    learner: Any,
    tokenizer: Any,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    decoder: str,
) -> Writer:
    """Return the student as a writer: it samples at its present weights.

    What is drawn depends on the seed alone; batches and decoders differ by rounding.
    """
    from stratos.models.decode.batched import write
    from stratos.models.decode.decoder import Decoder, Decoding
    from stratos.models.decode.picks import Drawn

    def written(prompts: Sequence[np.ndarray]) -> list[list[int]]:
        model = whole_model(learner.model)
        with learner.unpacked():
            return write(
                model,
                tokenizer,
                [prompt.tolist() for prompt in prompts],
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                pick=Drawn(len(prompts), max_new_tokens, temperature),
                choose_threads=False,
                decoding=Decoding(Decoder(decoder)),
            )

    return written
