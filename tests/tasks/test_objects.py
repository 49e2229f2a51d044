"""Answers that are JSON objects: read out of a text, and compared whatever their spelling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stratos.tasks.answers import fields_of, nested, object_of, same
from stratos.tasks.jsonl import JsonlTask

GOLD = {"name": "Ann Lee", "n": 2, "at": {"city": "York", "open": True}, "tags": ["a", "b"]}


@pytest.fixture
def task(tmp_path: Path) -> JsonlTask:
    rows = [{"question": f"mail {i}", "answer": {**GOLD, "n": i}} for i in range(40)]
    path = tmp_path / "mails.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return JsonlTask(str(path))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOLD),
        json.dumps(GOLD, indent=2),
        json.dumps(dict(reversed(GOLD.items())), separators=(",", ":")),
        f"Answer: {json.dumps(GOLD)}",
        f"Answer: {json.dumps(GOLD)}\nI hope that this helps.",
        f"Here it is:\n```json\n{json.dumps(GOLD, indent=1)}\n```",
        f"**Answer:**\n```json\n{json.dumps(GOLD)}\n```\nDone.",
        json.dumps({**GOLD, "name": "ann  LEE", "n": 2.0}),
    ],
)
def test_an_object_is_right_however_it_is_written(task, text):
    item = next(i for s in ("train", "validation", "test") for i in task.items(s, 99) if i)
    item = item.__class__(item.id, item.slice, item.question, json.dumps(GOLD))
    assert task.score(text, item).exact == 1


@pytest.mark.parametrize(
    "other",
    [
        {**GOLD, "n": 3},
        {**GOLD, "n": "2"},
        {**GOLD, "at": {"city": "York", "open": 1}},
        {**GOLD, "more": None},
        {key: value for key, value in GOLD.items() if key != "n"},
        {**GOLD, "tags": ["b", "a"]},
    ],
)
def test_an_object_with_another_value_is_wrong(other):
    assert not same(GOLD, other)
    assert same(GOLD, json.loads(json.dumps(GOLD)))


def test_objects_of_a_file_are_answers(task):
    item = task.items("train", 1)[0]
    assert object_of(item.answer) == {**GOLD, "n": json.loads(item.answer)["n"]}
    assert task.completion(item) == item.answer
    assert task.score(item.answer, item).exact == 1


def test_fields_are_named_by_where_they_are():
    assert fields_of({**GOLD, "a.b": {}}) == {
        ("name",): "Ann Lee",
        ("n",): 2,
        ("at", "city"): "York",
        ("at", "open"): True,
        ("tags",): ["a", "b"],
        ("a.b",): {},
    }
    assert nested(fields_of({**GOLD, "a.b": {}})) == {**GOLD, "a.b": {}}


def test_what_is_no_object_is_read_as_before():
    assert object_of("{") is None
    assert object_of('{"a": 1} and more') is None
    assert object_of("[" * 100_000 + "{" * 100_000 + "}") is None
    assert object_of(r"\boxed{5}") is None


def test_labels_that_are_true_or_false_are_texts(tmp_path):
    rows = [{"question": f"mail {i}", "answer": i % 2 == 0} for i in range(40)]
    path = tmp_path / "spam.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert {item.answer for item in JsonlTask(str(path)).items("train", 99)} == {"true", "false"}
