"""The corpus as packed rows of tokens, in an order that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stratos.distill.packed import Documents
from stratos.errors import StratosError
from stratos.tasks.base import Message

POOL = 4096
"""Documents among which batches of similar length are made."""
CHUNK = 2048
"""Texts tokenized at once: what a tokenizer returns is many times larger than the tokens."""


@dataclass(frozen=True)
class Batch:
    """One packed row of N tokens.

    tokens_1N, positions_1N: token ids and positions that restart with every document.
    rows_M, targets_M: places whose next token is learned (completions only), and that token.
    """

    tokens_1N: Tensor
    positions_1N: Tensor
    rows_M: Tensor
    targets_M: Tensor
    documents: Documents

    def to(self, device: Any) -> Batch:
        """Move every tensor (Lightning calls this)."""
        return Batch(
            self.tokens_1N.to(device),
            self.positions_1N.to(device),
            self.rows_M.to(device),
            self.targets_M.to(device),
            Documents(self.documents.gather_BT.to(device), self.documents.scatter_N.to(device)),
        )


@dataclass(frozen=True)
class Encoded:
    """Tokens of all documents behind each other: prompt, completion, end."""

    tokens: np.ndarray
    starts: np.ndarray
    """Start of each document, and the end of the last: one more than documents."""
    prompt_lengths: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Length of each document in tokens."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.prompt_lengths)


def encode(
    tokenizer: Any, chats: Sequence[list[Message]], completions: Sequence[str], max_tokens: int
) -> tuple[Encoded, int]:
    """Tokenize prompts with the chat template, and completions with the end behind them.

    Returns the documents and how many were left out because they are longer than `max_tokens`.

    Raises:
        StratosError: nothing is left.
    """
    tokens: list[np.ndarray] = []
    lengths: list[int] = []
    prompt_lengths: list[int] = []
    n_left_out = 0
    for start in range(0, len(chats), CHUNK):
        prompts = [
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            for chat in chats[start : start + CHUNK]
        ]
        ended = [text + tokenizer.eos_token for text in completions[start : start + CHUNK]]
        asked = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        written = tokenizer(ended, add_special_tokens=False)["input_ids"]
        for prompt, completion in zip(asked, written, strict=True):
            if len(prompt) + len(completion) > max_tokens:
                n_left_out += 1
                continue
            tokens.append(np.array(prompt + completion, np.int32))
            lengths.append(len(tokens[-1]))
            prompt_lengths.append(len(prompt))
    if not tokens:
        raise StratosError(
            f"No training item fits the student's context of {max_tokens} tokens. "
            "Choose a student with a longer one: student.context_length=…"
        )
    encoded = Encoded(
        tokens=np.concatenate(tokens),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        prompt_lengths=np.array(prompt_lengths),
    )
    return encoded, n_left_out


class PackedLoader:
    """Yields `n_steps` batches of about `batch_tokens` tokens, epoch after epoch.

    The order depends on seed and epoch alone. `state_dict` says how many batches were yielded, so
    that a resumed training goes on with the very next one (Lightning saves it with a checkpoint).
    """

    def __init__(self, data: Encoded, batch_tokens: int, max_tokens: int, seed: int) -> None:
        """Plan the batches of enough epochs to reach `max_tokens`."""
        self._data, self._batch_tokens, self._seed = data, batch_tokens, seed
        self._plan: list[np.ndarray] = []
        tokens, epoch = 0, 0
        while tokens < max_tokens:
            for documents in self._epoch(epoch):
                self._plan.append(documents)
                tokens += int(data.lengths[documents].sum())
                if tokens >= max_tokens:
                    break
            epoch += 1
        self.n_tokens = tokens
        self._next = 0

    def _epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Return the batches of one epoch: documents of similar length go together."""
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._data))
        lengths = self._data.lengths
        for start in range(0, len(order), POOL):
            pool = order[start : start + POOL]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            cuts = np.cumsum(lengths[pool]) // self._batch_tokens
            batches = np.split(pool, np.flatnonzero(np.diff(cuts)) + 1)
            for place in rng.permutation(len(batches)):
                yield batches[place]

    def __len__(self) -> int:
        """Return the number of batches of the whole training."""
        return len(self._plan)

    def __iter__(self) -> Iterator[Batch]:
        """Yield from where the state says."""
        while self._next < len(self._plan):
            documents = self._plan[self._next]
            self._next += 1
            yield self.batch(documents)
        self._next = 0

    def state_dict(self) -> dict[str, int]:
        """Return how many batches were yielded."""
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that were yielded."""
        self._next = state["next"]

    def batch(self, documents: np.ndarray) -> Batch:
        """Pack documents into one row."""
        data = self._data
        lengths = data.lengths[documents]
        starts = np.cumsum(lengths) - lengths
        tokens = np.concatenate(
            [data.tokens[data.starts[d] : data.starts[d + 1]] for d in documents]
        )
        positions = np.arange(len(tokens)) - np.repeat(starts, lengths)
        learned = positions >= np.repeat(data.prompt_lengths[documents], lengths)
        rows = np.flatnonzero(learned)
        return Batch(
            tokens_1N=torch.from_numpy(tokens.astype(np.int64))[None],
            positions_1N=torch.from_numpy(positions)[None],
            rows_M=torch.from_numpy(rows - 1),
            targets_M=torch.from_numpy(tokens[rows].astype(np.int64)),
            documents=Documents.of(lengths.tolist()),
        )
