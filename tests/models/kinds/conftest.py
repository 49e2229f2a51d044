"""Rows and vectors that are small enough to learn in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from stratos.models.kinds.features import StaticTable

WORDS = {"card": ("card", "chip"), "loan": ("loan", "rate"), "wire": ("wire", "iban")}
FILLERS = ("please", "my", "about", "the", "help", "with", "is", "late")


@pytest.fixture
def rows() -> Callable[..., tuple[list[str], list[str]]]:
    """Return a function that draws texts, and the label whose word each holds."""
    return _rows


def _rows(n: int = 90, seed: int = 0) -> tuple[list[str], list[str]]:
    random = Random(seed)
    labels = [random.choice(list(WORDS)) for _ in range(n)]
    texts = [" ".join([*random.sample(FILLERS, 4), random.choice(WORDS[la])]) for la in labels]
    return texts, labels


@pytest.fixture
def table() -> StaticTable:
    """Return vectors under which both words of a label are alike."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *FILLERS, *(word for some in WORDS.values() for word in some)]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(words), 8)).astype(np.float32) * 0.1
    for k, label in enumerate(WORDS):
        for word in WORDS[label]:
            vectors[words.index(word)] += 2 * np.eye(8, dtype=np.float32)[k]
    return StaticTable(vectors, tokenizer)
