"""Sequence packing: many documents in one row, kept apart by attention.

All that works token by token (embeddings, projections, MLP, norms) runs on the bare row without
padding. Attention alone needs the documents apart: queries, keys and values of documents of like
length are gathered into padded batches, attend causally there, and are scattered back. Rotary
positions restart with every document.

What documents begin with alike stands in the row once, as a document of its own, before which
nothing is: what follows of each sees it and itself, at the positions that it has in its document.
Of a conversation the last turn is read, and of an earlier one what is not in it word for word: its
end, or nothing, where its answer is predicted from the places of the last one.
The loss equals that of the same documents in a padded batch (tests/distill).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from stratos.core.errors import StratosError
from stratos.distill.speedups import behind, speedups
from stratos.distill.trainer import BEGINNING_TOKENS
from stratos.models.decode.kv_cache import alike, n_shared

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
END_TOKENS = 16
"""Tokens that a template writes behind the last message of a prompt, at most."""
_SPEEDUPS = speedups()
"""Bound here, once: `torch.compile` traces `packed_attention`."""

Beginning: TypeAlias = tuple[tuple[int, int], ...]
"""What stands before a text, piece by piece: where it is, and how many of its first tokens."""


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
    longest_T: Tensor
    """The places in the row of its longest document, that of each position (0 at padding)."""
    beginnings: tuple[Beginning, ...]
    """For each padded batch the beginning of its documents, by the batches that have it alone."""
    n_behind: int = 0
    """Tokens at the end of the row that are of no document."""

    @staticmethod
    def of(lengths: Sequence[int], beginnings: Sequence[Beginning] = ()) -> Documents:
        """Lay documents of these lengths out, one behind the other, in batches of like length.

        Args:
            lengths: of documents, of beginnings, and of what follows beginnings.
            beginnings: of each of these what is before it, by their numbers; none where it is
                whole.
        """
        of_each = list(beginnings) or [()] * len(lengths)
        read = {part for pieces in of_each for part, _ in pieces}
        shared = sorted(read, key=lambda part: (len(of_each[part]), part))
        groups, before = [[part] for part in shared], [of_each[part] for part in shared]
        behind_each = defaultdict[Beginning, list[int]](list)
        for part, pieces in enumerate(of_each):
            if part not in read:
                behind_each[pieces].append(part)
        for pieces, parts in behind_each.items():
            groups += (batches := _groups(lengths, parts))
            before += [pieces] * len(batches)
        number = {part: batch for batch, part in enumerate(shared)}
        known = [tuple((number[part], n) for part, n in pieces) for pieces in before]
        lengths_B = torch.tensor(lengths)
        starts_B = torch.cumsum(lengths_B, 0) - lengths_B
        scatter_N = torch.empty(int(lengths_B.sum()), dtype=torch.long)
        gathers, padding, n_places, n_longest = [], [], 0, 0
        for group, pieces in zip(groups, known, strict=True):
            places = torch.arange(_rounded(max(lengths[document] for document in group)))
            of_group = torch.tensor(group)
            inside_BT = places[None, :] < lengths_B[of_group, None]
            rows_BT = starts_B[of_group, None] + places[None, :]
            gathers.append(torch.where(inside_BT, rows_BT, 0))
            padding.append((~inside_BT).flatten().nonzero()[:, 0])
            flat_BT = n_places + torch.arange(inside_BT.numel()).view(inside_BT.shape)
            scatter_N[rows_BT[inside_BT]] = flat_BT[inside_BT]
            n_places += inside_BT.numel()
            n_longest = max(n_longest, len(places) + _size(pieces))
        whole = [_size(pieces) + length for pieces, length in zip(of_each, lengths, strict=True)]
        longest = whole.index(max(whole))
        spans = [
            torch.arange(n) + int(starts_B[part])
            for part, n in (*of_each[longest], (longest, lengths[longest]))
        ]
        longest_T = F.pad(torch.cat(spans), (0, n_longest - max(whole)))
        return Documents(tuple(gathers), scatter_N, tuple(padding), longest_T, tuple(known))

    def to(self, device: torch.device | str) -> Documents:
        """Move every tensor."""
        gathers, padding = (
            tuple(tensor.to(device) for tensor in several)
            for several in (self.gathers_BT, self.padding)
        )
        scatter_N, longest_T = self.scatter_N.to(device), self.longest_T.to(device)
        return Documents(gathers, scatter_N, padding, longest_T, self.beginnings, self.n_behind)

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


@dataclass(frozen=True)
class Row:
    """Texts in a row, what they begin with alike first.

    tokens_N, positions_N: of N tokens. rows_M: places whose next token is predicted, text by text.
    """

    tokens_N: Tensor
    positions_N: Tensor
    rows_M: Tensor
    documents: Documents

    @staticmethod
    def of(
        texts: Sequence[np.ndarray],
        prompt_lengths: Sequence[int],
        shares: bool = False,
        conversations: Sequence[int] | None = None,
    ) -> Row:
        """Lay texts out; what follows their prompts is predicted.

        Args:
            texts: tokens of each.
            prompt_lengths: of each; the last token of a prompt is never shared, for what is
                predicted there is each text's own.
            shares: whether what several prompts begin with is to stand in the row once.
            conversations: of each text; None where each is of another one. A turn whose answer
                stands in a later prompt as it is predicted has no tokens of its own in the row.
        """
        turns: dict[int, tuple[int, int]] = {}
        if shares and conversations is not None:
            turns = turns_of(texts, prompt_lengths, conversations)
        layout = _laid_out(texts, prompt_lengths, turns, shares)
        lengths = [len(part) for part in layout.parts]
        starts = np.cumsum([0, *lengths[:-1]])
        before = [_size(beginning) for beginning in layout.beginnings]
        positions = np.arange(sum(lengths)) - np.repeat(starts - before, lengths)
        rows = []
        for text, n_prompt in enumerate(prompt_lengths):
            spans = [np.arange(n) + starts[part] for part, n in layout.of_texts[text]]
            rows.append(np.concatenate(spans)[n_prompt - 1 : len(texts[text]) - 1])
        rows_M = np.concatenate(rows)
        if turns and len(np.unique(rows_M)) < len(rows_M):  # one prompt has several answers
            return Row.of(texts, prompt_lengths, shares)
        tokens_N = torch.from_numpy(np.concatenate(layout.parts).astype(np.int64))
        documents = Documents.of(lengths, layout.beginnings)
        return Row(tokens_N, torch.from_numpy(positions), torch.from_numpy(rows_M), documents)


@dataclass(frozen=True)
class _Layout:
    """The parts of a row, and where texts stand in them."""

    parts: list[np.ndarray]
    """Tokens of each."""
    beginnings: list[Beginning]
    """Of each part: what is read before it."""
    of_texts: list[Beginning]
    """Of each text: parts, and how many tokens of each, which are the text one after another."""


def _laid_out(
    texts: Sequence[np.ndarray],
    prompt_lengths: Sequence[int],
    turns: Mapping[int, tuple[int, int]],
    shares: bool,
) -> _Layout:
    """Lay out what prompts begin with alike, then what each text has of its own.

    Args:
        texts: tokens of each.
        prompt_lengths: of each.
        turns: texts that are read with another one, and how far (`turns_of`).
        shares: whether prompts share what they begin with.
    """
    parts: list[np.ndarray] = []
    shared: list[Beginning] = [()] * len(texts)
    single = [text for text in range(len(texts)) if text not in turns]
    prompts = [texts[text][: prompt_lengths[text]].tolist() for text in single]
    for group, n in alike(prompts, BEGINNING_TOKENS) if shares else ():
        for index in group:
            shared[single[index]] = ((len(parts), n),)
        parts.append(texts[single[group[0]]][:n])
    beginnings: list[Beginning] = [()] * len(parts)
    n_read = [
        turns[text][1] if text in turns else _size(beginning)
        for text, beginning in enumerate(shared)
    ]
    # Of a turn that is read to its last token but one nothing is left.
    own = [text for text, n in enumerate(n_read) if text not in turns or n < len(texts[text]) - 1]
    part_of = {text: len(parts) + index for index, text in enumerate(own)}
    for text, (last, n) in turns.items():
        n_behind = n - _size(shared[last])
        whole = (*shared[last], (part_of[last], n_behind))
        shared[text] = whole if n_behind > 0 else ((shared[last][0][0], n),)
    beginnings += [shared[text] for text in own]
    parts += [texts[text][n_read[text] :] for text in own]
    of_texts = [
        (*beginning, (part_of[text], len(texts[text]) - n_read[text]))
        if text in part_of
        else beginning
        for text, beginning in enumerate(shared)
    ]
    return _Layout(parts, beginnings, of_texts)


def turns_of(
    texts: Sequence[np.ndarray], prompt_lengths: Sequence[int], conversations: Sequence[int]
) -> dict[int, tuple[int, int]]:
    """Return the turns of conversations whose last turn here has what they begin with.

    Of each that last one, and how many tokens are read there: to the end of its prompt, or all but
    its own last where its answer stands there as well.
    """
    turns: dict[int, tuple[int, int]] = {}
    of_each = defaultdict[int, list[int]](list)
    for text, conversation in enumerate(conversations):
        of_each[conversation].append(text)
    for some in of_each.values():
        last = max(some, key=lambda text: prompt_lengths[text])
        for text in some:
            n = n_shared(texts[text].tolist(), texts[last].tolist())
            if n < len(texts[text]) - 1:
                n = min(n, prompt_lengths[text] - 1)
            is_within = n > BEGINNING_TOKENS and prompt_lengths[text] - n <= END_TOKENS
            if text != last and is_within:
                turns[text] = last, n
    return turns


def _size(beginning: Beginning) -> int:
    return sum(n for _, n in beginning)


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


def _groups(lengths: Sequence[int], documents: Sequence[int]) -> list[list[int]]:
    """Return the documents of each padded batch: from the longest on, those of like length."""
    order = sorted(documents, key=lambda document: -lengths[document])
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
    attention_mask: int | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each document, and to all of its beginning.

    query (1, H, N, D), key and value (1, H_kv, N, D); returns (1, N, H, D). `sliding_window`, or
    what stands for the mask (`_window_of`), is how many places back each sees, itself included;
    `softcap` bounds the scores.
    """
    assert documents is not None, "packed attention needs documents="
    heads, sliding_window = query.shape[1], sliding_window or attention_mask
    if torch.is_autocast_enabled(query.device.type):  # as its own attention would: once, not padded
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (states.to(dtype) for states in (query, key, value))
    outs = []
    for gather_BT, beginning in zip(documents.gathers_BT, documents.beginnings, strict=True):

        def apart(states: Tensor, gather_BT: Tensor = gather_BT) -> Tensor:
            states_NHD = states[0].transpose(0, 1)
            batch = states_NHD[gather_BT].transpose(1, 2)  # B, H, T, D
            return batch.repeat_interleave(heads // batch.shape[1], 1)

        states, before, n_seen = (apart(query), apart(key), apart(value)), None, gather_BT.shape[1]
        if beginning:
            places_1T = torch.cat([documents.gathers_BT[k][:, :n] for k, n in beginning], 1)
            before = apart(key, places_1T), apart(value, places_1T)
            n_seen += places_1T.shape[1]
        window = sliding_window if sliding_window and sliding_window < n_seen else None
        if window is None and softcap is None:
            out_BHTD = _SPEEDUPS.attention(*states, scaling, dropout, before)
        else:
            states = (states[0], *behind(before, states[1], states[2]))
            mask_TS = _visible(gather_BT.shape[1], n_seen, window, query.device)
            if softcap is not None:
                out_BHTD = _attend_capped(*states, scaling, dropout, mask_TS, softcap)
            else:
                out_BHTD = F.scaled_dot_product_attention(
                    *states, attn_mask=mask_TS, scale=scaling, dropout_p=dropout
                )
        outs.append(out_BHTD.transpose(1, 2).reshape(-1, heads, query.shape[-1]))
    out = torch.cat(outs) if len(outs) > 1 else outs[0]
    return out[documents.scatter_N][None], None


def _visible(length: int, n_seen: int, window: int | None, device: torch.device) -> Tensor:
    """Return which of `n_seen` places, the columns, each of the last `length` sees, (T, S)."""
    last = n_seen - length
    seen_TS = torch.ones(length, n_seen, dtype=torch.bool, device=device).tril(last)
    return seen_TS if window is None else seen_TS.triu(last + 1 - window)


def _attend_capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    dropout: float,
    seen_TS: Tensor,
    softcap: float,
) -> Tensor:
    """Attend with bounded scores, which no kernel of torch has; all are (B, H, T or S, D)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.mT * (scale / softcap))
    weights = scores.float().masked_fill(~seen_TS, -torch.inf).softmax(-1).to(value.dtype)
    return F.dropout(weights, dropout) @ value


AttentionInterface.register(NAME, packed_attention)


def _window_of(*args: Any, local_size: int | None = None, **kwargs: Any) -> int | None:
    """Return a layer's window in place of its mask: some classes say it to no attention."""
    return local_size


