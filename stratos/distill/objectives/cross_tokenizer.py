"""Cross-tokenizer distillation: align positions and shared tokens of two tokenizers.

Two tokenizers cut one text differently, but wherever both begin a token at the same character,
both models have read exactly the same text. At these places the next-token distributions of the two
are compared as they are: none is multiplied with probabilities of other places, which would leave
it a distribution no more. How they are compared is the objective's: sorted probabilities
(`universal_logit`), or any divergence over the tokens that both vocabularies have (`Shared`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Spans = Sequence[tuple[int, int]]


def common_starts(student: Spans, teacher: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of each side that begin where a token of the other begins.

    Both are spans (start, end) of characters of the same text, in order, as fast tokenizers give
    them (`return_offsets_mapping=True`). Empty spans (special tokens) are left out. Returned are
    two arrays of one length, indices of tokens; the place that predicts a token is the one before.
    """
    starts = []
    for spans in (student, teacher):
        array = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
        full = np.flatnonzero(array[:, 1] > array[:, 0])
        # Several tokens of one character (byte fallback) begin together: only the first counts.
        _, first = np.unique(array[full, 0], return_index=True)
        starts.append((array[full[first], 0], full[first]))
    _, ours, theirs = np.intersect1d(
        starts[0][0], starts[1][0], assume_unique=True, return_indices=True
    )
    return starts[0][1][ours], starts[1][1][theirs]


def shared_tokens(student: Any, teacher: Any) -> tuple[Tensor, Tensor]:
    """Return the ids (K,) of the same text in the vocabularies of two tokenizers.

    Tokens are compared as the text that they decode to, not as they are spelled in a vocabulary:
    "Ġthe" of one tokenizer is "▁the" of another. Special tokens are left out, and so is what does
    not decode by itself (parts of characters).
    """
    ours, theirs = _texts(student), _texts(teacher)
    pairs = sorted((id_, theirs[text]) for text, id_ in ours.items() if text in theirs)
    ids = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return ids[:, 0].contiguous(), ids[:, 1].contiguous()


def _texts(tokenizer: Any) -> dict[str, int]:
    special = set(tokenizer.all_special_ids)
    texts: dict[str, int] = {}
    for token, id_ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if id_ in special:
            continue
        # A word before it keeps the space that some decoders take from the start of a text.
        text = tokenizer.convert_tokens_to_string(["a", token])[1:]
        if text and "�" not in text:
            texts.setdefault(text, id_)
    return texts
