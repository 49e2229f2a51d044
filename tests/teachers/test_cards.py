"""The cards of real teachers and students: complete, priced, dated, and true to their shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stratos.config import StudentConfig
from stratos.core.values import read_dataclass
from stratos.deploy.card import terms_of
from stratos.estimate.cards import card_of_student, llama_params
from stratos.teachers.openai import OpenAITeacher
from stratos.teachers.words import TermsForbid
from tests.teachers.questions import parrot

CONF = Path(__file__).parents[2] / "conf"


def read(group: str) -> dict[str, dict]:
    return {file.stem: yaml.safe_load(file.read_text()) for file in (CONF / group).glob("*.yaml")}


HOSTED = {
    name: plain
    for name, plain in read("teacher").items()
    if plain.get("_target_", "").endswith("OpenAITeacher") and name != "endpoint"
}
STUDENTS = {name: plain for name, plain in read("student").items() if plain.get("facts")}
BIASED, NORMED = "qwen2_5", "qwen3"
UNTIED = {
    "qwen2_5_7b", "qwen3_8b", "llama3_1_8b", "phi3_5_mini", "tinyllama_1_1b", "mistral_7b",
}  # fmt: skip


def test_there_are_enough():
    assert len(HOSTED) >= 10 and len(STUDENTS) >= 12
    assert {plain["outputs_may_train"] for plain in HOSTED.values()} == {True, False, None}


@pytest.mark.parametrize("name", sorted(HOSTED))
def test_a_hosted_teacher_says_price_date_source_context_and_terms(name):
    plain = {key: value for key, value in HOSTED[name].items() if key != "_target_"}
    problems: list[str] = []
    teacher = read_dataclass(plain, OpenAITeacher, "teacher", problems)
    assert problems == [] and teacher is not None
    assert teacher.name == (plain["model"] if name == "openai" else name)
    card = teacher.card()
    read_usd, answered = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    assert 0 < read_usd <= answered
    if card.usd_per_million_batch_input_tokens is not None:
        assert card.usd_per_million_batch_input_tokens == pytest.approx(read_usd / 2)
        assert card.usd_per_million_batch_output_tokens == pytest.approx(answered / 2)
    assert teacher.price_date.startswith("2026-") and "https://" in teacher.price_source
    assert card.context_length >= 100_000 and card.license != "unknown"
    assert not teacher.accept_terms


@pytest.mark.parametrize("name", sorted(HOSTED))
def test_the_terms_of_a_hosted_teacher_are_in_the_table_that_cards_show(name):
    terms = terms_of(HOSTED[name]["license"])
    assert terms is not None and all(terms.values()) and terms["source"].startswith("https://")
    answer = {"yes": True, "no": False, "unknown": None}[terms["may_train"]]
    assert answer is HOSTED[name]["outputs_may_train"]


def test_terms_that_forbid_training_have_to_be_acknowledged(server):
    terms = {"outputs_may_train": False, "license": "Parrot terms"}
    assert parrot(server, **terms).unreachable() == TermsForbid("Parrot terms")
    assert parrot(server, **terms, accept_terms=True).unreachable() is None


@pytest.mark.parametrize("name", sorted(STUDENTS))
def test_a_student_has_as_many_parameters_as_its_shape(name):
    problems: list[str] = []
    student = read_dataclass(STUDENTS[name], StudentConfig, "student", problems)
    assert problems == [] and student is not None
    card = card_of_student(student, None)  # type: ignore[arg-type]
    assert (card.name, card.license) == (name, student.license)
    head = card.head_size or card.hidden_size // card.n_heads
    more = 0
    if name.startswith(BIASED):  # biases of query, key and value
        more = card.n_layers * (card.n_heads + 2 * card.n_kv_heads) * head
    if name.startswith(NORMED):  # norms of queries and keys
        more = card.n_layers * 2 * head
    assert card.n_params - more == llama_params(
        card.vocab_size, card.hidden_size, card.n_layers, card.n_heads, card.n_kv_heads,
        card.intermediate_size, tied=name not in UNTIED, head_size=card.head_size,
    )  # fmt: skip
    assert 130e6 < card.n_params < 8.3e9
