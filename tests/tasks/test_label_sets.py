"""Several labels of one text: recognised in files, read from answers, compared."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from stratos.tasks.base import Item
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.label_sets import LabelSet, SetForm, form_of

WORDS = {"bug": "crash", "billing": "invoice", "praise": "love"}
LABELS = tuple(WORDS)


def rows(n: int = 120) -> list[tuple[str, list[str]]]:
    """Return texts with no, one or two of the labels."""
    draw = random.Random(0)
    found = []
    for k in range(n):
        labels = draw.sample(LABELS, k % 3)
        found.append((f"ticket {k} {' '.join(WORDS[label] for label in labels)}", labels))
    return found


def as_json(path: Path, some: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, some)))
    return str(path)


def as_csv(path: Path, separator: str) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([text, separator.join(labels) or "[]"] for text, labels in rows())
    return str(path)


@pytest.fixture
def task(tmp_path: Path) -> ClassifyTask:
    lines = [{"text": text, "label": labels} for text, labels in rows()]
    return ClassifyTask(as_json(tmp_path / "t.jsonl", lines))


@pytest.mark.parametrize("separator", ["|", ", ", ";"])
def test_lists_and_separators_are_the_same_rows(task, tmp_path, separator):
    other = ClassifyTask(as_csv(tmp_path / "t.csv", separator))
    assert task.has_several_labels and other.has_several_labels
    assert set(task.all_labels) == set(other.all_labels) == set(LABELS)
    answers = [{i.question: i.answer for i in one.items("train", 99)} for one in (task, other)]
    assert answers[0] == answers[1]
    assert {"[]", '["bug"]', '["billing", "praise"]'} <= set(answers[0].values())
    assert task.left_out == other.left_out == {}


def test_what_was_recognised_is_said_and_may_be_refused(tmp_path):
    path = as_csv(tmp_path / "t.csv", ", ")
    note = ClassifyTask(path).notes[0]
    assert "80 of 120 rows" in note, note and "task.separator" in note
    single = ClassifyTask(path, separator="")
    assert not single.has_several_labels and "bug, praise" in single.all_labels


@pytest.mark.parametrize(
    ("answers", "separator"),
    [
        (["yes, please", "no, thanks", "maybe"], None),
        (["home, garden", "home, kitchen", "office, garden", "office, kitchen"], None),
        (["Dear Sir, ...", "a|b", "c"], None),
        (["a, b", "a", "b", "b, a"], ","),
        (["a/b|c", "c", "a/b"], "|"),
        (['["a, b"]', "[]", '["c"]'], ""),
        (["a", "b", "a"], None),
    ],
)
def test_a_separator_is_one_where_what_it_separates_repeats(answers, separator):
    form = form_of(answers)
    assert (None if form is None else form.separator) == separator


def test_a_separator_that_is_named_needs_no_proof():
    assert form_of(["home/garden", "shed"], "/") == SetForm("/", 1, 2)


def test_rows_that_mix_lists_and_labels_are_named(tmp_path):
    lists = [{"text": text, "label": labels} for text, labels in rows()]
    one = [*lists, {"text": "a bare one", "label": "bug"}]
    with pytest.raises(ValueError, match=r'line 121: the answer "?bug"? is no list of labels'):
        ClassifyTask(as_json(tmp_path / "a.jsonl", one))
    bare = [{"text": text, "label": "".join(labels[:1]) or "none"} for text, labels in rows()]
    one = [{"text": "a list", "label": ["bug", "praise"]}, *bare]
    with pytest.raises(ValueError, match=r"line 1: the answer .* is a list"):
        ClassifyTask(as_json(tmp_path / "b.jsonl", one))


def test_labels_that_are_named_bind_every_one_of_a_row(tmp_path):
    lines = [{"text": text, "label": labels} for text, labels in rows()]
    with pytest.raises(ValueError, match="praise"):
        ClassifyTask(as_json(tmp_path / "t.jsonl", lines), labels=("bug", "billing"))


def test_spellings_of_a_label_are_one(tmp_path):
    lines = [{"text": t, "label": [x.upper() for x in labels]} for t, labels in rows(6)]
    lines += [{"text": t, "label": labels} for t, labels in rows()[6:]]
    task = ClassifyTask(as_json(tmp_path / "t.jsonl", lines))
    assert set(task.all_labels) == set(LABELS)
    answers = {item.answer for item in task.items("train", 999)}
    assert all(set(json.loads(answer)) <= set(LABELS) for answer in answers)


def test_an_empty_field_is_no_answer_and_an_empty_list_is(tmp_path):
    lines: list[dict[str, Any]] = [{"text": text, "label": labels} for text, labels in rows()]
    lines += [{"text": f"unlabelled {k}", "label": None} for k in range(5)]
    path = as_json(tmp_path / "t.jsonl", lines)
    task = ClassifyTask(path, unlabelled_path=path)
    assert task.n_unlabelled == 5
    assert any(item.answer == "[]" for item in task.items("train", 999))


def test_a_label_with_few_rows_is_named(tmp_path):
    lines = [{"text": text, "label": labels} for text, labels in rows()]
    lines += [{"text": f"rare {k}", "label": ["bug", "rare"]} for k in range(4)]
    task = ClassifyTask(as_json(tmp_path / "t.jsonl", lines))
    assert any("rare (" in str(reason) for reason in task.complaints)


def test_a_teacher_is_told_the_labels_and_the_form(task):
    item = task.items("test", 1)[0]
    first, *turns = task.messages(item)
    assert all(label in first["content"] for label in LABELS)
    assert "JSON list" in first["content"] and "[]" in first["content"]
    examples = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    assert len(examples) == task.n_examples
    assert all(task.parse(text) is not None for text in examples)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('Answer: ["praise", "Bug"]', '["bug", "praise"]'),
        ("```json\n[]\n```", "[]"),
        ("It crashes and is loved.\nAnswer: bug, praise", '["bug", "praise"]'),
        ("Answer: none", "[]"),
        ("bug", '["bug"]'),
        ('["bug", "weather"]', '["bug", "weather"]'),
        ("Answer: bug and much more", None),
        ("", None),
        ('["bug"] because of [{"why": 1}]', '["bug"]'),
        ('The sets [1] are:\n["see [1]", "a [b]"]', '["a [b]", "see [1]"]'),
    ],
)
def test_answers_of_models_are_read(text, answer):
    assert LabelSet(labels=LABELS).read(text) == answer


def test_a_teacher_s_label_that_is_none_labels_no_row(task):
    item = task.items("train", 1)[0]
    assert task.labelled(item, '["weather"]') is None
    labelled = task.labelled(item, "Answer: praise, bug")
    assert labelled is not None and labelled.answer == '["bug", "praise"]'


@pytest.mark.parametrize(
    ("text", "gold", "exact", "labels"),
    [
        ('["a", "b"]', '["a", "b"]', 1, (4, 4)),
        ('["a"]', '["a", "b"]', 0, (2, 3)),
        ("", '["a", "b"]', 0, (0, 2)),
        ("[]", "[]", 1, (0, 0)),
    ],
)
def test_scores_count_labels(text, gold, exact, labels):
    score = LabelSet(labels=("a", "b")).score(text, Item("", "main", "", gold))
    assert (score.exact, score.labels, score.parsed) == (exact, labels, bool(text))


def test_of_a_row_without_an_answer_it_is_said_what_no_label_is(tmp_path):
    lines: list[dict[str, Any]] = [{"text": text, "label": labels} for text, labels in rows()]
    with pytest.raises(ValueError, match=r"\[\] where no label is right"):
        ClassifyTask(as_json(tmp_path / "t.jsonl", [*lines, {"text": "bare", "label": ""}]))
