import random
import time

import pytest
import torch
from tiny_student import WORDS, tiny_model, tiny_tokenizer

from stratos.models.decode import decoder
from stratos.models.decode.batched import complete
from stratos.models.decode.decoder import Decoder, Decoding, Threads, fastest, thread_counts
from stratos.models.decode.kv_cache import RoomyLayer, roomy_cache
from stratos.models.words import OtherLogits

N_CHATS = 24
LONGEST = 40


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def chats():
    """Questions of one to nine words, so that every batch is ragged."""
    draw = random.Random(1)
    words = WORDS[5:]
    return [
        [{"role": "user", "content": " ".join(draw.choices(words, k=draw.randint(1, 9)))}]
        for _ in range(N_CHATS)
    ]


def wild_model(**changes):
    """A model whose large random weights write varied text and end at very unlike places."""
    options = {"initializer_range": 0.4, "eos_token_id": [1], "max_position_embeddings": 512}
    return tiny_model(seed=3, **{**options, **changes}).eval()


def generated(model, tokenizer, chat, max_new_tokens=LONGEST):
    """What `model.generate` says to one chat on its own."""
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    tokens = ids[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)


@pytest.fixture(scope="module")
def expected(tokenizer, chats):
    """What `model.generate` says to every chat on its own, and how many tokens that takes."""
    model = wild_model()
    return [generated(model, tokenizer, chat) for chat in chats]


@pytest.mark.parametrize("by", Decoder)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_answers_are_those_of_generate_in_any_batch(tokenizer, chats, expected, batch_size, by):
    lengths = {length for _, length in expected}
    assert len(lengths) > 5
    assert LONGEST in lengths  # some end early, some never

    completions = complete(
        wild_model(),
        tokenizer,
        chats,
        max_new_tokens=LONGEST,
        batch_size=batch_size,
        decoding=Decoding(by),
    )

    assert [(c.text, c.output_tokens) for c in completions] == expected


def test_answers_are_those_of_generate_on_chosen_threads(tokenizer, chats, expected):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        completions = complete(
            wild_model(), tokenizer, chats, max_new_tokens=LONGEST, batch_size=16
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    assert [(c.text, c.output_tokens) for c in completions] == expected


def test_answers_are_those_of_generate_for_prompts_of_one_length(tokenizer, chats):
    model = wild_model(num_key_value_heads=2)
    same = [[{"role": "user", "content": chat[0]["content"].split()[0]}] for chat in chats]
    completions = complete(model, tokenizer, same, max_new_tokens=LONGEST, batch_size=16)
    expected = [generated(model, tokenizer, chat) for chat in same]
    assert [(c.text, c.output_tokens) for c in completions] == expected


def test_the_cache_outgrows_its_room_without_a_change(tokenizer, chats):
    model = wild_model(eos_token_id=[])
    completions = complete(model, tokenizer, chats[:4], max_new_tokens=150, batch_size=4)
    expected = [generated(model, tokenizer, chat, max_new_tokens=150) for chat in chats[:4]]
    assert [(c.text, c.output_tokens) for c in completions] == expected


def test_a_model_with_another_kind_of_layer_works_too(tokenizer, chats):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(5)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            sliding_window=6,
            initializer_range=0.4,
            eos_token_id=[1, 7],
            pad_token_id=0,
        )
    ).eval()
    assert not any(isinstance(layer, RoomyLayer) for layer in roomy_cache(model.config).layers)
    # One length: transformers itself answers otherwise when a window starts within the padding.
    same = [[{"role": "user", "content": chat[0]["content"].split()[0]}] for chat in chats]
    completions = complete(model, tokenizer, same, max_new_tokens=LONGEST, batch_size=8)
    expected = [generated(model, tokenizer, chat) for chat in same]
    assert [(c.text, c.output_tokens) for c in completions] == expected


def test_an_answer_ends_where_the_context_is_full(tokenizer, chats):
    model = wild_model(eos_token_id=[], max_position_embeddings=16)
    completions = complete(model, tokenizer, chats, max_new_tokens=LONGEST, batch_size=8)
    assert {c.input_tokens + c.output_tokens for c in completions} == {16}


def test_a_prompt_that_fills_the_context_gets_an_empty_answer(tokenizer, chats):
    model = wild_model(eos_token_id=[], max_position_embeddings=7)
    completions = complete(model, tokenizer, chats, max_new_tokens=LONGEST, batch_size=8)
    for completion in completions:
        assert completion.output_tokens == max(0, 7 - completion.input_tokens)
    assert any(completion.text == "" for completion in completions)


def test_the_mode_of_every_module_is_restored(tokenizer, chats):
    model = wild_model(attention_dropout=0.5)
    expected = complete(model, tokenizer, chats, max_new_tokens=8, batch_size=8)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]

    assert complete(model, tokenizer, chats, max_new_tokens=8, batch_size=8) == expected
    assert [module.training for module in model.modules()] == modes


def test_the_mode_is_restored_after_an_interrupt(tokenizer, chats):
    model = wild_model().train()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(model, tokenizer, chats, max_new_tokens=8, batch_size=8, tick=interrupt)
    assert all(module.training for module in model.modules())


def test_training_goes_on_after_answers(tokenizer, chats):
    model = wild_model().train()
    complete(model, tokenizer, chats[:4], max_new_tokens=8, batch_size=4)
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_progress_is_told_answer_by_answer(tokenizer, chats):
    seen: list[tuple[int, int]] = []
    complete(
        wild_model(),
        tokenizer,
        chats,
        max_new_tokens=8,
        batch_size=5,
        tick=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, N_CHATS) for done in range(1, N_CHATS + 1)]


