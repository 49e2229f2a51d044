"""Fused blocks beside transformers' own: losses, gradients, steps, and what is left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from stratos.config import TrainerConfig
from stratos.contrib.cpu import fused_layer
from stratos.contrib.cpu.fused_layer import fits, fuse
from stratos.distill.data import Encoded, PackedLoader
from stratos.distill.module import StudentModule

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)),
    "grouped": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
    "biased": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2)),
}
LENGTHS = [3, 90, 4, 31, 30, 3, 10, 200]


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 tells a mistake from rounding."""
    monkeypatch.setattr(fused_layer, "IN_FLOAT32", True)


def _model(name: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]()
    for parameter in model.parameters():  # norms of one and biases of zero would hide a mistake
        if parameter.ndim == 1:
            nn.init.normal_(parameter, parameter.mean().item(), 0.2)
    return model


def _rows(n_steps: int = 1, n_shared: int = 0) -> list[Any]:
    """Return rows of documents, in front of each of which are as many tokens, the same.

    Where some are, three documents more are turns of a conversation.
    """
    rng = np.random.default_rng(0)
    beginning = np.arange(n_shared) % 50
    texts = [np.append(beginning, rng.integers(0, 50, n)) for n in LENGTHS]
    prompts = [n_shared + max(1, n // 3) for n in LENGTHS]
    said = np.append(beginning, rng.integers(0, 50, 150))
    for n in (50, 99, 150) if n_shared else ():
        texts.append(np.append(said[: n_shared + n], rng.integers(0, 50, 9)))
        prompts.append(n_shared + n + 4)
    data = Encoded(
        tokens=np.concatenate(texts).astype(np.int32),
        starts=np.cumsum([0, *map(len, texts)]),
        prompt_lengths=np.array(prompts),
        shares=n_shared > 0,
        conversations=np.minimum(np.arange(len(texts)), len(LENGTHS)),
    )
    loader = PackedLoader(data, 1000, 1, 0)
    return [loader.batch(rng.permutation(len(texts))) for _ in range(n_steps)]


def _module(model: Any, fused: bool) -> StudentModule:
    module = StudentModule(copy.deepcopy(model), TrainerConfig(), 20)
    module.learner.pack(True)
    fuse(module.model, fused)
    assert ("forward" in module.model.model.layers[0].__dict__) == fused
    return module


def _passed(
    model: Any, fused: bool, half: bool, n_shared: int = 0
) -> tuple[float, dict[str, Tensor]]:
    module = _module(model, fused)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = module.loss(_rows(1, n_shared)[0])
    loss.backward()
    named = module.model.named_parameters()
    return loss.item(), {name: one.grad for name, one in named if one.grad is not None}


@pytest.mark.parametrize("n_shared", [0, 70])
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_every_gradient_are_those_of_transformers(name, n_shared):
    model = _model(name)
    assert fits(model)
    loss, gradients = _passed(model, True, False, n_shared)
    true_loss, true = _passed(model, False, False, n_shared)
    assert loss == pytest.approx(true_loss, abs=1e-6)
    assert gradients.keys() == true.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, true[key], atol=1e-6, rtol=1e-4, msg=key)


@pytest.mark.parametrize("n_shared", [0, 70])
@pytest.mark.parametrize("name", MODELS)
def test_in_bfloat16_it_is_as_close_to_single_precision(name, n_shared):
    model = _model(name)
    _, true = _passed(model, False, False, n_shared)

    def off(fused: bool) -> float:
        _, gradients = _passed(model, fused, True, n_shared)
        assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
        return max(float((gradients[k] - true[k]).norm() / true[k].norm()) for k in true)

    assert off(fused=True) < 1.25 * off(fused=False) < 0.05


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("autocast", [True, False])
def test_weights_in_bfloat16_are_read_as_close_to_single_precision(name, autocast):
    """As those of a teacher, whose bfloat16 is not that of an autocast."""
    model = _model(name)
    narrow = copy.deepcopy(model).bfloat16()
    assert fits(narrow)
    (row,) = _rows()

    @torch.no_grad()
    def states(model: Any, fused: bool) -> Tensor:
        module = _module(model, fused)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and model is narrow):
            body = module.model.base_model
            return body(
                input_ids=row.tokens_1N,
                position_ids=row.positions_1N,
                documents=row.documents,
                use_cache=False,
            ).last_hidden_state

    true = states(model, fused=False)
    assert states(narrow, fused=True).dtype == torch.bfloat16

    def off(fused: bool) -> float:
        return float((states(narrow, fused).float() - true).norm() / true.norm())

    assert off(fused=True) < 1.1 * off(fused=False) < 0.05