AttentionMaskInterface.register(NAME, _window_of)

_LENGTHS, _SHARED = (11, 19), 80
"""Tokens of two texts, and of what they begin with alike where they share it."""
TOLERANCE = 1e-4
"""Of the largest number, which sums in another order differ by."""
_READ = 1e-6
"""The same where the sums are of the same numbers."""


def check_packs(name: str, model: Any) -> None:
    """Refuse a student that would learn from documents that it does not tell apart.

    A class may have layers that read along the row (state spaces, convolutions), positions of its
    own (ALiBi), or no attention that can be replaced; no config says so of all of them. A window
    longer than these few tokens is not tried: `packed_attention` has it from layer or mask.

    Args:
        name: of the student.
        model: causal language model of transformers, in float32.

    Raises:
        StratosError: it is such a model.
    """
    if packs(model):
        return
    raise StratosError(
        f"The student {name} cannot be trained here: {type(model).__name__} does not keep the "
        "documents of a packed row apart, so that each would be learnt as if it went on from the "
        "one before. Choose a student of another family, such as Llama, Qwen, Gemma or Mistral: "
        "student=<name>, or student=local student.path=<folder>."
    )


@torch.no_grad()
def packs(
    model: Any, shares: bool = False, tolerance: float = TOLERANCE, evaluates: bool = True
) -> bool:
    """Try out whether a model reads two texts in a row as it reads each alone.

    Args:
        model: causal language model of transformers.
        shares: whether what both begin with stands in the row once.
        tolerance: part of the largest number by which the states may differ.
        evaluates: whether it is tried out in evaluation mode, without dropout; bitsandbytes lays
            weights in 4 bits out anew there.
    """
    n_ids, was_training = model.get_input_embeddings().weight.shape[0], model.training
    attention, n = model.config._attn_implementation, _SHARED * shares
    beginning = np.arange(n)[::-1]
    texts = [np.append(beginning, np.arange(length)[::-1]) % n_ids for length in _LENGTHS]
    row = Row.of(texts, [n + 1] * 2, shares)
    changed_N = row.tokens_N.clone()
    changed_N[n : n + _LENGTHS[0]] = changed_N[n : n + _LENGTHS[0]].flip(0)
    model.train(not evaluates)
    try:
        alone = [_states(model, torch.from_numpy(text)) for text in texts]
        model.set_attn_implementation(NAME)
        together, disturbed = (_states(model, ids_N, row) for ids_N in (row.tokens_N, changed_N))
    except Exception:  # what a class of its authors does with inputs that it does not know
        return False
    finally:
        model.set_attn_implementation(attention)
        model.train(was_training)
    expected = torch.cat([alone[0], alone[1][n:]])
    largest = expected.abs().max()
    # The second one is to read nothing of the first: experts may sum in another order.
    read = (together - disturbed)[n + _LENGTHS[0] :].abs().max()
    return bool(
        read <= _READ * largest and (together - expected).abs().max() <= tolerance * largest
    )


def _states(model: Any, tokens_N: Tensor, row: Row | None = None) -> Tensor:
    device = model.device
    inputs: dict[str, Any] = {"input_ids": tokens_N[None].to(device), "use_cache": False}
    if row is not None:
        positions_1N, documents = row.positions_N[None].to(device), row.documents.to(device)
        inputs |= {"position_ids": positions_1N, "documents": documents}
    states: Tensor = model.base_model(**inputs).last_hidden_state[0]
    return states
