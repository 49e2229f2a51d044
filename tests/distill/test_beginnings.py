"""What rows begin with alike, computed once: the loss and gradients of a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from stratos.config import StudentConfig, TrainerConfig
from stratos.distill.data import Batch, Encoded, PackedLoader
from stratos.distill.module import Learner, StudentModule
from stratos.distill.objectives import Hidden
from stratos.distill.packed import Row, packs
from stratos.distill.signal.local import Reader, TeacherRow, split
from stratos.distill.tokenizer import add_adapters
from stratos.distill.train import Ready, _beginnings
from stratos.distill.words import BeginningsApart, BeginningsShared
from stratos.models.decode.kv_cache import alike

N_IDS = 50
SHAPE: dict[str, Any] = {
    "vocab_size": N_IDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
WINDOW = {"head_dim": 8, "sliding_window": 30}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
    "mistral, a window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=30)),
    "gemma2, windows and bounded scores": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, **WINDOW, attn_logit_softcapping=1.0)
    ),
    "gemma3, windows": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, **WINDOW)),
}
BEGINNINGS = (73, 40)
"""Tokens of two of them; a third kind of document begins like no other."""


def make_model(family: str) -> Any:
    torch.manual_seed(0)
    return FAMILIES[family]()


def make_data() -> Encoded:
    """Twelve documents of two beginnings, shuffled among two that begin otherwise."""
    draw = np.random.default_rng(3)
    firsts = [draw.integers(0, N_IDS, n) for n in BEGINNINGS for _ in range(6)]
    for n in range(12):
        firsts[n] = firsts[n - n % 6]
    firsts += [draw.integers(0, N_IDS, n) for n in (9, 30)]
    questions = [draw.integers(0, N_IDS, n) for n in draw.integers(1, 30, len(firsts))]
    answers = [draw.integers(0, N_IDS, n) for n in draw.integers(1, 9, len(firsts))]
    texts = [np.concatenate(parts) for parts in zip(firsts, questions, answers, strict=True)]
    order = draw.permutation(len(texts))
    return Encoded(
        np.concatenate([texts[n] for n in order]).astype(np.int32),
        np.cumsum([0, *(len(texts[n]) for n in order)]),
        np.array([len(texts[n]) - len(answers[n]) for n in order]),
        shares=True,
    )


DATA = make_data()
ALL = np.arange(len(DATA))


def row_of(data: Encoded = DATA) -> Batch:
    batch = PackedLoader(data, 10_000, 1, 0).batch(ALL)
    n_saved = 5 * sum(BEGINNINGS) if data.shares else 0
    assert int(data.lengths.sum()) - n_saved - 20 <= batch.tokens_1N.numel() <= batch.n_trained
    return batch


def gradients_of(model: Any) -> dict[str, Tensor]:
    named = model.named_parameters()
    return {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


def plain_loop(model: Any) -> tuple[float, dict[str, Tensor]]:
    total, count = torch.tensor(0.0), 0
    for document in ALL:
        prompt = DATA.prompt_lengths[document]
        tokens = torch.from_numpy(DATA.text(document).astype(np.int64))
        logits = model(tokens[None]).logits[0]
        total = total + F.cross_entropy(logits[prompt - 1 : -1], tokens[prompt:], reduction="sum")
        count += len(tokens) - prompt
    loss = total / count
    loss.backward()
    gradients = gradients_of(model)
    model.zero_grad()
    return loss.item(), gradients


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_a_plain_loop(family, adapter):
    config = TrainerConfig(adapter=adapter, lora_rank=4)
    model = make_model(family)
    assert packs(model, shares=True)
    model = add_adapters(model, config, 0)
    if adapter == "lora":  # an adapter begins at 0, where half of its gradients are
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    model.train()
    expected, gradients = plain_loop(model)
    module = StudentModule(model, config, 1)
    module.learner.pack(True)
    loss = module.loss(row_of())
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert gradients_of(model).keys() == gradients.keys()
    for name, gradient in gradients_of(model).items():
        off = (gradient - gradients[name]).norm() / gradients[name].norm()
        assert off < 1e-5, name


@pytest.mark.parametrize("family", ["qwen3", "gemma3, windows"])
def test_what_gradients_of_adapters_are_off_by_is_rounding(family):
    """In float32 those of a plain loop are off by up to 3e-5 themselves, of some classes."""
    config = TrainerConfig(adapter="lora", lora_rank=4)
    model = add_adapters(make_model(family), config, 0).double().train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    expected, gradients = plain_loop(model)
    module = StudentModule(model, config, 1)
    module.learner.pack(True)
    loss = module.loss(row_of())
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    for name, gradient in gradients_of(model).items():
        off = (gradient - gradients[name]).norm() / gradients[name].norm()
        assert off < 1e-6, f"{name}: the head's loss alone is computed in float32"


def test_a_class_that_reads_along_the_row_shares_nothing():
    model = MambaForCausalLM(
        MambaConfig(vocab_size=N_IDS, hidden_size=32, num_hidden_layers=2, state_size=4)
    )
    assert not packs(model, shares=True)


def test_a_row_has_each_beginning_once_and_no_place_that_is_learned():
    batch, whole = row_of(), row_of(replace(DATA, shares=False))
    assert batch.n_trained == whole.n_trained == whole.tokens_1N.numel()
    assert batch.n_tokens == whole.n_tokens
    assert torch.equal(batch.targets_M, whole.targets_M), "in the order of the documents"
    assert torch.equal(batch.positions_1N[0, batch.rows_M], whole.positions_1N[0, whole.rows_M])
    firsts = [known for known in batch.documents.beginnings if known]
    assert {n for [(_, n)] in firsts} >= set(BEGINNINGS)
    shared = sum(len(batch.documents.gathers_BT[known]) for known in {of for [(of, _)] in firsts})
    assert shared == 2


def test_a_prompt_keeps_its_last_token_for_itself():
    """What is predicted behind equal prompts differs."""
    text = np.arange(40)
    row = Row.of([np.append(text, [answer]) for answer in (1, 2, 3, 4)], [40] * 4, shares=True)
    assert len(row.tokens_N) == 39 + 4 * 2 and len(set(row.rows_M.tolist())) == 4
    assert row.tokens_N[row.rows_M + 1].tolist() == [1, 2, 3, 4]


def test_hidden_states_of_every_layer_are_matched_at_the_places_of_each_document():
    model = make_model("qwen3")
    learner = Learner(model)
    learner.pack(True)
    states = []
    for data in (DATA, replace(DATA, shares=False)):
        batch = row_of(data)
        out = model.base_model(
            input_ids=batch.tokens_1N,
            position_ids=batch.positions_1N,
            documents=batch.documents,
            output_hidden_states=True,
            use_cache=False,
        )
        states.append([layer[0, batch.rows_M] for layer in out.hidden_states])
    for ours, theirs in zip(*states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_of_beginnings_within_beginnings_those_are_shared_that_save_most():
    system, tool = [*range(100)], [*range(200, 240)]
    texts = [[*system, n, n] for n in range(300, 310)]
    assert alike(texts) == [([*range(10)], 100)]
    # Two that are nearly equal are no reason to compute the beginning of all again.
    assert alike([*texts, [*texts[0][:101], 5]]) == [([10, *range(10)], 100)]
    # Of many with a tool each, the tool is worth a beginning of its own.
    several = [[*system, *[t + k for t in tool], n] for k in (0, 50) for n in range(300, 310)]
    assert sorted(n for _, n in alike(several)) == [140, 140]
    nested = [[*range(n)] for n in range(20, 1200)]
    assert sum(len(group) for group, _ in alike(nested)) > 500, "without a limit of recursion"


@pytest.mark.parametrize("shares", [True, False])
def test_the_log_says_what_comes_of_it_that_rows_begin_alike(shares):
    data = replace(DATA, shares=shares)
    loader = PackedLoader(data, 10_000, 1, 0)
    ready = Ready(StudentConfig("s"), make_model("llama"), None, data, [])
    note = _beginnings(loader, ready, is_compiled=not shares)
    if not shares:
        assert note == BeginningsApart("LlamaForCausalLM", is_compiled=True)
        return
    n_tokens = int(data.lengths.sum())
    assert note == BeginningsShared(n_tokens, n_tokens - 5 * sum(BEGINNINGS))


def test_rows_that_begin_otherwise_are_no_matter_of_the_log():
    text = np.arange(20)
    data = Encoded(text, np.array([0, 9, 20]), np.array([4, 4]), shares=True)
    ready = Ready(StudentConfig("s"), make_model("llama"), None, data, [])
    assert _beginnings(PackedLoader(data, 99, 1, 0), ready, is_compiled=False) is None


def test_parts_of_a_row_that_processes_share_add_up_to_it():
    """Each computes the beginnings of its own documents."""
    module = StudentModule(make_model("llama"), TrainerConfig(), 1)
    module.learner.pack(True)
    loader = PackedLoader(DATA, 10_000, 1, 0)
    passes = []
    for shares in ([None], [(0.0, 0.5), (0.5, 1.0)]):
        module.zero_grad()
        total = 0.0
        for share in shares:
            loader.divide(share)
            loss = module.loss(loader.row(0))
            loss.backward()
            total += loss.item()
        passes.append((total, gradients_of(module.model)))
    (whole, gradients), (parts, of_parts) = passes
    assert parts == pytest.approx(whole, rel=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(of_parts[name], gradient, atol=1e-6, rtol=1e-4)


def test_a_teacher_reads_the_examples_that_it_is_shown_once():
    """Its states at each learned place are those of whole texts."""
    reader = Reader(make_model("qwen2").eval(), N_IDS, 300)
    assert reader.shares
    texts = split(row_of())
    row = TeacherRow.of(texts.prompts, texts.completions)
    assert len(row.row(True).tokens_N) < 0.6 * len(row.row(False).tokens_N)
    states = []
    for shares in (True, False):
        reader.shares = shares
        given = reader(row, torch.device("cpu"))
        assert isinstance(given, Hidden)
        states.append(given.hidden_NH[given.rows_M])
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-4)
