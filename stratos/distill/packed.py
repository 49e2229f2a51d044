"""Sequence packing: many documents in one row, kept apart by attention.

All that works token by token (embeddings, projections, MLP, norms) runs on the bare row without
padding. Attention alone needs the documents apart: queries, keys and values of documents of like
length are gathered into padded batches, attend causally there, and are scattered back. Rotary
positions restart with every document. The loss equals that of the same documents in a padded batch
(tests/distill).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from stratos.core.errors import StratosError
from stratos.distill.speedups import speedups

NAME = "stratos_packed"
_LIKE = 1.25
"""How many times as long as its shortest document the longest of a padded batch may be."""
_MOST_BATCHES = 4
"""Padded batches of a row: each costs calls, and a graph of its own where the body is compiled."""
_CALL_TOKENS = 256
"""What a place of a padded batch costs beside attention, in places that it attends to."""
_ROW_TOKENS = 64
"""A row has a multiple of so many tokens, because CPU kernels are compiled for each new size."""
_SHORT, _SHORT_MULTIPLE, _LONG_MULTIPLE = 64, 4, 16
"""The same of the places of a padded batch: above and up to so many."""
_SPEEDUPS = speedups()
"""Bound here, once: `torch.compile` traces `packed_attention`."""


@dataclass(frozen=True)
class Documents:
    """Where the documents of a packed row lie.

    gathers_BT: for each padded batch an index into the row of each of its places (0 at padding).
    scatter_N: index into the places of all batches, one behind the other, of each token of the row
        (0 behind the documents).
    """

    gathers_BT: tuple[Tensor, ...]
    scatter_N: Tensor
    padding: tuple[Tensor, ...]
    """For each padded batch which of its places, flattened, are none of a document."""
    n_behind: int = 0
    """Tokens at the end of the row that are of no document."""

    @staticmethod
    def of(lengths: Sequence[int]) -> Documents:
        """Lay documents of these lengths out, one behind the other, in batches of like length."""
        lengths_B = torch.tensor(lengths)
        starts_B = torch.cumsum(lengths_B, 0) - lengths_B
        scatter_N = torch.empty(int(lengths_B.sum()), dtype=torch.long)
        gathers, padding, n_places = [], [], 0
        for group in _groups(lengths):
            places = torch.arange(_rounded(max(lengths[document] for document in group)))
            of_group = torch.tensor(group)
            inside_BT = places[None, :] < lengths_B[of_group, None]
            rows_BT = starts_B[of_group, None] + places[None, :]
            gathers.append(torch.where(inside_BT, rows_BT, 0))
            padding.append((~inside_BT).flatten().nonzero()[:, 0])
            flat_BT = n_places + torch.arange(inside_BT.numel()).view(inside_BT.shape)
            scatter_N[rows_BT[inside_BT]] = flat_BT[inside_BT]
            n_places += inside_BT.numel()
        return Documents(tuple(gathers), scatter_N, tuple(padding))

    def to(self, device: torch.device | str) -> Documents:
        """Move every tensor."""
        gathers, padding = (
            tuple(tensor.to(device) for tensor in several)
            for several in (self.gathers_BT, self.padding)
        )
        return Documents(gathers, self.scatter_N.to(device), padding, self.n_behind)

    @property
    def longest_T(self) -> Tensor:
        """Return the places in the row of its longest document (0 at padding)."""
        longest = self.gathers_BT[0]
        return longest[(longest.amax(1) - longest[:, 0]).argmax()]

    def gather_index(self, heads: int) -> Tensor:
        """Return which head of the row, (N * heads), each place of the batches is, heads first."""
        each = torch.arange(heads, device=self.scatter_N.device)[:, None]
        return torch.cat([(g.view(1, -1) * heads + each).flatten() for g in self.gathers_BT])

    def scatter_index(self, heads: int) -> Tensor:
        """Return at which place of the batches, heads first, each head of the row, (N * heads)."""
        sizes = torch.tensor([gather_BT.numel() for gather_BT in self.gathers_BT])
        ends = sizes.cumsum(0).to(self.scatter_N.device)
        of_N = torch.bucketize(self.scatter_N, ends, right=True)
        size_N, start_N = sizes.to(of_N.device)[of_N], (ends - sizes.to(of_N.device))[of_N]
        first_N1 = (self.scatter_N + (heads - 1) * start_N)[:, None]
        each = torch.arange(heads, device=of_N.device)
        return (first_N1 + each * size_N[:, None]).flatten()


def whole_row(
    tokens_1N: Tensor, positions_1N: Tensor, documents: Documents
) -> tuple[Tensor, Tensor, Documents]:
    """Lengthen a row to a usual number of tokens; those behind its documents are read by none."""
    n = -tokens_1N.shape[1] % _ROW_TOKENS
    if not n:
        return tokens_1N, positions_1N, documents
    documents = replace(documents, scatter_N=F.pad(documents.scatter_N, (0, n)), n_behind=n)
    return F.pad(tokens_1N, (0, n)), F.pad(positions_1N, (0, n)), documents


def _rounded(n_places: int) -> int:
    multiple = _SHORT_MULTIPLE if n_places <= _SHORT else _LONG_MULTIPLE
    return n_places + -n_places % multiple


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Return the documents of each padded batch: from the longest on, those of like length."""
    order = sorted(range(len(lengths)), key=lambda document: -lengths[document])
    groups: list[list[int]] = []
    for document in order:
        if groups and lengths[groups[-1][0]] <= _LIKE * lengths[document]:
            groups[-1].append(document)
        else:
            groups.append([document])

    def cost(longest: int, n: int) -> int:
        return n * longest * (longest + _CALL_TOKENS)

    def added(index: int) -> int:
        """Return what it costs to pad a group to the length of the one before it."""
        longer, shorter = (lengths[groups[index + i][0]] for i in (0, 1))
        n = len(groups[index + 1])
        return cost(longer, n) - cost(shorter, n)

    while len(groups) > _MOST_BATCHES:
        cheapest = min(range(len(groups) - 1), key=added)
        groups[cheapest] += groups.pop(cheapest + 1)
    return [sorted(group) for group in groups]


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each document.

    query (1, H, N, D), key and value (1, H_kv, N, D); returns (1, N, H, D). `sliding_window` is
    how many places back each sees, itself included; `softcap` bounds the scores.
    """
    assert documents is not None, "packed attention needs documents="
    heads = query.shape[1]
    if torch.is_autocast_enabled(query.device.type):  # as its own attention would: once, not padded
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (states.to(dtype) for states in (query, key, value))
    outs = []
    for gather_BT in documents.gathers_BT:

        def apart(states: Tensor, gather_BT: Tensor = gather_BT) -> Tensor:
            states_NHD = states[0].transpose(0, 1)
            batch = states_NHD[gather_BT].transpose(1, 2)  # B, H, T, D
            return batch.repeat_interleave(heads // batch.shape[1], 1)

        states = (apart(query), apart(key), apart(value))
        window = sliding_window if sliding_window and sliding_window < gather_BT.shape[1] else None
        if softcap is not None:
            out_BHTD = _attend_capped(*states, scaling, dropout, window, softcap)
        elif window is not None:
            mask_TT = _visible(gather_BT.shape[1], window, query.device)
            out_BHTD = F.scaled_dot_product_attention(
                *states, attn_mask=mask_TT, scale=scaling, dropout_p=dropout
            )
        else:
            out_BHTD = _SPEEDUPS.attention(*states, scaling, dropout)
        outs.append(out_BHTD.transpose(1, 2).reshape(-1, heads, query.shape[-1]))
    out = torch.cat(outs) if len(outs) > 1 else outs[0]
    return out[documents.scatter_N][None], None


def _visible(length: int, window: int | None, device: torch.device) -> Tensor:
    """Return which places, the columns, each place sees, (T, T)."""
    seen_TT = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen_TT if window is None else seen_TT.triu(1 - window)


def _attend_capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float,
) -> Tensor:
    """Attend causally with bounded scores, which no kernel of torch has; all are (B, H, T, D)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.mT * (scale / softcap))
    hidden_TT = ~_visible(query.shape[2], window, query.device)
    weights = scores.float().masked_fill(hidden_TT, -torch.inf).softmax(-1).to(value.dtype)
    return F.dropout(weights, dropout) @ value


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)

