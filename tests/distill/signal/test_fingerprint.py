"""Two tokenizers are the same if ids mean the same and texts are cut the same."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from signal_tools import context, documents, strategy, teacher, tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from stratos.distill.signal.cross_tokenizer import (
    TokenizerMismatch,
    check_same,
    difference,
    fingerprint,
)
from stratos.distill.signal.source import open_source
from stratos.distill.words import OtherEnd, OtherSplit, OtherToken


def changed(change: Any) -> PreTrainedTokenizerFast:
    """Return the tokenizer with its description changed."""
    told = json.loads(tokenizer().backend_tokenizer.to_str())
    change(told)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(told)),
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"],
    )


def swap(told: Any) -> None:
    vocabulary = told["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[270:272]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def merge_less(told: Any) -> None:
    told["model"]["merges"] = told["model"]["merges"][:-1]


def normalize(told: Any) -> None:
    told["normalizer"] = {"type": "Lowercase"}


@pytest.mark.parametrize(
    ("change", "reason"), [(swap, OtherToken), (merge_less, OtherSplit), (normalize, OtherSplit)]
)
def test_every_change_of_meaning_changes_the_fingerprint(change: Any, reason: type) -> None:
    same, other = changed(lambda told: None), changed(change)
    assert fingerprint(same).digest == fingerprint(tokenizer()).digest
    assert difference(tokenizer(), same) is None
    assert fingerprint(other).digest != fingerprint(tokenizer()).digest
    assert type(difference(tokenizer(), other)) is reason


def test_saving_and_loading_keeps_the_fingerprint(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert fingerprint(loaded).digest == fingerprint(tokenizer()).digest
    assert str(fingerprint(loaded)).startswith(f"{tmp_path} ({len(tokenizer()):,} ids, ")


def test_another_end_of_text_is_another_fingerprint() -> None:
    other = changed(lambda told: None)
    other.eos_token = "<pad>"
    assert fingerprint(other).digest != fingerprint(tokenizer()).digest


def test_an_end_that_the_teacher_lacks_is_a_difference() -> None:
    grown = copy.deepcopy(tokenizer())
    grown.add_special_tokens({"eos_token": "<stop>"})
    assert difference(grown, tokenizer()) == OtherEnd(grown.eos_token_id)


def test_tokens_added_behind_the_vocabulary_do_not_matter() -> None:
    grown = copy.deepcopy(tokenizer())
    grown.add_special_tokens({"additional_special_tokens": ["<tool>"]}, False)
    assert difference(tokenizer(), grown) is None and difference(grown, tokenizer()) is None
    check_same(tokenizer(), grown)


def test_the_error_names_both_and_what_to_use(tmp_path: Path) -> None:
    expert = teacher(tmp_path / "teacher", size=280)
    with pytest.raises(TokenizerMismatch) as error:
        open_source(expert, strategy(), tokenizer(), documents(), context(tmp_path))
    text = str(error.value)
    assert f"  student  {fingerprint(tokenizer())}" in text
    assert f"  teacher  {fingerprint(expert.tokenizer())}" in text
    assert str(tmp_path / "teacher") in text
    assert str(difference(tokenizer(), expert.tokenizer())) in text
    assert "strategy.only_shared=true" in text and "strategy=alignment" in text
    assert "_loaded" not in vars(expert), "known before a weight is loaded"
