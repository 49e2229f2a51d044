import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from stub_task import StubTask

from stratos.config import FitConfig, StudentConfig
from stratos.core.errors import ConfigError
from stratos.estimate import constants as k
from stratos.estimate.cards import (
    N_SPECIAL_TOKENS,
    card_of_student,
    forward_flops_per_token,
    kv_bytes_per_token,
    llama_params,
    parts,
)
from stratos.records import ModelCard
from stratos.tasks.base import Item


@dataclass(frozen=True)
class Task(StubTask):
    symbols: Any = None

    def vocabulary(self):
        return self.symbols


class Symbols:
    vocabulary = ("1m", "2m", "3m")


@pytest.mark.parametrize(
    ("published", "shape", "tied"),
    [
        # Counts that the hub shows for the safetensors of each model.
        (134_515_008, (49152, 576, 30, 9, 3, 1536), True),  # SmolLM2-135M
        (1_235_814_400, (128256, 2048, 16, 32, 8, 8192), True),  # Llama-3.2-1B
        (8_030_261_248, (128256, 4096, 32, 32, 8, 14336), False),  # Llama-3.1-8B
        (1_100_048_384, (32000, 2048, 22, 32, 4, 5632), False),  # TinyLlama-1.1B
    ],
)
def test_parameter_counts_of_published_models(published, shape, tied):
    assert llama_params(*shape, tied=tied) == published


def test_the_vocabulary_is_the_tasks_own_or_the_students():
    student = StudentConfig(name="s", hidden_size=128, vocab_size=1000)
    own = card_of_student(student, Task(symbols=Symbols()))
    other = card_of_student(student, Task())
    assert own.vocab_size == 3 + N_SPECIAL_TOKENS
    assert other.vocab_size == 1000
    assert other.n_params - own.n_params == (1000 - 3 - N_SPECIAL_TOKENS) * 128


def test_a_students_folder_is_read(tmp_path):
    facts = {
        "vocab_size": 49152,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }
    (tmp_path / "config.json").write_text(json.dumps(facts))
    card = card_of_student(StudentConfig(name="s", path=str(tmp_path)), Task())
    assert (card.n_params, card.n_kv_heads, card.context_length) == (134_515_008, 3, 8192)


@dataclass(frozen=True)
class Rows(Task):
    def items(self, split, n, seed=0, slice=None):
        return [Item(str(k), "main", f"my card number {k}", "late") for k in range(3)]


@pytest.mark.parametrize("tied", [True, False])
def test_a_cut_student_is_planned_with_the_tokens_of_its_rows(tmp_path, tied):
    facts = {
        "vocab_size": 49152,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "tie_word_embeddings": tied,
    }
    (tmp_path / "config.json").write_text(json.dumps(facts))
    whole = StudentConfig(name="s", path=str(tmp_path))
    sizes = []
    for vocabulary in (True, 0.5, 1.0):
        card = card_of_student(replace(whole, fit=FitConfig(vocabulary)), Rows())
        shape = (card.vocab_size, 576, 30, 9, 3, 1536)
        assert card.n_params == llama_params(*shape, tied=tied)
        sizes.append(card.vocab_size)
    words = 4  # my, card, number, late
    unused = k.CUT_UNUSED_SHARE * 49152
    assert sizes[0] == round(k.CUT_FIXED_TOKENS + k.CUT_TOKENS_A_WORD * words + unused)
    assert sizes[1:] == [pytest.approx((sizes[0] + 49152) / 2, abs=1), 49152]


def test_a_folder_without_config_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"student s cannot be planned: .* no config\.json"):
        card_of_student(StudentConfig(name="s", path=str(tmp_path)), Task())
    (tmp_path / "config.json").write_text('{"vocab_size": 8}')
    with pytest.raises(ConfigError, match=r"student s .* is none of a causal model \(KeyError"):
        card_of_student(StudentConfig(name="s", path=str(tmp_path)), Task())


@pytest.mark.parametrize(
    ("shape", "tied", "gated"),
    [
        ((49152, 576, 30, 9, 3, 1536), True, 3),
        ((128256, 4096, 32, 32, 8, 14336), False, 3),
        ((50368, 2048, 24, 16, 16, 8192), True, 2),
        ((50368, 5120, 40, 40, 40, 20480), True, 2),
        ((128, 128, 4, 4, 4, 384), True, 3),
    ],
)
def test_parts_are_told_from_count_and_shape(shape, tied, gated):
    vocab, hidden, layers, heads, kv_heads, inner = shape
    total = llama_params(*shape, tied=tied) - (3 - gated) * layers * hidden * inner
    found = parts(ModelCard("m", total, layers, hidden, heads, kv_heads, inner, vocab, 1024))
    norms = (2 * layers + 1) * hidden
    assert found.mlp_matrices == gated
    assert found.head == vocab * hidden
    assert found.blocks == total - norms - vocab * hidden * (1 if tied else 2)
    assert found.lookup == norms + (0 if tied else vocab * hidden)
    assert found.products == found.blocks + found.head


def test_flops_and_cache_in_closed_form():
    card = ModelCard("m", llama_params(100, 128, 4, 4, 2, 384), 4, 128, 4, 2, 384, 100, 1024)
    weights = 100 * 128 + 4 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 384)
    assert forward_flops_per_token(card, 0) == 2 * weights
    assert forward_flops_per_token(card, 100) == 2 * weights + 4 * 4 * 128 * 100
    # 2 (keys, values) · 4 blocks · 2 heads · 32 wide · 2 bytes
    assert kv_bytes_per_token(card) == 2 * 4 * 2 * 32 * 2
    assert kv_bytes_per_token(replace(card, head_size=64)) == 2 * 4 * 2 * 64 * 2


def test_the_special_symbols_are_those_of_the_students_tokenizer():
    from stratos.distill.tokenizer import SPECIAL

    assert len(SPECIAL) == N_SPECIAL_TOKENS
