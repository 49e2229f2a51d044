"""A small student that is no language model, trained on rows that it can learn."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np

from stratos.models.kinds.classifier import Classifier
from stratos.models.kinds.cross_validation import Study
from stratos.models.kinds.encoder import Encoder
from stratos.models.kinds.features import Features, StaticTable, Tfidf

WORDS = {
    "card": ("card", "chip", "plastic"),
    "loan": ("loan", "rate", "mortgage"),
    "transfer": ("transfer", "wire", "iban"),
}
FILLERS = ("please", "my", "about", "the", "help", "with", "is", "late")


def rows(n: int = 120, seed: int = 0) -> list[dict[str, str]]:
    """Return texts with the label whose words they hold."""
    random, found = Random(seed), []
    for k in range(n):
        label = list(WORDS)[k % len(WORDS)]
        words = [*random.sample(FILLERS, 4), random.choice(WORDS[label])]
        random.shuffle(words)
        found.append({"text": f"{' '.join(words)} {k}", "label": label})
    return found


def write_rows(path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def trained(kind: str = "linear", encoder: Path | None = None) -> Classifier:
    """Return a classifier of the rows."""
    blocks: list[Features] = [Tfidf()]
    if kind == "static":
        blocks.append(_table())
    elif kind == "encoder":
        assert encoder is not None
        blocks.append(Encoder(_tiny_encoder(encoder)))
    texts, labels = zip(*((row["text"], row["label"]) for row in rows()), strict=True)
    study = Study(texts, labels, blocks)
    study.choose()
    return study.fit(kind)


def _vocabulary() -> dict[str, int]:
    words = ["[PAD]", "[UNK]", *FILLERS, *(word for some in WORDS.values() for word in some)]
    return {word: k for k, word in enumerate(words)}


def _table() -> StaticTable:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(_vocabulary(), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.random.default_rng(0).normal(size=(len(_vocabulary()), 16)).astype(np.float16)
    return StaticTable(table, tokenizer)


def _tiny_encoder(folder: Path) -> Path:
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_table()._tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(_vocabulary()), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder
