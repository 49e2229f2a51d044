"""Body, head and loss of a student in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stratos.distill import packed
from stratos.distill.adapter import restore_4_bits
from stratos.distill.data import Batch
from stratos.distill.head import Loss, head_loss
from stratos.distill.objectives import LMHead, Objective, Signal


class Learner(nn.Module):
    """A causal language model whose forward pass ends in the loss, so that logits never exist.

    One module for all of it, because what gathers a sharded weight (FSDP2) does so around a
    module's forward pass, and the head's weight is needed by the loss.
    """

    def __init__(self, model: Any, compiled: bool = False) -> None:
        """Wrap a Hugging Face model; the body is compiled for the forward pass of a training."""
        super().__init__()
        self.model = model.train()  # what comes from a folder is in evaluation mode
        self._attention = model.config._attn_implementation

        def body(**inputs: Any) -> Tensor:
            states: Tensor = model.base_model(**inputs, use_cache=False).last_hidden_state
            return states

        # A function is no submodule: generation and what is saved know nothing of it.
        self._body = torch.compile(body, dynamic=True) if compiled else body

    def pack(self, on: bool) -> None:
        """Switch to packed attention for training, or back for generation and saving."""
        self.model.set_attn_implementation(packed.NAME if on else self._attention)

    @contextmanager
    def unpacked(self) -> Iterator[None]:
        """Let the model generate in the midst of a training."""
        self.pack(False)
        try:
            yield
        finally:
            restore_4_bits(self.model)
            self.pack(True)

    def forward(self, batch: Batch, signal: Signal | None, objective: Objective) -> Loss:
        """Return the loss of one packed row."""
        hidden_1NH = self._body(
            input_ids=batch.tokens_1N, position_ids=batch.positions_1N, documents=batch.documents
        )
        return head_loss(
            hidden_1NH,
            LMHead.of(self.model),
            signal,
            objective,
            batch.n_tokens,
            batch.rows_M,
            batch.targets_M,
        )
