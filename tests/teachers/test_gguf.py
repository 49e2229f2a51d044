"""A GGUF file is parsed once for config, tokenizer and weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stratos.teachers.huggingface import parsed_once
from tests.teachers.real_teacher import needs_smollm2, smollm2


@needs_smollm2
@pytest.mark.slow
def test_one_file_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf
    from transformers import AutoConfig, AutoTokenizer, modeling_gguf_pytorch_utils

    n_parsed: Counter[str] = Counter()
    reader = gguf.GGUFReader

    def counting(path: Any, *args: Any) -> Any:
        n_parsed[str(path)] += 1
        return reader(path, *args)

    monkeypatch.setattr(gguf, "GGUFReader", counting)
    weights = smollm2()._found()
    load = modeling_gguf_pytorch_utils.load_gguf_checkpoint
    with parsed_once():
        config = AutoConfig.from_pretrained(weights.location, gguf_file=weights.gguf)
        tokenizer = AutoTokenizer.from_pretrained(weights.location, gguf_file=weights.gguf)
        again = AutoConfig.from_pretrained(weights.location, gguf_file=weights.gguf)
    assert list(n_parsed.values()) == [1]
    assert modeling_gguf_pytorch_utils.load_gguf_checkpoint is load
    # What one caller does to its copy, no other sees.
    assert again.to_dict() == config.to_dict() and config.vocab_size == len(tokenizer) == 49152
