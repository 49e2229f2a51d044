"""The entropy of a local teacher's next token, against a plain computation token by token."""

from __future__ import annotations

import math

import pytest
import torch

from stratos.teachers.generate import entropy_nats
from tests.evaluate.tiny_student import WORDS, tiny_model, tiny_tokenizer
from tests.teachers.questions import chat


@pytest.mark.slow
def test_it_is_that_of_every_token_of_every_answer_with_its_end():
    model, tokenizer = tiny_model().eval(), tiny_tokenizer()
    questions, answers = ["3 7", "1 2"], ["3 7 ; 7", "2"]
    expected = []
    for question, answer in zip(questions, answers, strict=True):
        ids = tokenizer.apply_chat_template(
            chat(question), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for token in [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
            p = torch.softmax(logits, -1)
            expected.append(-(p * p.log()).sum().item())
            ids.append(token)
    nats = entropy_nats(model, tokenizer, [chat(question) for question in questions], answers)
    assert nats == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert 0 < nats <= math.log(len(WORDS))


def test_a_teacher_that_is_certain_has_none():
    model, tokenizer = tiny_model().eval(), tiny_tokenizer()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(100)  # tied to the head: logits far apart
    assert entropy_nats(model, tokenizer, [chat("3 7")], ["7"]) == pytest.approx(0, abs=0.05)


def test_nothing_is_known_without_answers():
    assert entropy_nats(tiny_model().eval(), tiny_tokenizer(), [], []) is None