def test_no_chats_are_answered_by_nothing(tokenizer):
    assert complete(wild_model(), tokenizer, [], max_new_tokens=8, batch_size=4) == []


@pytest.mark.parametrize("rows", [[0, 4, 2, 3], [3, 1, 0], [2], [0, 1, 2, 3, 4]])
def test_rows_of_the_cache_move_as_indexing_says(rows):
    layer = RoomyLayer()
    keys, values = torch.randn(5, 2, 3, 4), torch.randn(5, 2, 3, 4)
    layer.update(keys, values)
    layer.reorder_cache(torch.tensor(rows))
    more = torch.randn(len(rows), 2, 1, 4)
    got_keys, got_values = layer.update(more, more)
    assert torch.equal(got_keys, torch.cat([keys[rows], more], dim=2))
    assert torch.equal(got_values, torch.cat([values[rows], more], dim=2))
    assert layer.get_seq_length() == 4


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_probability_of_an_answer_is_that_of_its_tokens(tokenizer, chats, batch_size):
    model = wild_model()
    found = complete(
        model, tokenizer, chats, max_new_tokens=LONGEST, batch_size=batch_size, with_logprobs=True
    )
    for chat, one in zip(chats[:6], found, strict=False):
        inputs = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        made = model.generate(
            **inputs, max_new_tokens=LONGEST, do_sample=False, output_scores=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        scores = model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
        assert one.logprob == pytest.approx(scores.sum().item(), abs=1e-3)
    plain = complete(model, tokenizer, chats, max_new_tokens=LONGEST, batch_size=batch_size)
    assert [one.text for one in plain] == [one.text for one in found]
    assert {one.logprob for one in plain} == {None}


def test_without_an_extension_transformers_decodes(tokenizer, chats, expected, monkeypatch):
    monkeypatch.setattr(decoder, "extensions", lambda: ())
    decoding = Decoding()
    completions = complete(
        wild_model(), tokenizer, chats, max_new_tokens=LONGEST, batch_size=7, decoding=decoding
    )
    assert [(c.text, c.output_tokens) for c in completions] == expected
    assert decoding.used == "transformers" and decoding.complaint is None


def test_a_decoder_that_left_batches_to_transformers_is_complained_of(snapshot):
    decoding = Decoding()
    for is_direct in (True, False, False):
        decoding.count(is_direct)
    assert decoding.used == "direct and transformers"
    assert decoding.complaint == OtherLogits(2)
    assert str(decoding.complaint) == snapshot


# The number of CPU threads that tokens are decoded on follows what else the machine does.


class Machine:
    """A machine of four cores on which a token takes so long, by the threads it is decoded on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now, self.n, self.seconds = 0.0, 4, seconds
        self.used: list[int] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.n)
        monkeypatch.setattr(torch, "set_num_threads", self._set)

    def _set(self, n: int) -> None:
        self.n = n

    def decode(self, threads: Threads, n_tokens: int) -> None:
        """Write a batch."""
        self.used = []
        threads.begin()
        for place in range(n_tokens):
            self.now += 5.0 if place == 0 else self.seconds[self.n]  # first all prompts are read
            self.used.append(self.n)
            threads.token()


QUIET, BUSY = {1: 1.0, 2: 0.6, 4: 0.35}, {1: 1.0, 2: 1.1, 4: 3.0}


def test_all_numbers_are_tried_at_first_and_the_neighbours_after(monkeypatch):
    machine, threads = Machine(monkeypatch, QUIET), Threads()
    with threads.choosing():
        machine.decode(threads, 60)
        assert machine.used[1:7] == [1, 2, 4, 1, 2, 4]
        assert set(machine.used[7:]) == {4}
        machine.decode(threads, 60)
        assert machine.used[1:5] == [2, 4, 2, 4] and set(machine.used[5:]) == {4}
        machine.seconds = BUSY
        machine.decode(threads, 60)
        assert machine.used[-1] == 2
        machine.decode(threads, 60)
        assert set(machine.used[7:]) == {1}
    assert machine.n == 4, "torch has its threads back"


def test_a_long_batch_tries_again(monkeypatch):
    machine, threads = Machine(monkeypatch, QUIET), Threads()
    with threads.choosing():
        machine.decode(threads, 400)
        assert 2 in machine.used[100:]
        assert machine.used.count(4) > 380


def test_one_core_has_nothing_to_choose(monkeypatch):
    machine, threads = Machine(monkeypatch, {1: 1.0}), Threads()
    machine.n = 1
    with threads.choosing():
        machine.decode(threads, 20)
    assert set(machine.used) == {1}


def test_more_threads_have_to_be_worth_it():
    assert fastest({1: 1.0, 2: 0.95}) == 1
    assert fastest({1: 1.0, 2: 0.6, 4: 0.58}) == 2
    assert thread_counts(6) == (1, 2, 4, 6)


def test_what_chats_begin_with_alike_is_read_once(tokenizer):
    model, instruction = wild_model(), " ".join(WORDS[5:] * 5)
    chats = [[{"role": "user", "content": f"{instruction} {word}"}] for word in WORDS[5:]]
    expected = [generated(model, tokenizer, chat)[0] for chat in chats]
    n_read = []
    model.register_forward_pre_hook(
        lambda _, args, named: n_read.append(named["input_ids"].numel()), with_kwargs=True
    )
    decoding = Decoding(Decoder.TRANSFORMERS)
    options = {"max_new_tokens": LONGEST, "batch_size": len(chats), "decoding": decoding}
    found = complete(model, tokenizer, chats, **options)
    assert [answer.text for answer in found] == expected
    n_prompts = sum(answer.input_tokens for answer in found)
    assert sum(n_read) - sum(answer.output_tokens for answer in found) < n_prompts / 4