_LENGTHS = (11, 19)
_TOLERANCE = 1e-4
"""Of the largest number, which sums in another order differ by."""
_READ = 1e-6
"""The same where the sums are of the same numbers."""


def check_packs(name: str, model: Any) -> None:
    """Refuse a student that would learn from documents that it does not tell apart.

    A class may have layers that read along the row (state spaces, convolutions), positions of its
    own (ALiBi), or no attention that can be replaced; no config says so of all of them. A window
    longer than these few tokens is not tried: `packed_attention` has it from the layer.

    Args:
        name: of the student.
        model: causal language model of transformers, in float32.

    Raises:
        StratosError: it is such a model.
    """
    if _packs(model):
        return
    raise StratosError(
        f"The student {name} cannot be trained here: {type(model).__name__} does not keep the "
        "documents of a packed row apart, so that each would be learnt as if it went on from the "
        "one before. Choose a student of another family, such as Llama, Qwen, Gemma or Mistral: "
        "student=<name>, or student=local student.path=<folder>."
    )


@torch.no_grad()
def _packs(model: Any) -> bool:
    n_ids, was_training = model.get_input_embeddings().weight.shape[0], model.training
    attention = model.config._attn_implementation
    first, second = (torch.arange(n, device=model.device) % n_ids for n in _LENGTHS)
    model.eval()
    try:
        alone = [_states(model, text.flip(0)[None]) for text in (first, second)]
        model.set_attn_implementation(NAME)
        tokens_N = torch.cat([first.flip(0), second.flip(0)])
        positions_N = torch.cat([torch.arange(n, device=model.device) for n in _LENGTHS])
        documents = Documents.of(_LENGTHS).to(model.device)
        others_N = torch.cat([first, second.flip(0)])
        together, disturbed = (
            _states(model, tokens[None], positions_N[None], documents)
            for tokens in (tokens_N, others_N)
        )
    except Exception:  # what a class of its authors does with inputs that it does not know
        return False
    finally:
        model.set_attn_implementation(attention)
        model.train(was_training)
    expected = torch.cat(alone, 1)
    largest = expected.abs().max()
    # The second one is to read nothing of the first: experts may sum in another order.
    read = (together - disturbed)[:, len(first) :].abs().max()
    return bool(
        read <= _READ * largest and (together - expected).abs().max() <= _TOLERANCE * largest
    )


def _states(
    model: Any,
    tokens_1N: Tensor,
    positions_1N: Tensor | None = None,
    documents: Documents | None = None,
) -> Tensor:
    inputs: dict[str, Any] = {"input_ids": tokens_1N, "use_cache": False}
    if documents is not None:
        inputs |= {"position_ids": positions_1N, "documents": documents}
    states: Tensor = model.base_model(**inputs).last_hidden_state
    return states
