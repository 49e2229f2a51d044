"""Compare how an engine cuts chats into tokens with how transformers does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stratos.deploy.engines.base import Message
from stratos.deploy.engines.chat_ids import ChatIds
from stratos.models.pretrained import load_tokenizer


def by_transformers(bundle: Path, chats: Sequence[list[Message]]) -> list[list[int]]:
    """Return the ids of chats, up to where the answer begins, as the evaluation had them."""
    tokenizer = load_tokenizer(bundle)
    return [
        list(
            tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
        )
        for chat in chats
    ]


def first_difference(
    expected: Sequence[Sequence[int]], found: Sequence[Sequence[int]], names: ChatIds
) -> str:
    """Return where two lists of token ids part, with the texts of both tokens; "" if nowhere."""
    for place, (a, b) in enumerate(zip(expected, found, strict=True), 1):
        if list(a) == list(b):
            continue
        n_same = next(
            (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
        )
        told, other = (
            "the end" if n_same == len(ids) else
            f"{ids[n_same]} ({names.tokenizer.id_to_token(ids[n_same])!r})"
            for ids in (a, b)
        )  # fmt: skip
        return f"question {place}, token {n_same + 1}: {told} becomes {other}"
    return ""
