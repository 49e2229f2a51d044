"""Packed sequences: many documents in one row, none of which sees another.

All that works token by token (embeddings, projections, MLP, norms) runs on the bare row without
padding. Attention alone needs the documents apart: queries, keys and values are gathered into a
padded batch, attend causally there, and are scattered back. Rotary positions restart with every
document. The loss equals that of the same documents in a padded batch (tests/distill).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "stratos_packed"


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row lie.

    gather_BT: index into the row of each place of the padded batch (0 at padding).
    scatter_N: index into the flattened padded batch of each token of the row.
    """

    gather_BT: Tensor
    scatter_N: Tensor

    @staticmethod
    def of(lengths: list[int], device: torch.device | str = "cpu") -> Documents:
        """Lay documents of these lengths out, one behind the other."""
        n, longest = len(lengths), max(lengths)
        places = torch.arange(longest, device=device)
        lengths_B = torch.tensor(lengths, device=device)
        starts_B = torch.cumsum(lengths_B, 0) - lengths_B
        inside_BT = places[None, :] < lengths_B[:, None]
        gather_BT = torch.where(inside_BT, starts_B[:, None] + places[None, :], 0)
        flat_BT = torch.arange(n * longest, device=device).view(n, longest)
        return Documents(gather_BT, flat_BT[inside_BT])


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each document.

    query (1, H, N, D), key and value (1, H_kv, N, D); returns (1, N, H, D).
    """
    assert documents is not None, "packed attention needs documents="
    heads = query.shape[1]

    def apart(states: Tensor) -> Tensor:
        states_NHD = states[0].transpose(0, 1)
        batch = states_NHD[documents.gather_BT].transpose(1, 2)  # B, H, T, D
        return batch.repeat_interleave(heads // batch.shape[1], 1)

    out_BHTD = F.scaled_dot_product_attention(
        apart(query), apart(key), apart(value), is_causal=True, scale=scaling, dropout_p=dropout
    )
    out = out_BHTD.transpose(1, 2).reshape(-1, heads, query.shape[-1])
    return out[documents.scatter_N][None], None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