def test_weights_in_bfloat16_that_are_trained_run_as_their_class_says():
    model = _model("grouped").bfloat16()
    (row,) = _rows()
    losses = []
    for fused in (True, False):
        module = _module(model, fused)
        loss = module.loss(row)
        loss.backward()
        losses.append(loss.item())
        assert all(one.grad is not None for one in module.parameters())
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("half", "apart"), [(False, 1e-5), (True, 0.01)])
def test_twenty_steps_have_the_same_losses(half, apart):
    """As far as rounding goes, which Muon's iteration in bfloat16 enlarges: AdamW's has none."""
    model = _model("grouped")
    losses: list[list[float]] = []
    for fused in (True, False):
        module = _module(model, fused)
        optimizer: torch.optim.Optimizer = module.optimizer(scale=1.0)
        if not half:
            optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
        losses.append([])
        for row in _rows(20):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = module.loss(row)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert losses[0][-1] < losses[0][0] - 0.5
    assert losses[0] == pytest.approx(losses[1], abs=apart)


def test_of_the_inner_width_gate_and_up_alone_are_kept():
    widths: list[int] = []

    def seen(tensor: Tensor) -> Tensor:
        widths.append(tensor.shape[-1])
        return tensor

    module, (rows,) = _module(_model("llama"), True), _rows()
    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        module.loss(rows)
    inner, n_layers = SIZES["intermediate_size"], SIZES["num_hidden_layers"]
    assert widths.count(2 * inner) == n_layers, "gate and up of each block"
    assert widths.count(inner) == n_layers, "and its projection down, a weight"


def test_blocks_that_are_computed_twice_are_the_same():
    model = _model("grouped")
    loss, gradients = _passed(model, fused=True, half=True)
    model.gradient_checkpointing_enable()
    again_loss, again = _passed(model, fused=True, half=True)
    assert again_loss == loss
    assert all(torch.equal(again[key], gradient) for key, gradient in gradients.items())


def test_layers_that_are_recorded_are_those_of_transformers():
    model = _model("grouped")
    (row,) = _rows()
    inputs = {
        "input_ids": row.tokens_1N,
        "position_ids": row.positions_1N,
        "documents": row.documents,
        "output_hidden_states": True,
        "use_cache": False,
    }
    ours, theirs = (
        _module(model, fused).model.base_model(**inputs).hidden_states for fused in (True, False)
    )
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_is_no_plain_block_runs_as_its_class_says():
    def changed(change: Callable[[Any], Any]) -> Any:
        model = _model("llama")
        change(model)
        return model

    class Adapted(nn.Linear):
        """Stands for what peft puts in a projection's place."""

    def adapt(model: Any) -> None:
        model.model.layers[1].mlp.up_proj = Adapted(32, 64, bias=False)

    others = {
        "adapters": changed(adapt),
        "weights in float16": changed(lambda model: model.half()),
        "weights of two types": changed(lambda model: model.model.layers[1].mlp.bfloat16()),
        "biased MLP": LlamaForCausalLM(LlamaConfig(**SIZES, mlp_bias=True)),
        "another activation": LlamaForCausalLM(LlamaConfig(**SIZES, hidden_act="gelu")),
        "dropout": LlamaForCausalLM(LlamaConfig(**SIZES, attention_dropout=0.1)),
        "a window": Qwen2ForCausalLM(
            Qwen2Config(
                **SIZES,
                num_key_value_heads=2,
                use_sliding_window=True,
                sliding_window=8,
                max_window_layers=0,
            )
        ),
    }
    assert {name: fits(model) for name, model in others.items()} == dict.fromkeys(others, False)
    fuse(others["dropout"], on=True)
    assert "forward" not in others["dropout"].model.layers[0].__dict__


def test_it_generates_as_it_came_when_the_training_is_over():
    module = _module(_model("llama"), True)
    module.learner.pack(False)
    assert "forward" not in module.model.model.layers[0].__dict__
    text = module.model.generate(torch.tensor([[1, 2]]), max_new_tokens=3, do_sample=False)
    assert 2 < text.shape[1] <= 5


def test_compiled_bodies_are_left_to_the_compiler():
    module = StudentModule(_model("llama"), TrainerConfig(compile=True), 1)
    module.learner.pack(True)
    assert "forward" not in module.model.model.layers[0].__dict__


def test_in_float32_blocks_run_as_they_came(monkeypatch):
    monkeypatch.setattr(fused_layer, "IN_FLOAT32", False)
    monkeypatch.delattr(fused_layer, "_Fused")  # its bits may be the same
    [row] = _rows()
    losses = [_module(_model("grouped"), fused).loss(row) for fused in (False, True)]
    assert torch.equal(*losses)


def test_a_hook_inside_a_block_is_called():
    model, seen = _model("llama"), []
    model.model.layers[1].mlp.register_forward_hook(lambda *told: seen.append(told))
    assert not fits(model)
    [row] = _rows()
    module = StudentModule(model, TrainerConfig(), 20)
    module.learner.pack(True)
    module.loss(row)
    assert seen
