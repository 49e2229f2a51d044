"""What a bundle answers in this process, without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stratos.deploy.hosting import longest_answer
from stratos.models.kinds import is_predictor, load_predictor, text_of
from stratos.models.kinds.base import has_labels
from stratos.tasks.base import Message

MOST_TOKENS = 1024
"""Longest answer of a bundle that says none."""
BATCH = 32

Answering = Callable[[Sequence[list[Message]]], list[str]]
"""Of chats, returns the texts of their answers."""


def answering(bundle: Path) -> Answering:
    """Load the student of a bundle; return what answers chats as the evaluation asked it, greedily.

    Raises:
        StratosError: it cannot be loaded.
    """
    if is_predictor(bundle) or has_labels(bundle):
        predictor = load_predictor(bundle)
        return lambda chats: [one.text for one in predictor.predict([*map(text_of, chats)])]
    import torch

    from stratos.models.decode.batched import complete
    from stratos.models.pretrained import load_model, load_tokenizer

    tokenizer = load_tokenizer(bundle)
    model = load_model(bundle, dtype="auto").to("cuda" if torch.cuda.is_available() else "cpu")
    most = longest_answer(bundle) or MOST_TOKENS

    def answers(chats: Sequence[list[Message]]) -> list[str]:
        found = complete(model, tokenizer, chats, max_new_tokens=most, batch_size=BATCH)
        return [one.text for one in found]

    return answers
