"""The plan counts with the tokens that the training will take."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from world import BLIND, SIGHTED, World

from stratos.config import FitConfig, StudentConfig, TrainerConfig
from stratos.distill.tokenizer import counter
from stratos.distill.trainer import training_length
from stratos.estimate.cards import card_of_student
from stratos.plan.options import workload
from stratos.plan.options.workload import Lengths, expected_rows
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask

SENTENCE = "please my order of the blue lamp has not arrived I want to send it back or money"
WORDS = SENTENCE.split()
LABELS = ("shipping", "returns", "billing")
STUDENT = StudentConfig("s", train_tokens=13_000_000)


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> JsonlTask:
    """300 rows of text with a label."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("tickets") / "tickets.jsonl"
    rows = [
        {"question": f"{i} " + " ".join(rng.choices(WORDS, k=40)), "answer": rng.choice(LABELS)}
        for i in range(300)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return JsonlTask(str(path))


def encoded(task: JsonlTask, student: StudentConfig, items: list[Item]) -> Any:
    """Return items in the tokens of a student."""
    from stratos.distill.data import encode
    from stratos.distill.tokenizer import make_student

    completions = [task.completion(item) for item in items]
    chats = [task.student_messages(item) for item in items]
    texts = [text for chat, end in zip(chats, completions, strict=True)
             for text in (*(m["content"] for m in chat), end)]  # fmt: skip
    instruction = task.system_prompt
    _, tokenizer = make_student(student, task.vocabulary(), texts, 0, instruction=instruction)
    data, _ = encode(tokenizer, chats, completions, student.context_length)
    return data


def trained_on(task: JsonlTask, student: StudentConfig, items: list[Item]) -> Any:
    """Return the length of the training that the stage makes of these items."""
    data = encoded(task, student, items)
    return training_length(TrainerConfig(), student, len(data), float(data.lengths.mean()))


@pytest.fixture(scope="session")
def folder(tickets: JsonlTask, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with a tokenizer of its own and a chat template."""
    from stratos.distill.tokenizer import make_student, save_student

    path = tmp_path_factory.mktemp("model") / "m"
    texts = [item.question for item in tickets.items("train", 100)]
    model, tokenizer = make_student(replace(STUDENT, hidden_size=32, n_layers=1), None, texts, 0)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
        "You are a helpful assistant\n{% endif %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    save_student(model, tokenizer, path)
    return str(path)


def test_the_plan_counts_once_what_all_rows_begin_with(tickets, folder):
    from stratos.distill.data import PackedLoader
    from stratos.distill.packed import Row

    long = replace(tickets, instruction=" ".join(WORDS * 10))
    student = replace(STUDENT, path=folder)
    config = replace(World().config(), task=long, trainer=TrainerConfig())
    planned = Lengths(config).of(BLIND, Injection(), student)
    data = encoded(long, student, long.items("train", 10**6))
    row = PackedLoader(data, planned.batch_tokens, planned.tokens, 0).row(0)
    shared = Row.of(row.texts, row.prompt_lengths.tolist(), True)
    assert planned.computed == pytest.approx(shared.tokens_N.numel() / row.n_trained, rel=0.1)
    assert planned.computed < 0.7

    def computed(task: JsonlTask, trainer: TrainerConfig) -> float:
        planning = replace(config, task=task, trainer=trainer)
        return Lengths(planning).of(BLIND, Injection(), student).computed

    assert computed(tickets, TrainerConfig()) == 1, "few tokens are not shared"
    assert computed(long, TrainerConfig(compile=True)) == 1


@pytest.mark.parametrize("is_random", [True, False])
def test_the_plan_prices_the_tokens_that_are_trained_on(tickets, folder, is_random):
    student = STUDENT if is_random else replace(STUDENT, path=folder)
    config = replace(World().config(), task=tickets, trainer=TrainerConfig())
    planned = Lengths(config).of(BLIND, Injection(), student)
    real = trained_on(tickets, student, tickets.items("train", 10**6))
    assert planned.epochs == pytest.approx(real.epochs)
    assert planned.tokens == pytest.approx(real.tokens, rel=0.02)
    assert planned.batch_tokens == pytest.approx(real.batch_tokens, rel=0.02)


def test_alignment_learns_from_what_the_teacher_answers_right(tickets):
    config = replace(World().config(), task=tickets, trainer=TrainerConfig())
    n_train = tickets.n_train
    assert expected_rows(config, SIGHTED, Injection()) == n_train
    rows = expected_rows(config, SIGHTED, Alignment())
    assert rows == pytest.approx(n_train * SIGHTED.exact.mean, rel=0.05)
    assert expected_rows(config, SIGHTED, Alignment(n_items=50)) <= 50


def test_a_broken_tokenizer_or_template_is_no_reason_to_stop(folder, tmp_path):
    import shutil

    broken = tmp_path / "m"
    shutil.copytree(folder, broken)
    chat = [{"role": "user", "content": "my order has not arrived"}]

    def length() -> float:
        student = replace(STUDENT, path=str(broken))
        return counter(student, None, [], tmp_path)(chat, "shipping").total

    whole = length()
    for file in broken.glob("*.jinja"):
        file.write_text("{% for %}")
    assert abs(length() - whole) < 40
    (broken / "tokenizer.json").write_text("{")
    assert length() > 20


def test_the_plan_counts_the_training_that_follows_the_removal_of_layers(tickets, folder):
    student = replace(STUDENT, path=folder)
    config = replace(World().config(), task=tickets, trainer=TrainerConfig())
    whole = Lengths(config).of(BLIND, Injection(), student)
    shallow = replace(student, fit=FitConfig(depth=0.4))
    planned = Lengths(config).of(BLIND, Injection(), shallow)
    assert planned.tokens == pytest.approx(whole.tokens * 4 / 3, abs=1)
    assert planned.epochs == pytest.approx(whole.epochs * 4 / 3)
    in_4_bits = Lengths(replace(config, trainer=TrainerConfig(adapter="qlora")))
    whole, planned = (in_4_bits.of(BLIND, Injection(), each) for each in (student, shallow))
    assert planned.tokens == whole.tokens, "their layers are not tried once they are trained"


def test_the_plan_counts_the_rows_that_trials_of_layers_answer(tickets, folder, monkeypatch):
    """Each of about 1 + 2 x share trials a layer ends behind half of its rows."""
    student = replace(STUDENT, path=folder)
    card = replace(card_of_student(STUDENT, tickets), n_layers=10)

    def n_answers(student: StudentConfig) -> int:
        config = replace(
            World().config(), task=tickets, trainer=TrainerConfig(), students=[student]
        )
        return Lengths(config).checks(BLIND, Injection(), card).n_answers

    monkeypatch.setattr(workload, "N_ROWS", 20)
    shallow = replace(student, fit=FitConfig(depth=0.4))
    longer = replace(shallow, fit=FitConfig(depth=0.5))
    assert n_answers(longer) - n_answers(shallow) == 10 * (20 - 18)
    assert n_answers(shallow) >= n_answers(student) + 10 * 18
