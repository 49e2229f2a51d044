"""Which students and teachers of a choice a task takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.types import RunMode

from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.core.errors import ConfigError
from stratos.models.kinds.student_kinds import LABELS

ROWS = [
    {"text": f"{what} number {n}", "label": label}
    for n in range(20)
    for what, label in (("a lost card", "card"), ("a late transfer", "transfer"))
]


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return "task.path=tickets.jsonl"


def names(*argv: str) -> tuple[list[str], list[str]]:
    with hydra_for(None) as hydra:
        lines = ["paths.run_dir=run", "paths.cache_dir=cache", "logger=none", *argv]
        config = build(hydra.compose_config("config", lines, RunMode.RUN, True))
    return [choice.name for choice in config.students], [choice.name for choice in config.teachers]


def test_labels_take_the_kinds_that_are_measured_and_nobody_is_asked(tickets):
    students, teachers = names("+task=classify", tickets)
    assert students == [*LABELS, "nearest", "majority"]
    assert teachers == ["none"]


def test_a_teacher_that_is_named_is_asked(tickets):
    students, teachers = names("+task=classify", tickets, "teacher=smollm2")
    assert students == [*LABELS, "nearest", "majority"]
    assert teachers == ["smollm2"]


def test_a_teacher_is_asked_where_rows_have_no_label(tickets):
    Path("more.jsonl").write_text(
        "".join(json.dumps({"text": f"what {n}"}) + "\n" for n in range(9))
    )
    _, teachers = names("+task=classify", tickets, "task.unlabelled_path=more.jsonl")
    assert "smollm2" in teachers


def test_a_student_that_is_named_is_taken(tickets):
    assert names("+task=classify", tickets, "student=smollm2_135m") == (["smollm2_135m"], ["none"])


def test_free_text_takes_models_that_know_its_language(tickets):
    students, teachers = names("+task=jsonl", tickets, "task.question=text", "task.answer=label")
    assert "smollm2_135m" in students
    assert not {"linear", "stratos_300k", "stratos_1m"} & set(students)
    assert {"nearest", "majority"} <= set(students)
    assert teachers == ["none"], "each row has its answer"
    fields = ("task.question=text", "task.answer=label")
    _, teachers = names("+task=jsonl", tickets, *fields, "strategy=alignment")
    assert "smollm2" in teachers, "it is learnt from"


def test_a_task_that_makes_its_own_data_takes_language_models_of_all_sizes():
    students, teachers = names("+task=mahjong")
    assert {"stratos_300k", "smollm2_135m"} <= set(students)
    assert not {"linear", "static", "encoder"} & set(students)
    assert "smollm2" in teachers


@pytest.mark.parametrize(
    "argv",
    [
        ("+task=mahjong", "student=linear"),
        ("+task=classify", "task.path=tickets.jsonl", "student=tagger"),
        (
            "+task=classify",
            "task.path=tickets.jsonl",
            "+student@student.candidates.other=encoder",
            "student.candidates.other.name=other",
        ),
    ],
)
def test_a_kind_that_does_not_do_the_task_or_stands_twice_is_refused(tickets, argv):
    with pytest.raises(ConfigError, match="student"):
        names(*argv)
