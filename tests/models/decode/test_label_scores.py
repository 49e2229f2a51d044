"""Labels are scored as each would be by itself, and the answer is always a label."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from tiny_student import WORDS, tiny_model, tiny_tokenizer

from stratos.core.errors import ForeignFileError
from stratos.models.decode import label_scores as decoding
from stratos.models.decode.label_scores import (
    LABELS,
    LabelAnswers,
    LabelModel,
    Trie,
    fitted_temperature,
    score_labels,
)

DIGITS = WORDS[5:]
NESTED = ("1", "1 2", "1 2 3", "4", "1 2 4", "5 6 7 8")
"""One is the beginning of another, and of two more."""


def many(n: int = 77) -> tuple[str, ...]:
    draw = Random(2)
    drawn = (" ".join(draw.choices(DIGITS, k=draw.randint(1, 5))) for _ in range(10 * n))
    return tuple(dict.fromkeys(drawn))[:n]


def wild(**changes: Any) -> Any:
    """A model whose probabilities differ by much."""
    options = {"initializer_range": 0.4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    return tiny_model(seed=3, **{**options, **changes}).eval()


def chats(n: int = 9, start: str = "") -> list[list[dict[str, str]]]:
    draw = Random(1)
    texts = [" ".join([start, *draw.choices(DIGITS, k=draw.randint(1, 9))]) for _ in range(n)]
    return [[{"role": "user", "content": text.strip()}] for text in texts]


def by_itself(model: Any, tokenizer: Any, chat: Any, label: str) -> float:
    """log p of a label, from one text without any cache or mask."""
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    tokens = tokenizer(label + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt["input_ids"] + tokens])
    with torch.no_grad():
        logprobs = model(ids).logits[0].float().log_softmax(-1)
    n = len(prompt["input_ids"])
    return sum(float(logprobs[n - 1 + k, token]) for k, token in enumerate(tokens))


def brute(model: Any, questions: Any, labels: Any) -> np.ndarray:
    tokenizer = tiny_tokenizer()
    return np.array(
        [[by_itself(model, tokenizer, chat, label) for label in labels] for chat in questions]
    )


def close(logprobs: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(logprobs, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("labels", [NESTED, many(), ("3", "4")], ids=["nested", "77", "two"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_label_is_scored_as_by_itself(labels, batch_size, attention):
    model = wild(attn_implementation=attention)
    questions = chats(9 if len(labels) < 9 else 3)
    scores = score_labels(model, tiny_tokenizer(), questions, labels, batch_size=batch_size)
    expected = brute(model, questions, labels)
    close(scores.logprobs_NL, expected)
    answers = LabelAnswers(labels).predictions(scores.logprobs_NL)
    shares = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    assert [answer.text for answer in answers] == [labels[k] for k in shares.argmax(-1)]
    np.testing.assert_allclose(
        [answer.probability for answer in answers], shares.max(-1), atol=1e-5
    )
    n_tokens = [len(label.split()) + 1 for label in labels]
    assert scores.label_tokens == tuple(n_tokens)


def test_what_prompts_begin_with_is_shared():
    model, questions = wild(), chats(start="1 2 3 4 5 6 7 8 9 " * 3)
    expected = brute(model, questions, NESTED)
    read: list[int] = []

    def count(module: Any, args: Any, more: Any) -> None:
        read.append(more["input_ids"].numel())

    model.register_forward_pre_hook(count, with_kwargs=True)
    scores = score_labels(model, tiny_tokenizer(), questions, NESTED, batch_size=4)
    close(scores.logprobs_NL, expected)
    n_nodes = len(Trie.of(tiny_tokenizer(), NESTED).nodes)
    # The beginning once; of each prompt its own words, and the trie.
    assert sum(read) < 30 + len(questions) * (n_nodes + 12)


def test_a_long_text_has_no_others_computed_at_its_length():
    long = [{"role": "user", "content": " ".join(["7"] * 300)}]
    model, questions = wild(), [*chats(7), long]
    expected = brute(model, questions, NESTED)
    read: list[tuple[int, ...]] = []

    def count(module: Any, args: Any, more: Any) -> None:
        read.append(tuple(more["input_ids"].shape))

    model.register_forward_pre_hook(count, with_kwargs=True)
    scores = score_labels(model, tiny_tokenizer(), questions, NESTED, batch_size=8)
    close(scores.logprobs_NL, expected)
    assert [rows for rows, width in read if width > 300] == [1]
    assert [rows for rows, width in read if 1 < width < 64] == [7]


def test_a_large_trie_is_read_in_several_passes(monkeypatch):
    monkeypatch.setattr(decoding, "_MOST_LOGITS", 7 * len(WORDS))
    scores = score_labels(wild(), tiny_tokenizer(), chats(3), many(), batch_size=4)
    close(scores.logprobs_NL, brute(wild(), chats(3), many()))


@pytest.mark.parametrize("window", [4, 400])
def test_a_model_with_sliding_windows(window):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(5)
    config = MistralConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, sliding_window=window,
        initializer_range=0.4, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    scores = score_labels(model, tiny_tokenizer(), chats(4), NESTED, batch_size=4)
    close(scores.logprobs_NL, brute(model, chats(4), NESTED))


def test_a_prompt_that_fills_the_context_gets_a_label_too():
    model = wild(max_position_embeddings=7)
    scores = score_labels(model, tiny_tokenizer(), chats(), NESTED, batch_size=4)
    answers = LabelAnswers(NESTED).predictions(scores.logprobs_NL)
    assert {answer.text for answer in answers} <= {*NESTED}


def test_modes_are_restored_and_progress_is_told():
    model, ticks = wild().train(), []
    polls: list[None] = []
    score_labels(
        model, tiny_tokenizer(), chats(), NESTED, batch_size=4,
        tick=lambda done, total: ticks.append((done, total)), poll=lambda: polls.append(None),
    )  # fmt: skip
    assert model.training
    assert ticks == [(4, 9), (8, 9), (9, 9)] and len(polls) == 3


def test_an_answer_has_the_softmax_over_the_labels():
    [answer] = LabelAnswers(("a", "b", "c")).predictions(np.log([[0.01, 0.06, 0.03]]))
    assert answer.text == "b"
    assert answer.probability == pytest.approx(0.6)
    assert answer.next_best == (("c", pytest.approx(0.3)), ("a", pytest.approx(0.1)))
    [cooler] = LabelAnswers(("a", "b", "c"), 2.0).predictions(np.log([[0.01, 0.06, 0.03]]))
    roots = [math.sqrt(share) for share in (0.01, 0.06, 0.03)]
    assert cooler.probability == pytest.approx(roots[1] / sum(roots))


def test_the_temperature_makes_answers_as_probable_as_they_are_right():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 5)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    gold = np.array([draw.choice(5, p=row) for row in shares])
    right = logits.argmax(-1) == gold
    assert fitted_temperature(3.0 * logits, right.tolist()) == pytest.approx(3.0, rel=0.1)
    assert fitted_temperature(logits, right.tolist()) == pytest.approx(1.0, rel=0.1)
    assert fitted_temperature(np.zeros((0, 5)), []) == 1.0
    few = LabelAnswers(("a", "b"), fitted_temperature(np.array([[0.0, -3.0]] * 8), [True] * 8))
    assert few.predictions(np.array([[0.0, -3.0]]))[0].probability == pytest.approx(0.9, abs=0.01)


def test_a_text_counts_as_the_tokens_of_its_prompt():
    student = LabelModel(wild(max_position_embeddings=7), tiny_tokenizer(), LabelAnswers(NESTED))
    prompt = tiny_tokenizer().apply_chat_template(
        [{"role": "user", "content": "3 4"}], add_generation_prompt=True, return_dict=True
    )
    short, cut = student.predict(["3 4", " ".join(["3"] * 50)])
    assert short.prompt_tokens == len(prompt["input_ids"])
    assert cut.prompt_tokens == 7, "what is behind the context is not read"


def test_the_file_is_read_back(tmp_path):
    assert LabelAnswers.read(tmp_path) is None
    answers = LabelAnswers(("ä", "b"), 1.5)
    answers.write(tmp_path)
    assert LabelAnswers.read(tmp_path) == answers


@pytest.mark.parametrize(
    "facts",
    [
        {"labels": ["a"]},
        {"labels": [], "temperature": 1},
        {"labels": ["a", "a"], "temperature": 1},
        {"labels": ["a", None], "temperature": 1},
        {"labels": ["a", "b"], "temperature": -1},
        {"labels": ["a", "b"], "temperature": float("nan")},
    ],
)
def test_a_damaged_file_is_refused(facts, tmp_path):
    (tmp_path / LABELS).write_text(json.dumps(facts))
    with pytest.raises(ForeignFileError):
        LabelAnswers.read(tmp_path)
