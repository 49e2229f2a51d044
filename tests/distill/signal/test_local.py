"""A teacher of this process: its states and head give what the model says of each text alone."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from signal_tools import PADDED, alone, batch_of, context, documents, model, strategy, teacher
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from stratos.core.errors import TeacherError
from stratos.distill.objectives import Dense, Hidden
from stratos.distill.signal.local import LocalSource, Reader
from stratos.distill.signal.source import open_source

IDS = [5, 0, 17, 3]


def logprobs(signal: Any) -> torch.Tensor:
    if isinstance(signal, Dense):
        return signal.logits_MV.float().log_softmax(-1)
    states = signal.hidden_NH.flatten(0, -2)[signal.rows_M]
    logits = torch.nn.functional.linear(states, signal.head.weight_VH, signal.head.bias_V)
    return logits.float().log_softmax(-1)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_packed_teacher_says_what_it_says_of_each_text_alone(tmp_path, kind):
    expert, data = teacher(tmp_path / "teacher", kind=kind), documents()
    network, words = expert.load()
    assert network.config.vocab_size == len(words) + PADDED
    expected = alone(network, data, IDS, len(words))
    source = open_source(expert, strategy(), words, data, context(tmp_path))
    assert isinstance(source, LocalSource) and source.reader.packs and source.kind == "hidden"
    batch = batch_of(data, IDS)
    signal = source.signal(batch)
    assert isinstance(signal, Hidden) and not signal.hidden_NH.requires_grad
    assert source.places(batch) is None
    torch.testing.assert_close(logprobs(signal), expected, atol=1e-5, rtol=1e-5)
    # Between two rows the model can be asked as before.
    assert torch.equal(alone(network, data, IDS, len(words)), expected)
    source.close()
    assert "_loaded" not in vars(expert), "the weights are freed"


@pytest.mark.parametrize("packs", [True, False])
def test_every_layer_is_given_where_layers_are_matched(tmp_path, packs, monkeypatch):
    if not packs:
        monkeypatch.setattr(Reader, "_try_packing", lambda _: False)
    expert, data = teacher(tmp_path / "teacher"), documents()
    network, words = expert.load()
    source = open_source(expert, strategy(hidden_match=0.1), words, data, context(tmp_path))
    signal = source.signal(batch_of(data, IDS))
    assert isinstance(signal, Hidden) and signal.layers_LNH is not None
    assert len(signal.layers_LNH) == 3 and signal.layers_LNH[-1] is signal.hidden_NH
    with torch.no_grad():
        parts = []
        for document in IDS:
            ids = torch.from_numpy(data.text(document).astype(np.int64))[None]
            states = network(ids, output_hidden_states=True).hidden_states
            first = data.prompt_lengths[document] - 1
            parts.append([layer[0, first:-1] for layer in states])
    for given, wanted in zip(signal.layers_LNH, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(given[signal.rows_M], torch.cat(wanted), atol=1e-5, rtol=1e-5)
    source.close()


def test_models_that_cannot_be_packed_are_padded():
    data, n_ids = documents(), 300
    learned_positions = GPT2LMHeadModel(
        GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
    ).eval()
    sliding = MistralForCausalLM(
        MistralConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=8,
        )
    ).eval()
    for network, packs in ((learned_positions, None), (sliding, False)):
        expected = alone(network, data, IDS, n_ids)
        reader = Reader(network, n_ids, longest=int(data.lengths.max()))
        assert packs is None or reader.packs is packs
        signal = LocalSource(reader).signal(batch_of(data, IDS))
        torch.testing.assert_close(logprobs(signal), expected, atol=1e-5, rtol=1e-5)


def test_a_model_that_ignores_the_documents_is_not_packed(monkeypatch):
    """What tells is what comes out: a packed attention that leaks must be found out."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from stratos.distill import packed

    network, data = model(320), documents()
    expected = alone(network, data, IDS, 300)
    AttentionInterface.register(packed.NAME, sdpa_attention_forward)
    try:
        reader = Reader(network, 300, 64)
        assert not reader.packs
        signal = LocalSource(reader).signal(batch_of(data, IDS))
    finally:
        AttentionInterface.register(packed.NAME, packed.packed_attention)
    torch.testing.assert_close(logprobs(signal), expected, atol=1e-5, rtol=1e-5)


def test_a_head_that_is_not_linear_gives_logits(monkeypatch):
    network, data = model(320), documents()
    bent = network.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        out = bent(*args, **kwargs)
        out.logits = out.logits.abs() * 2
        return out

    monkeypatch.setattr(network, "forward", forward)
    expected = alone(network, data, IDS, 300)
    source = LocalSource(Reader(network, 300, 64))
    assert source.kind == "dense"
    signal = source.signal(batch_of(data, IDS))
    assert isinstance(signal, Dense)
    torch.testing.assert_close(logprobs(signal), expected, atol=1e-5, rtol=1e-5)


def test_a_teacher_may_read_prompts_of_its_own(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents()
    network, words = expert.load()
    own = [np.concatenate([data.prompt(9), data.prompt(i)]) for i in range(len(data))]
    read = [
        np.concatenate([own[i], data.text(i)[data.prompt_lengths[i] :]]) for i in range(len(data))
    ]
    starts = np.cumsum([0, *map(len, read)])
    as_read = dataclasses.replace(
        data,
        tokens=np.concatenate(read),
        starts=starts,
        prompt_lengths=np.array(list(map(len, own))),
    )
    expected = alone(network, as_read, IDS, len(words))
    source = open_source(expert, strategy(), words, data, context(tmp_path), prompts=own)
    signal = source.signal(batch_of(data, IDS))
    torch.testing.assert_close(logprobs(signal), expected, atol=1e-5, rtol=1e-5)


def test_a_text_longer_than_the_teachers_context_is_refused(tmp_path):
    expert, data = teacher(tmp_path / "teacher"), documents()
    short = dataclasses.replace(expert, facts={"context_length": 20})
    with pytest.raises(TeacherError) as error:
        open_source(short, strategy(), expert.tokenizer(), data, context(tmp_path))
    assert f"the longest training item has {data.lengths.max()}." in str(error.value)
    assert "student.context_length=20" in str(error.value)
