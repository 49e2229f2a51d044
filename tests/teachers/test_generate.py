"""A local teacher against plain computations: its tokens, and the entropy of the next."""

from __future__ import annotations

import math

import pytest
import torch

from stratos.teachers.base import Answer, Question
from stratos.teachers.local_model import _is_plain, answer, entropy_nats, prompt_tokens
from tests.evaluate.tiny_student import WORDS, Larger, tiny_model, tiny_tokenizer
from tests.teachers.questions import chat

LONGEST = 12


def answered(model, tokenizer, prompts) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    done: list[int] = []
    answer(
        model,
        tokenizer,
        prompts,
        [Question([], LONGEST)] * len(prompts),
        batch_size=4,
        keep=lambda index, answer: answers.update({index: answer}),
        progress=done.append,
    )
    assert sum(done) == len(prompts)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [None, 1.3])
def test_greedy_answers_are_those_of_generate(penalty):
    model, tokenizer = tiny_model(seed=3).eval(), tiny_tokenizer()
    if penalty is not None:
        model.generation_config.repetition_penalty = penalty
    assert _is_plain(model.generation_config) is (penalty is None)
    chats = [Larger().student_messages(item) for item in Larger().items("test", 10)]
    prompts = prompt_tokens(tokenizer, chats)
    answers = answered(model, tokenizer, prompts)
    for index, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=LONGEST,
                do_sample=False,
            )[0, len(prompt) :]
        assert answers[index].text == tokenizer.decode(out, skip_special_tokens=True)
        assert answers[index].output_tokens == len(out)
        assert answers[index].input_tokens == len(prompt)


# --- the entropy of a local teacher's next token --------------------------------------------------


@pytest.mark.slow
def test_it_is_that_of_every_token_of_every_answer_with_its_end():
    model, tokenizer = tiny_model().eval(), tiny_tokenizer()
    questions, answers = ["3 7", "1 2"], ["3 7 ; 7", "2"]
    expected = []
    for question, text in zip(questions, answers, strict=True):
        ids = tokenizer.apply_chat_template(
            chat(question), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]:
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
