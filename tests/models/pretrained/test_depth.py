"""Layers that go: the model that is left computes what its blocks do, and loses no answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stratos.config import StudentConfig
from stratos.core.errors import StratosError
from stratos.distill.tokenizer import make_student
from stratos.models.pretrained import load_model
from stratos.models.pretrained.depth import (
    check_layers,
    exceeds_chance,
    is_worse,
    keep_layers,
    right_answers,
    task_depth,
)

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": {},
    "mistral": {},
    "qwen3": {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 2},
    "gemma3_text": {
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 2},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
}
SILENT = {
    "gpt2": ("attn.c_proj.weight", "mlp.c_proj.weight"),
    "opt": ("self_attn.out_proj.weight", "fc2.weight"),
}
"""Weights without which a layer adds nothing to what it reads."""
BY_PLACE = {
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "gemma3n_text": {
        "vocab_size_per_layer_input": 40,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "activation_sparsity_pattern": [0.0] * 6,
    },
    "deepseek_v3": {
        "head_dim": 8,
        "num_key_value_heads": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
    },
    "qwen2_moe": {"mlp_only_layers": [1], "num_experts": 4, "moe_intermediate_size": 16},
}
"""Families whose layers depend on their places, or of which some of each kind have to stay."""
LABELS = ("card lost", "card late", "loan", "fee")
WORDS = ("my", "card", "loan", "is", "late", "lost", "fee", "the", "rate", "bank")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_is_saved_and_computes_what_its_blocks_do(family: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SHAPE, **FAMILIES[family]})
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(3, 13)[None]
    silent = blocks_of(model)[1]
    for name in SILENT.get(family, ("self_attn.o_proj.weight", "mlp.down_proj.weight")):
        torch.nn.init.zeros_(silent.get_parameter(name))
    with torch.no_grad():
        expected = model(ids).logits
        check_layers(family, model, 1.0)
        assert torch.equal(model(ids).logits, expected), "a check leaves it as it was"
        keep_layers(model, [0, 2, 3])
        torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-6)
        written = model.generate(ids, max_new_tokens=6, do_sample=False)
        model.save_pretrained(tmp_path)
        read = load_model(tmp_path, dtype="float32").eval()
        assert read.config.num_hidden_layers == len(blocks_of(read)) == 3
        torch.testing.assert_close(read(ids).logits, expected, rtol=0, atol=1e-6)
        assert torch.equal(read.generate(ids, max_new_tokens=6, do_sample=False), written)


def blocks_of(model: Any) -> Any:
    decoder = model.get_decoder()
    return getattr(decoder, "layers", None) or decoder.h


@pytest.mark.parametrize("family", BY_PLACE)
def test_a_model_whose_layers_depend_on_their_places_is_refused(family: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**SHAPE, **BY_PLACE[family]})
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(StratosError, match="The student mine cannot lose layers"):
        check_layers("mine", model, 1.0)
    assert model.config.num_hidden_layers == len(model.get_decoder().layers)


def test_a_share_of_less_than_one_layer_is_refused(student: tuple[Any, Any, list[Any]]) -> None:
    with pytest.raises(StratosError, match=r"at least student\.fit\.depth=0\.2,"):
        check_layers("mine", student[0], 0.1)
    check_layers("mine", student[0], 0.2)


@pytest.fixture
def student() -> tuple[Any, Any, list[Any]]:
    """Return a model of which two layers of five add nothing, its tokenizer, and chats."""
    import torch

    shape = StudentConfig("s", hidden_size=32, n_layers=5, n_heads=2, vocab_size=300)
    model, tokenizer = make_student(shape, None, [" ".join(WORDS), *LABELS], 0)
    for number, block in enumerate(model.get_decoder().layers):
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            weight = block.get_parameter(name)
            torch.nn.init.normal_(weight, std=0.0 if number in (1, 3) else 0.3)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 5)) for _ in range(60)]
    return model, tokenizer, [[{"role": "user", "content": text}] for text in texts]


def answers_of(model: Any, tokenizer: Any, chats: list[Any]) -> list[str]:
    from stratos.models.decode.label_scores import score_labels

    scores = score_labels(model, tokenizer, chats, LABELS, batch_size=8).logprobs_NL
    return [LABELS[k] for k in scores.argmax(axis=1)]


def test_layers_go_that_answers_do_not_need(student: tuple[Any, Any, list[Any]]) -> None:
    model, tokenizer, chats = student
    gold = answers_of(model, tokenizer, chats)
    n_by_chance = Counter(gold).most_common(1)[0][1]
    trials: list[tuple[int, int]] = []

    def answer(rows: Sequence[int]) -> np.ndarray:
        answers = [gold[row] for row in rows]
        return right_answers(model, tokenizer, [chats[row] for row in rows], answers, LABELS)

    depth = task_depth(
        model,
        answer,
        len(gold),
        n_by_chance,
        share=1.0,
        max_loss=0.0,
        tick=lambda *done: trials.append(done),
    )
    assert depth.layers == (0, 2, 4)
    assert (depth.n_before, depth.rights[:3], depth.n_rows) == (5, (60, 60, 60), 60)
    assert depth.is_known and depth.removed == (3, 1)
    counts, about = zip(*trials, strict=True)
    assert set(about) == {1 + 5 + 2 * 4} and counts[:6] == (0, 1, 2, 3, 4, 5)
    assert list(counts) == sorted(counts) and counts[-1] <= about[-1]
    assert answers_of(model, tokenizer, chats) == gold
    keep_layers(model, depth.layers)
    assert answers_of(model, tokenizer, chats) == gold


def test_no_more_layers_go_than_may(student: tuple[Any, Any, list[Any]]) -> None:
    model, tokenizer, chats = student
    gold = answers_of(model, tokenizer, chats)
    depth = task_depth(
        model,
        lambda rows: right_answers(
            model, tokenizer, [chats[row] for row in rows], [gold[row] for row in rows], LABELS
        ),
        len(gold),
        0,
        share=0.2,
        max_loss=0.0,
    )
    assert depth.layers == (0, 1, 2, 4), "of equals the upper one"


def test_all_layers_stay_where_nothing_tells_what_they_are_for(
    student: tuple[Any, Any, list[Any]],
) -> None:
    """A model of random weights answers no sum, so that no trial would show a loss."""
    model, tokenizer, _ = student
    sums = [[{"role": "user", "content": f"{k} + {k + 7}"}] for k in range(20)]
    gold = [str(2 * k + 7) for k in range(20)]
    depth = task_depth(
        model,
        lambda rows: right_answers(
            model, tokenizer, [sums[row] for row in rows], [gold[row] for row in rows], ()
        ),
        len(gold),
        1,
        share=1.0,
        max_loss=0.0,
    )
    assert depth.layers == (0, 1, 2, 3, 4) and not depth.is_known


@pytest.mark.parametrize("seed", range(8))
def test_trials_that_end_early_choose_what_whole_ones_would(
    student: tuple[Any, Any, list[Any]], seed: int
) -> None:
    """Answers are wrong by the layers that are missing, each of which costs rows of its own."""
    model = student[0]
    draw, n_rows = np.random.default_rng(seed), 90
    needs = draw.random((5, n_rows)) < draw.uniform(0.0, 0.2, (5, 1))
    blocks = list(model.get_decoder().layers)
    asked: list[int] = []
    tried: set[frozenset[int]] = set()

    def answer(rows: Sequence[int]) -> np.ndarray:
        asked.extend(rows)
        there = {blocks.index(block) for block in model.get_decoder().layers}
        missing = [index for index in range(5) if index not in there]
        tried.add(frozenset(missing))
        return ~needs[missing].any(axis=0)[list(rows)]

    left, goes = [0, 1, 2, 3, 4], []
    for _ in range(3):
        costs = {
            index: int(needs[[i for i in range(5) if i == index or i not in left]].any(0).sum())
            for index in left
        }
        goes.append(min(left, key=lambda index: (costs[index], -index)))
        left.remove(goes[-1])
    depth = task_depth(model, answer, n_rows, 0, share=0.6, max_loss=1.0)
    assert depth.removed == tuple(goes[: len(depth.removed)])
    assert len(asked) < 13 * n_rows
    assert len(asked) < len(tried) * n_rows, "some trial ended before its last row"


@pytest.mark.parametrize(
    ("lost", "n_gone", "n_safe"),
    [
        # Of 100 rows 5 lost and none won: p = 0.06; 6: p = 0.03.
        ((1, 2, 4, 9), 2, 1),
        ((0, 1, 0, 4), 4, 3),
        ((3, 1, 1, 1), 3, 1),
        ((2, 3, 9, 9), 2, 0),
        ((9, 9, 9, 9), 0, 0),
    ],
)
def test_layers_go_until_what_is_left_is_surely_worse(
    student: tuple[Any, Any, list[Any]], lost: Sequence[int], n_gone: int, n_safe: int
) -> None:
    """So many rows are wrong without the layers 4, 3, 2 and 1, and all without the first."""
    model = student[0]
    blocks = list(model.get_decoder().layers)
    starts = np.cumsum([0, *lost])

    def answer(rows: Sequence[int]) -> np.ndarray:
        there = {blocks.index(block) for block in model.get_decoder().layers}
        right = np.ones(100, bool)
        for number, index in enumerate((4, 3, 2, 1)):
            right[starts[number] : starts[number + 1]] &= index in there
        return (right if 0 in there else np.zeros(100, bool))[list(rows)]

    depth = task_depth(model, answer, 100, 0, share=1.0, max_loss=0.01)
    assert (len(depth.removed), depth.n_safe) == (n_gone, n_safe)
    assert [len(attempt.removed) for attempt in depth.attempts] == [
        n for n in dict.fromkeys((n_gone, n_safe)) if n
    ]
    assert len(model.get_decoder().layers) == 5, "the model stays whole"


def test_a_text_is_right_if_the_model_would_write_it(student: Any) -> None:
    import torch

    model, tokenizer, chats = student
    asked = tokenizer.apply_chat_template(chats[0], add_generation_prompt=True, return_dict=True)
    ids = torch.tensor([asked["input_ids"]])
    with torch.no_grad():
        best = int(model.eval()(ids).logits[0, -1].argmax())
    own = tokenizer.decode([best])
    if tokenizer(own, add_special_tokens=False)["input_ids"] != [best]:
        pytest.skip("the token is no text")
    other = next(word for word in WORDS if not word.startswith(own))
    right = right_answers(model, tokenizer, [chats[0]] * 2, [own, other], ())
    assert right.tolist() == [True, False]


def test_a_loss_is_one_where_it_is_too_large_or_sure() -> None:
    before = np.ones(100, bool)
    three = before.copy()
    three[:3] = False
    six = before.copy()
    six[:6] = False
    assert not is_worse(before, three, 0.03) and is_worse(before, three, 0.02)
    assert is_worse(before, six, 0.5), "six rows lost and none won: p = 0.03"
    assert not is_worse(three, before, 0.0)


def test_what_is_right_by_chance_is_no_skill() -> None:
    assert exceeds_chance(40, 100, 20) and not exceeds_chance(22, 100, 20)
    assert not exceeds_chance(0, 0, 0)
