"""Answers without a common prefix: rows leave the batch, and the tokens are those of `generate`."""

from __future__ import annotations

import pytest
import torch

from stratos.teachers.base import Answer, Question
from stratos.teachers.generate import _is_plain, answer, prompt_tokens
from tests.evaluate.tiny_student import Larger, tiny_model, tiny_tokenizer

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
