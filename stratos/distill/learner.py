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
from stratos.distill.objectives import Hidden, LMHead, Objective, Signal
from stratos.distill.objectives.hidden import HiddenMatch, layer_pairs
from stratos.distill.objectives.signals import dense_side
from stratos.distill.speedups import speedups

TEXT = Objective(cross_entropy=1.0)
"""Learn the text, and nothing else."""


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
        self._compiled = compiled

        def body(layers: bool, **inputs: Any) -> tuple[Tensor, ...]:
            out = model.base_model(**inputs, use_cache=False, output_hidden_states=layers)
            return (*(out.hidden_states[:-1] if layers else ()), out.last_hidden_state)

        # A function is no submodule: generation and what is saved know nothing of it.
        self._body = torch.compile(body, dynamic=True) if compiled else body
        self.match: HiddenMatch | None = None
        self._match_weight = 0.0

    def match_layers(self, n_layers: int, width: int, weight: float) -> None:
        """Learn to say what each of a teacher's layers says, too, through learned projections."""
        config = self.model.config
        pairs = layer_pairs(config.num_hidden_layers, n_layers)
        self.match = HiddenMatch(config.hidden_size, width, pairs)
        self._match_weight = weight

    def pack(self, on: bool) -> None:
        """Switch to packed attention for training, or back for generation and saving.

        What is compiled is fused by the compiler.
        """
        self.model.set_attn_implementation(packed.NAME if on else self._attention)
        speedups().fuse(self.model, on and not self._compiled)

    @contextmanager
    def unpacked(self) -> Iterator[None]:
        """Let the model generate in the midst of a training."""
        self.pack(False)
        try:
            yield
        finally:
            restore_4_bits(self.model)
            self.pack(True)

    def forward(
        self,
        batch: Batch,
        signal: Signal | None,
        objective: Objective,
        places: Tensor | None = None,
    ) -> Loss:
        """Return the loss of one packed row.

        Args:
            batch: the row.
            signal: what the teacher says of its learned places.
            objective: what to compute there.
            places: which of the M learned places the signal is of; the others learn the text. None
                for all of them.
        """
        given = dense_side(signal)
        layers = given.layers_LNH if isinstance(given, Hidden) and self.match else None
        tokens_1N, positions_1N, documents = packed.whole_row(
            batch.tokens_1N, batch.positions_1N, batch.documents
        )
        states_L1NH = self._body(
            layers is not None,
            input_ids=tokens_1N,
            position_ids=positions_1N,
            documents=documents,
        )
        rows_M, targets_M = batch.rows_M, batch.targets_M
        if places is not None:
            rows_M, targets_M = rows_M[places], targets_M[places]
        states, head, n_tokens = states_L1NH[-1], LMHead.of(self.model), batch.n_tokens
        loss = head_loss(states, head, signal, objective, n_tokens, rows_M, targets_M)
        if places is not None and len(places) < len(batch.rows_M):
            left_M = torch.ones(len(batch.rows_M), dtype=torch.bool, device=places.device)
            left_M[places] = False
            rest = batch.rows_M[left_M], batch.targets_M[left_M]
            text = head_loss(states, head, None, TEXT, n_tokens, *rest)
            entropy = loss.cross_entropy + text.cross_entropy
            loss = Loss(loss.total + text.total, loss.divergence, entropy)
        if layers is None:
            return loss
        assert self.match is not None and isinstance(given, Hidden)
        matched = self.match(states_L1NH, layers, rows_M, n_tokens, teacher_rows_M=given.rows_M)
        return loss._replace(total=loss.total + self._match_weight * matched)
