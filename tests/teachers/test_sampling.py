"""Answers drawn from a model on this machine: the same again, and as often as they are likely."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Answer, Question
from stratos.teachers.huggingface import HuggingFaceTeacher
from tests.evaluate.tiny_student import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTeacher:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_tokenizer().save_pretrained(folder)
    tiny_model().save_pretrained(folder)
    return HuggingFaceTeacher("tiny", path=str(folder), dtype="float32", batch_size=4)


def chat(question: str) -> list[dict[str, str]]:
    # Long enough for the common beginning to be computed once.
    return [{"role": "user", "content": f"{'1 2 3 4 ' * 5}{question}"}]


def drawn(n: int, temperature: float | None = 1.0, max_tokens: int = 6) -> list[Question]:
    return [
        Question(chat(question), max_tokens, sample, temperature)
        for question in ("3 7", "2 4 6 8")
        for sample in range(1, n + 1)
    ]


def test_samples_differ_and_come_again_in_whatever_batch(teacher):
    assert teacher.draws
    by_index: dict[int, Answer] = {}
    answers = teacher.sample(drawn(4), lambda index, answer: by_index.update({index: answer}))
    assert answers == [by_index[index] for index in range(8)]
    texts = [answer.text for answer in answers]
    assert len(set(texts)) > 5
    assert [teacher.sample([question])[0].text for question in drawn(4)] == texts


def test_without_a_temperature_a_sample_is_the_likeliest(teacher):
    likeliest = [answer.text for answer in teacher.ask([question.chat for question in drawn(1)], 6)]
    for temperature in (0.0, None, 1e-6):
        cold = [answer.text for answer in teacher.sample(drawn(2, temperature))]
        assert cold == [text for text in likeliest for _ in range(2)]
    # One that is drawn and one that is not share a batch.
    mixed = [replace(drawn(1)[0], temperature=None), drawn(4)[-1]]
    both = [answer.text for answer in teacher.sample(mixed)]
    assert both == [likeliest[0], teacher.sample([mixed[1]])[0].text]


def test_tokens_are_drawn_as_often_as_they_are_likely(teacher):
    import torch

    model, tokenizer = teacher.load()
    n, temperature = 2000, 0.1
    questions = [Question(chat("5"), 1, sample, temperature) for sample in range(n)]
    many = replace(teacher, batch_size=500)
    many.__dict__["_loaded"] = teacher.load()
    counts = Counter(answer.text for answer in many.sample(questions))
    ids = tokenizer.apply_chat_template(chat("5"), add_generation_prompt=True, return_dict=True)
    with torch.inference_mode():
        logits = model(torch.tensor([ids["input_ids"]])).logits[0, -1]
    shares = (logits.double() / temperature).softmax(-1)
    assert shares.max() > 1.5 * shares.mean(), "the temperature makes a difference"
    for token in range(5, len(shares)):
        share, seen = float(shares[token]), counts[tokenizer.decode([token])] / n
        assert abs(seen - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_samples_are_kept(teacher, context):
    first = list(stream_ask(teacher, drawn(2), context))
    second = list(stream_ask(teacher, drawn(2), context))
    assert [answer.text for answer in second] == [answer.text for answer in first]
    assert all(answer.cached for answer in second)


def test_questions_of_several_lengths_are_asked_together_and_tell_how_they_ended(
    teacher, context, monkeypatch
):
    batches: list[int] = []
    sample = HuggingFaceTeacher.sample
    monkeypatch.setattr(
        HuggingFaceTeacher,
        "sample",
        lambda self, questions, keep=None: (
            batches.append(len(questions)),
            sample(self, questions, keep),
        )[1],
    )
    questions = [Question(chat(f"{n % 10} 3"), n) for n in (1, 100, 2)]
    answers = list(stream_ask(teacher, questions, context))
    assert batches == [3]
    assert [(answer.output_tokens, answer.finish) for answer in (answers[0], answers[2])] == [
        (1, "length"),
        (2, "length"),
    ]
    # The one that has room ends by itself, or repeats itself, which is no matter of room.
    assert answers[1].finish in ("stop", "repetition") and answers[1].output_tokens > 2
