"""Rows without answers: a file of them, or those of the labelled file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stratos.tasks.classify import ClassifyTask
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.words import AnswersNotRead, FileProblems

LABELS = ("bug", "praise", "question")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def tickets(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"ticket number {i}", "label": LABELS[i % 3]} for i in range(start, start + n)]


def bare(n: int, start: int = 1000) -> list[dict[str, Any]]:
    return [{"text": row["text"]} for row in tickets(n, start)]


def test_a_file_of_rows_without_answers(tmp_path):
    labelled = write(tmp_path / "tickets.jsonl", tickets(120))
    # Ten of them are questions of the labelled file, and one is there twice.
    more = write(tmp_path / "more.jsonl", [*bare(50), *bare(10, start=0), *bare(1)])
    task = ClassifyTask(labelled, unlabelled_path=more)
    assert task.n_unlabelled == 50
    items = task.unlabelled(1000, seed=1)
    assert len(items) == 50
    assert {item.answer for item in items} == {""}
    assert task.unlabelled(20, seed=1) == items[:20]
    known = {item.id for split in ("train", "validation", "test") for item in task.items(split, 99)}
    assert not known & {item.id for item in items}
    assert task.n_train + len(task.held_out()) == 120, "they are in no split"


def test_rows_of_the_labelled_file_whose_answer_is_empty(tmp_path, monkeypatch, worded, snapshot):
    rows = [
        *tickets(120),
        *({"text": f"open {i}", "label": one} for i, one in enumerate(["", None])),
    ]
    path = write(tmp_path / "tickets.jsonl", rows)
    with pytest.raises(ValueError) as error:
        ClassifyTask(path)
    assert worded(error.value) == snapshot
    left = ClassifyTask(path, on_error="skip")
    assert left.left_out == {"row without an answer": 2}
    problems = left.complaints[0]
    assert isinstance(problems, FileProblems) and problems.path == path
    assert (problems.broken.n_lines, problems.unanswered.n_lines) == (0, 2)
    task = ClassifyTask(path, unlabelled_path=path)
    assert {item.question for item in task.unlabelled(9)} == {"open 0", "open 1"}
    assert task.n_train + len(task.held_out()) == 120
    monkeypatch.chdir(tmp_path)
    same = ClassifyTask(path, unlabelled_path="tickets.jsonl")
    assert same.n_unlabelled == 2
    assert not any(isinstance(complaint, AnswersNotRead) for complaint in same.complaints)


def test_an_answer_is_read_as_the_task_reads_it(tmp_path):
    labelled = write(tmp_path / "tickets.jsonl", tickets(120))
    more = write(tmp_path / "more.jsonl", bare(5))
    task = ClassifyTask(labelled, unlabelled_path=more)
    [item] = task.unlabelled(1)
    found = task.labelled(item, "Answer: BUG")
    assert found is not None
    assert (found.answer, found.id) == ("bug", item.id)
    assert task.labelled(item, "I cannot tell.") is None
    assert task.as_row(item, "") == {"text": item.question, "label": ""}


def test_what_is_not_read_is_said(tmp_path):
    labelled = write(tmp_path / "tickets.jsonl", tickets(120))
    more = write(tmp_path / "more.jsonl", [*bare(5), *tickets(2, start=2000)])
    complaints = ClassifyTask(labelled, unlabelled_path=more).complaints
    assert AnswersNotRead(more, 2, labelled) in complaints
    with pytest.raises(ValueError, match="every line has an answer"):
        ClassifyTask(labelled, unlabelled_path=write(tmp_path / "all.jsonl", tickets(3, 3000)))
    with pytest.raises(ValueError, match="metric=regex the answer of a row is a pattern"):
        JsonlTask(labelled, unlabelled_path=more, metric="regex")
