"""Models that can be taken, however unusual; those that cannot are in tests/attack/inputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stratos.core.errors import ForeignFileError
from stratos.models.pretrained import (
    load_tokenizer,
    sample_chat,
    why_not_loadable,
    why_not_readable,
)
from stratos.models.words import Endless, InFile, OutOfBounds, TokenBeyond, UnknownPacking

sys.path.insert(0, str(Path(__file__).parents[2] / "evaluate"))
from tiny_student import tiny_model, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(tmp_path)
    tiny_model().save_pretrained(tmp_path)
    return tmp_path


def change(path: Path, change_it: Any) -> None:
    content = json.loads(path.read_text())
    change_it(content)
    path.write_text(json.dumps(content))


def test_a_whole_model_is_taken(folder: Path) -> None:
    assert why_not_loadable(folder) is None


def test_tokens_that_no_chat_uses_may_lie_beyond_the_vocabulary(folder: Path) -> None:
    """A tokenizer that a family shares has tokens for images, which its text models lack."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert why_not_loadable(folder) is None


def test_tokens_that_a_chat_uses_may_not(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    model = tiny_model()
    model.resize_token_embeddings(2)
    assert isinstance(model, LlamaForCausalLM)
    model.save_pretrained(folder)
    reason = why_not_loadable(folder)
    assert isinstance(reason, TokenBeyond) and reason.vocab_size == 2 <= reason.token


def test_sizes_of_a_model_that_reads_images_too_lie_apart(folder: Path) -> None:
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")

    def move(config: dict[str, Any]) -> None:
        config["text_config"] = {name: config.pop(name) for name in sizes}

    change(folder / "config.json", move)
    assert why_not_readable(folder) is None
    change(folder / "config.json", lambda config: config["text_config"].update(vocab_size=0))
    too_few = InFile("config.json", OutOfBounds("vocab_size", 0, 100_000_000))
    assert why_not_readable(folder) == too_few


def test_a_loader_says_nothing_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the environment says CI, transformers hands its warnings to every log there is."""
    from transformers.utils import logging

    tiny_tokenizer().save_pretrained(tmp_path)
    config = {"model_type": "own_model", "auto_map": {"AutoConfig": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    change(tmp_path / "tokenizer_config.json", lambda found: found.pop("tokenizer_class", None))
    logging.enable_propagation()
    try:
        load_tokenizer(tmp_path)
    finally:
        logging.disable_propagation()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("packing", "method"),
    [
        ({"quant_method": "own"}, '"own"'),
        ({}, "null"),
        ({"quant_method": "gptq"}, None),
        ({"load_in_4bit": True}, None),
    ],
)
def test_a_quantization_that_no_loader_knows_is_refused(
    packing: Any, method: str | None, folder: Path
) -> None:
    change(folder / "config.json", lambda config: config.update(quantization_config=packing))
    expected = None if method is None else InFile("config.json", UnknownPacking(method))
    assert why_not_loadable(folder) == expected


NESTED_LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def doubling(config: dict[str, Any]) -> None:
    rules = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40
    config["normalizer"] = {"type": "Sequence", "normalizers": rules}


@pytest.mark.parametrize(
    ("name", "change_it"),
    [
        ("tokenizer_config.json", lambda config: config.update(chat_template=NESTED_LOOPS)),
        ("tokenizer_config.json", lambda config: config.update(chat_template="{{9**99999999}}")),
        ("tokenizer.json", doubling),
    ],
)
def test_a_template_or_a_tokenizer_that_does_not_end_is_refused(
    name: str, change_it: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_chat, "SECONDS", 2.0)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder / name, change_it)
    for why_not in (why_not_readable, why_not_loadable):
        assert isinstance(why_not(folder), Endless)
    with pytest.raises(ForeignFileError, match="does not end on a short chat: it takes more than"):
        load_tokenizer(folder)
