"""Packed rows: the loss and the gradients of the same documents one by one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    BloomConfig,
    BloomForCausalLM,
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
    Qwen3Config,
    Qwen3ForCausalLM,
)

from stratos.config import TrainerConfig
from stratos.core.errors import StratosError
from stratos.distill.data import Encoded, PackedLoader
from stratos.distill.module import StudentModule, learning_rate_factor
from stratos.distill.packed import NAME, Documents, check_packs, whole_row


def make_model(n_kv_heads: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=n_kv_heads,
            tie_word_embeddings=True,
        )
    )


def make_data(lengths: list[int], prompts: list[int]) -> Encoded:
    import numpy as np

    rng = np.random.default_rng(0)
    return Encoded(
        tokens=rng.integers(0, 50, sum(lengths)).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        prompt_lengths=np.array(prompts),
    )


@pytest.mark.parametrize("n_kv_heads", [4, 2])
@pytest.mark.parametrize(
    ("lengths", "prompts"),
    [
        ([7, 12, 5, 9], [3, 4, 2, 8]),
        ([8, 8, 9, 8], [3, 4, 2, 8]),  # one padded batch
        ([3, 90, 4, 31, 30, 3, 10, 11], [1, 30, 2, 3, 3, 2, 4, 5]),  # a heavy tail
    ],
)
def test_packed_loss_and_gradients_equal_those_of_single_documents(n_kv_heads, lengths, prompts):
    import numpy as np

    data = make_data(lengths, prompts)
    model = make_model(n_kv_heads)
    total, count = torch.tensor(0.0), 0
    for i, (n, prompt) in enumerate(zip(lengths, prompts, strict=True)):
        tokens = torch.from_numpy(data.tokens[data.starts[i] : data.starts[i] + n].astype("int64"))
        logits = model(tokens[None]).logits[0]
        learned = slice(prompt - 1, n - 1)
        total = total + F.cross_entropy(logits[learned], tokens[prompt:], reduction="sum")
        count += n - prompt
    expected = total / count
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    module = StudentModule(model, TrainerConfig(), 1)
    module.learner.pack(True)
    batch = PackedLoader(data, 1000, 1, 0).batch(np.arange(len(lengths)))
    loss = module.loss(batch)
    loss.backward()

    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4)


def test_each_document_of_a_row_counts_its_positions_from_zero():
    """Rotary positions are relative, so that a loss does not show what other models would."""
    import numpy as np

    batch = PackedLoader(make_data([3, 5, 2], [1, 4, 1]), 1000, 1, 0).batch(np.arange(3))
    assert batch.positions_1N.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 0, 1]]
    assert batch.rows_M.tolist() == [0, 1, 6, 8]  # each predicts the token behind it
    assert batch.targets_M.tolist() == batch.tokens_1N[0, batch.rows_M + 1].tolist()


SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
OF_OTHER_FAMILIES: dict[str, Callable[[], Any]] = {
    "a window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)),
    "windows and bounded scores": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, head_dim=8, sliding_window=8, attn_logit_softcapping=1.0)
    ),
    "windows in some layers": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=8)
    ),
    "none": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
}


@pytest.mark.parametrize("family", OF_OTHER_FAMILIES)
def test_windows_and_bounded_scores_are_those_of_single_documents(family):
    import numpy as np

    torch.manual_seed(0)
    model, lengths = OF_OTHER_FAMILIES[family]().eval(), [21, 3, 40, 22]
    check_packs("s", model)
    data = make_data(lengths, [1] * 4)
    total = torch.tensor(0.0)
    for i, n in enumerate(lengths):
        tokens = torch.from_numpy(data.text(i).astype("int64"))
        logits = model(tokens[None]).logits[0]
        total = total + F.cross_entropy(logits[: n - 1], tokens[1:], reduction="sum")
    expected = total / sum(n - 1 for n in lengths)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    module = StudentModule(model, TrainerConfig(), 1)
    module.learner.pack(True)
    loss = module.loss(PackedLoader(data, 1000, 1, 0).batch(np.arange(4)))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            model.get_parameter(name).grad, gradient, atol=1e-5, rtol=1e-4, msg=name
        )


@pytest.mark.parametrize(
    "model",
    [
        lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4)),
        lambda: MambaForCausalLM(
            MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=4)
        ),
    ],
)
def test_a_class_that_reads_along_the_row_is_refused_and_left_as_it_was(model):
    student = model().train()
    before = student.config._attn_implementation
    with pytest.raises(StratosError, match="does not keep the documents of a packed row apart"):
        check_packs("s", student)
    assert student.training and student.config._attn_implementation == before


def test_documents_of_like_length_share_a_padded_batch():
    def places(lengths: list[int]) -> list[tuple[int, ...]]:
        documents = Documents.of(lengths)
        n = sum(gather_BT.numel() for gather_BT in documents.gathers_BT)
        assert documents.scatter_N.sort().values.unique().numel() == sum(lengths) <= n
        return [tuple(gather_BT.shape) for gather_BT in documents.gathers_BT]

    assert places([20] * 154 + [1000]) == [(1, 1008), (154, 20)], "not 155,000 places"
    assert places([100, 90, 88, 110]) == [(4, 112)], "kernels are compiled for each new size"
    geometric = [2**n for n in range(1, 11)]
    assert len(places(geometric)) == 4, "each batch costs calls"
    assert sum(b * t for b, t in places(geometric)) < 2 * sum(geometric)
    assert places([5]) == [(1, 8)]


@pytest.mark.parametrize("lengths", [[60, 3], [64], [70, 30, 30]])
def test_a_row_has_one_of_few_lengths_and_nothing_reads_what_is_behind_its_documents(lengths):
    import numpy as np

    data, model = make_data(lengths, [1] * len(lengths)), make_model(2)
    batch = PackedLoader(data, 1000, 1, 0).batch(np.arange(len(lengths)))
    tokens_1N, positions_1N, documents = whole_row(
        batch.tokens_1N, batch.positions_1N, batch.documents
    )
    n = sum(lengths)
    assert tokens_1N.shape == positions_1N.shape == (1, -(-n // 64) * 64)
    assert documents.n_behind == tokens_1N.shape[1] - n
    model.set_attn_implementation(NAME)
    states = []
    for token in (0, 7):
        tokens_1N[:, n:] = token
        out = model.model(input_ids=tokens_1N, position_ids=positions_1N, documents=documents)
        states.append(out.last_hidden_state[:, :n])
    assert torch.equal(*states)


def test_a_document_does_not_see_its_neighbours():
    import numpy as np

    model = make_model(4)
    module = StudentModule(model, TrainerConfig(), 1)
    module.learner.pack(True)
    data = make_data([8, 8], [2, 8])
    before = module.loss(PackedLoader(data, 1000, 1, 0).batch(np.arange(2))).item()
    data.tokens[8:] = (data.tokens[8:] + 1) % 50
    assert module.loss(PackedLoader(data, 1000, 1, 0).batch(np.arange(2))).item() == before


def test_loss_is_safe_where_nothing_is_learned():
    import numpy as np

    module = StudentModule(make_model(4), TrainerConfig(), 1)
    module.learner.pack(True)
    loss = module.loss(PackedLoader(make_data([6], [6]), 1000, 1, 0).batch(np.arange(1)))
    loss.backward()
    assert loss.item() == 0


def test_learning_rate_warms_up_and_ends_at_zero():
    factors = [learning_rate_factor(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.0)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_loader_goes_on_where_its_state_says_and_covers_every_document():
    import numpy as np

    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 30, 300).tolist()
    data = make_data(lengths, [2] * 300)
    whole = [batch.tokens_1N for batch in PackedLoader(data, 200, sum(lengths), 4)]
    assert sum(tokens.numel() for tokens in whole) >= sum(lengths)

    first = PackedLoader(data, 200, sum(lengths), 4)
    iterator = iter(first)
    seen = [next(iterator).tokens_1N for _ in range(5)]
    second = PackedLoader(data, 200, sum(lengths), 4)
    second.load_state_dict(first.state_dict())
    seen += [batch.tokens_1N for batch in second]
    assert len(seen) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))
    sizes = [tokens.numel() for tokens in whole]
    assert np.median(sizes) > 150, "batches are filled"


@pytest.mark.parametrize("accumulate", [1, 3])
def test_parts_of_a_row_are_all_of_it(accumulate):
    import numpy as np

    lengths = np.random.default_rng(0).integers(3, 90, 200)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    data = Encoded(np.ones(int(starts[-1]), np.int32), starts, np.ones(200, int))
    loader = PackedLoader(data, 1000, int(starts[-1]), 0, accumulate=accumulate)
    whole = [loader.row(row) for row in range(len(loader))]
    of_parts: list[list[Any]] = []
    for share in pairwise([0.0, 0.3, 0.6, 1.0]):
        loader.divide(share)
        of_parts.append([loader.row(row) for row in range(len(loader))])
    for row, *parts in zip(whole, *of_parts, strict=True):
        documents = np.concatenate([part.document_ids_D for part in parts])
        assert documents.tolist() == row.document_ids_D.tolist()
        # A part without a document learns nothing, and is divided by nothing.
        assert {part.n_tokens for part in parts if len(part.document_ids_D)} == {row.n_tokens}
        assert {part.row for part in parts} == {row.row}
    loader.divide(None)
    assert loader.row(3).tokens_1N.shape == whole[3].tokens_1N.shape
