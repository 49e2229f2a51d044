"""Rows and vectors that are small enough to learn in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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


@pytest.fixture(params=["bert", "roberta"])
def tiny_encoder(request: pytest.FixtureRequest, tmp_path: Path, table: StaticTable) -> Path:
    """Return the folder of an encoder of random weights with three layers.

    NumPy computes a BERT, transformers any other.
    """
    import torch
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    folder = tmp_path / "pretrained"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=table._tokenizer, pad_token="[UNK]", unk_token="[UNK]"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        request.param, vocab_size=32, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    return folder
