"""Classification: labels, their reading, and everything that is no label."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stratos.tasks.base import Item, Task
from stratos.tasks.classify import ClassifyTask

LABELS = ("bug", "question", "feature request")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def task(tmp_path: Path) -> ClassifyTask:
    rows = [{"text": f"ticket {i}", "label": LABELS[i % 3].upper()} for i in range(300)]
    return ClassifyTask(write(tmp_path / "t.jsonl", rows), labels=LABELS)


def test_keeps_the_contract_and_spells_labels_as_the_set_does(task):
    assert isinstance(task, Task)
    items = task.items("train", 1000)
    assert {item.answer for item in items} == set(LABELS)
    assert task.chance(items[0]) == pytest.approx(1 / 3)
    assert all(item.choices == () for item in items), "three labels are no choice of four"


def test_labels_are_those_of_the_file_where_none_are_named(task, tmp_path):
    assert {i.answer for i in ClassifyTask(task.path).items("train", 99)} == {
        label.upper() for label in LABELS
    }
    many = [{"text": f"t{i}", "label": f"l{i}"} for i in range(500)]
    with pytest.raises(ValueError, match=r"500 different answers .* are they labels\?"):
        ClassifyTask(write(tmp_path / "many.jsonl", many))
    with pytest.raises(ValueError, match="one label only"):
        ClassifyTask(write(tmp_path / "one.jsonl", [{"text": "a", "label": "x"}]))


def test_labels_outside_the_set_are_named_by_line(tmp_path, worded, snapshot):
    rows = [
        {"text": "a", "label": "bug"},
        {"text": "b", "label": "bugs"},
        {"text": "c", "label": "\x1b[2J<b>"},
        {"text": "d", "label": ""},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(ValueError) as caught:
        ClassifyTask(path, labels=LABELS)
    assert worded(caught.value) == snapshot
    for labels in (("a",), ("a", "A"), ("a", "")):
        with pytest.raises(ValueError, match="labels"):
            ClassifyTask(path, labels=labels)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("bug", "bug"),
        ("Answer: Bug.", "bug"),
        ("**Label:** x\nThe answer is: **feature  request**", "feature request"),
        ("It is a question about bugs", "question"),
        ("This is a bug, not a question", None),
        ("bugs", None),
        ("", None),
    ],
)
def test_labels_are_read(task, text, label):
    assert task.parse(text) == label
    assert task.score(text, Item("", "main", "", "bug")).exact == float(label == "bug")


def test_a_label_within_another_is_not_taken_for_it(tmp_path):
    rows = [{"text": f"t{i}", "label": ["good", "very good"][i % 2]} for i in range(50)]
    task = ClassifyTask(write(tmp_path / "g.jsonl", rows))
    assert task.parse("It is very good indeed") == "very good"


def test_examples_show_all_labels_in_turn(task):
    item = task.items("validation", 1)[0]
    chat = task.messages(item)
    labels = ", ".join(LABELS)
    assert chat[0]["content"].startswith(f"Classify the text. The labels are: {labels}.")
    answers = [m["content"] for m in chat if m["role"] == "assistant"]
    assert Counter(answers).most_common()[-1][1] >= 2
    assert len(answers) == 8


def test_four_labels_are_a_choice(tmp_path):
    rows = [{"text": f"t{i}", "label": "abcd"[i % 4]} for i in range(80)]
    task = ClassifyTask(write(tmp_path / "f.jsonl", rows))
    for item in task.items("train", 80):
        assert sorted(item.choices) == list("abcd")
