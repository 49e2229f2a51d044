"""Chunked matrix products of a linear head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stratos.distill.objectives.signals import LMHead

PRODUCT_ROWS = 8192
"""Rows of the weight's gradient that are added at once where it is summed in float32."""


def whole(weight: Tensor) -> Tensor:
    """Gather a weight that FSDP2 has split, once for all chunks."""
    return weight.full_tensor() if hasattr(weight, "full_tensor") else weight


@dataclass
class Projection:
    """Hidden states of one side, and how their logits come into a chunk's buffer."""

    hidden_NH: Tensor
    rows_M: Tensor | None
    head: LMHead
    weight_VH: Tensor
    bias_V: Tensor | None

    @staticmethod
    def of(
        hidden: Tensor, rows_M: Tensor | None, head: LMHead, n_vocab: int, dtype: torch.dtype
    ) -> Projection:
        """Prepare the first `n_vocab` rows of a head in the type of the products."""
        bias_V = None if head.bias_V is None else whole(head.bias_V)[:n_vocab].to(dtype)
        weight_VH = whole(head.weight_VH).detach()[:n_vocab].to(dtype)
        return Projection(hidden.detach().flatten(0, -2), rows_M, head, weight_VH, bias_V)

    @property
    def n_rows(self) -> int:
        """Return the number of learned places."""
        return len(self.hidden_NH if self.rows_M is None else self.rows_M)

    def project(self, start: int, stop: int, out_RV: Tensor) -> Tensor:
        """Write the bare products of these rows to `out_RV`; return their hidden states."""
        if self.rows_M is None:
            hidden_RH = self.hidden_NH[start:stop]
        else:
            hidden_RH = self.hidden_NH.index_select(0, self.rows_M[start:stop])
        hidden_RH = hidden_RH.to(self.weight_VH.dtype)
        torch.mm(hidden_RH, self.weight_VH.T, out=out_RV)
        if self.bias_V is not None:
            out_RV.add_(self.bias_V)
        return hidden_RH

    def bend_(self, logits_RV: Tensor, slope_RV: Tensor | None = None) -> None:
        """Apply scale and soft cap to float32 products; their slope goes to `slope_RV`."""
        if self.head.scale != 1:
            logits_RV.mul_(self.head.scale)
        if (cap := self.head.softcap) is not None:
            logits_RV.div_(cap).tanh_()
            if slope_RV is not None:
                torch.mul(logits_RV, logits_RV, out=slope_RV).neg_().add_(1)
            logits_RV.mul_(cap)

    def unbend_(self, gradient_RV: Tensor, slope_RV: Tensor | None) -> None:
        """Take a gradient back through soft cap and scale."""
        if slope_RV is not None:
            gradient_RV.mul_(slope_RV)
        if self.head.scale != 1:
            gradient_RV.mul_(self.head.scale)


class WeightGradient:
    """The sum over chunks of gradient.T @ hidden; in float32 where it has several parts.

    A sum in bfloat16 would lose whatever is below a 256th of it: most of a long batch.
    """

    def __init__(self, weight_VH: Tensor, n_vocab: int, dtype: torch.dtype, n_chunks: int) -> None:
        """Make room for the sum, in the shape of the whole weight."""
        sum_in = torch.float32 if n_chunks > 1 else dtype
        self.total_VH = torch.empty(weight_VH.shape, dtype=sum_in, device=weight_VH.device)
        self.total_VH[n_vocab:].zero_()
        self._n_vocab, self._empty = n_vocab, True

    def add(self, gradient_RV: Tensor, hidden_RH: Tensor) -> None:
        """Add the product of a chunk."""
        total_VH = self.total_VH[: self._n_vocab]
        if total_VH.dtype == gradient_RV.dtype:
            total_VH.addmm_(gradient_RV.T, hidden_RH, beta=0 if self._empty else 1)
        else:
            for start in range(0, self._n_vocab, PRODUCT_ROWS):
                part = slice(start, start + PRODUCT_ROWS)
                product = gradient_RV[:, part].T @ hidden_RH
                if self._empty:
                    total_VH[part].copy_(product)
                else:
                    total_VH[part].add_(product)
        self._empty = False

    def result(self) -> Tensor:
        """Return the sum, 0 where there was no chunk."""
        return self.total_VH.zero_() if self._empty else self.total_VH
