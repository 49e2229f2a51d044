"""Rows of a file that are nearly the same are of one split, and other rows stay where they were."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stratos.tasks import doubts
from stratos.tasks.base import Item
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.dedup import near as near_duplicates
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.table import Rows
from stratos.tasks.words import NearTest

WORDS = [f"{one}{two}{three}" for one in "bdklm" for two in "aeiou" for three in "nrst"]
SPLITS = ("train", "validation", "test")
COPIES = 4


def texts(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=20)) for _ in range(n)]


def copies(text: str, n: int = COPIES) -> list[str]:
    """Return a text with another last word in each."""
    start = text.rpartition(" ")[0]
    return [f"{start} {word}" for word in ("one", "two", "three", "four", "five", "six")[:n]]


def write(path: Path, questions: Sequence[str], labels: Sequence[str] = ()) -> str:
    answers = labels or [f"answer {hash_of(question)}" for question in questions]
    rows = [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def hash_of(text: str) -> int:
    return sum(map(ord, text)) * len(text)


def split_of(task: JsonlTask) -> dict[str, str]:
    held: dict[str, list[Item]] = {
        "train": task.items("train", 10_000),
        "validation": task.items("validation", 10_000),
        "test": task.items("test", 10_000),
    }
    return {item.question: split for split, items in held.items() for item in items}


def test_near_duplicates_are_of_one_split_whatever_the_order(tmp_path):
    alone, bases = texts(400, 0), texts(30, 1)
    questions = [*alone, *(copy for base in bases for copy in copies(base))]
    path = write(tmp_path / "rows.jsonl", questions)
    task = JsonlTask(path)
    split = split_of(task)
    assert len(split) == len(questions)
    for base in bases:
        assert len({split[copy] for copy in copies(base)}) == 1
    assert {split[copies(base)[0]] for base in bases} == set(SPLITS)
    assert f"in one split: {len(bases) * COPIES} rows, so the test" in task.notes[0]
    apart = JsonlTask(path, compares_words=False)
    before = split_of(apart)
    assert any(len({before[copy] for copy in copies(base)}) > 1 for base in bases)
    assert all(split[text] == before[text] for text in alone)
    assert task.content_sha256 != apart.content_sha256, "resumed runs notice another split"
    random.Random(2).shuffle(questions)
    assert split_of(JsonlTask(write(tmp_path / "shuffled.jsonl", questions))) == split


@pytest.mark.parametrize("n", [12, 60, 600])
def test_a_file_without_near_duplicates_is_split_as_ever(n, tmp_path):
    path = write(tmp_path / "rows.jsonl", texts(n, 3))
    one, other = JsonlTask(path), JsonlTask(path, compares_words=False)
    assert split_of(one) == split_of(other)
    assert one.content_sha256 == other.content_sha256
    assert one.notes == other.notes and "ear duplicate" not in "".join(one.notes)


def test_training_rows_that_nearly_are_of_the_test_file_are_left_out(tmp_path):
    alone, bases = texts(200, 4), texts(5, 5)
    first = write(tmp_path / "train.jsonl", [*alone, *(copies(base)[0] for base in bases)])
    tested = [*texts(60, 6), *(copies(base)[1] for base in bases)]
    task = JsonlTask(first, test_path=write(tmp_path / "test.jsonl", tested))
    assert task.left_out == {doubts.NEAR: 5}
    assert task.n_test == 65 and task.n_train < 200
    assert f"Left out of {first} and {task.test_path}: {doubts.NEAR}: 5." in task.notes


def test_labels_written_from_one_template_each_stay_in_every_split(tmp_path):
    bases = texts(30, 7)
    questions = [copy for base in bases for copy in copies(base, 6)]
    labels = [f"label {k}" for k in range(len(bases)) for _ in range(6)]
    task = ClassifyTask(write(tmp_path / "rows.jsonl", questions, labels))
    before = ClassifyTask(str(tmp_path / "rows.jsonl"), compares_words=False)
    assert split_of(task) == split_of(before)
    assert task.content_sha256 == before.content_sha256
    [note] = [note for note in task.notes if "Near duplicates: 180 rows, as of templates" in note]
    assert "They are in several splits" in note


def test_of_many_rows_only_exact_duplicates_are_looked_for(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.jsonl", [*texts(90, 8), *copies(texts(1, 9)[0])])
    told: dict[str, Any] = defaultdict(list)
    for name, limit in (("MOST_ROWS", 93), ("MOST_CHARACTERS", 2000)):
        with monkeypatch.context() as patch:
            patch.setattr(near_duplicates, name, limit)
            task = JsonlTask(path, name=name)  # is read anew
            told[name] = task.notes[0]
            assert split_of(task) == split_of(JsonlTask(path, compares_words=False))
    assert "there are more than 93 rows." in told["MOST_ROWS"]
    assert "have more than 2,000 characters." in told["MOST_CHARACTERS"]


def templated(n_texts: int, n_words: int, n_copies: int = 10) -> tuple[list[str], list[str]]:
    """Return copies of short texts that differ in a word each, and a random label of each text."""
    rng = random.Random(n_words)
    questions, labels = [], []
    for _ in range(n_texts):
        base, label = rng.choices(WORDS, k=n_words), f"label {rng.randrange(6)}"
        for _ in range(n_copies):
            words = list(base)
            words[rng.randrange(n_words)] = rng.choice(WORDS)
            questions.append(" ".join(words))
            labels.append(label)
    return questions, labels


@pytest.mark.parametrize("n_words", [7, 9, 12, 20])
def test_short_texts_with_one_answer_that_differ_in_a_word_are_of_one_split(n_words, tmp_path):
    questions, labels = templated(60, n_words)
    task = ClassifyTask(write(tmp_path / "rows.jsonl", questions, labels), on_error="skip")
    split = split_of(task)
    for k in range(0, len(questions), 10):
        assert len({split[q] for q in questions[k : k + 10] if q in split}) == 1
    assert task.splits.n_near_test == 0
    assert min(len(rows) for rows in task.splits.rows.values()) > 60


def test_short_texts_with_other_answers_stay_apart(tmp_path):
    questions, _ = templated(10, 7)
    labels = [f"label {k % 3}" for k in range(len(questions))]  # alike texts have three of them
    rows = Rows.concat([ClassifyTask(write(tmp_path / "r.jsonl", questions, labels)).splits.pool])
    groups = near_duplicates.Near.among(rows).edited
    assert len(np.unique(groups.keys)) == 30


@pytest.mark.parametrize("n_templates", [2, 6])
def test_test_questions_of_a_training_template_are_counted(n_templates, tmp_path):
    questions, labels = templated(n_templates, 9, 60)
    labels = [f"label {k // 60}" for k in range(len(labels))]
    task = ClassifyTask(write(tmp_path / "rows.jsonl", questions, labels), on_error="skip")
    assert task.splits.n_near_test == task.n_test > 10
    assert NearTest(task.n_test, task.n_test) in task.complaints
    assert f"Of the test {task.n_test} are within a word or two" in task.notes[0]


def test_a_file_of_test_questions_leaves_training_rows_with_another_word(tmp_path):
    questions, labels = templated(30, 7)
    train = write(tmp_path / "train.jsonl", questions[::2], labels[::2])
    tested = write(tmp_path / "test.jsonl", questions[1::2], labels[1::2])
    task = ClassifyTask(train, test_path=tested, on_error="skip")
    assert task.left_out.get(doubts.NEAR, 0) < 10
    assert task.splits.n_near_test > task.n_test / 2


@pytest.mark.parametrize("n_alone", [60, 4000])
def test_that_the_test_asks_in_other_wordings_is_said_where_many_rows_are_alike(n_alone, tmp_path):
    questions, labels = templated(60, 12)
    alone = texts(n_alone, 11)
    labels += [f"label {k % 6}" for k in range(n_alone)]
    path = write(tmp_path / "rows.jsonl", [*questions, *alone], labels)
    task = ClassifyTask(path, on_error="skip")
    is_many = n_alone == 60
    assert task.tests_other_wordings == is_many
    so = "so the test has other wordings"
    assert (so in task.notes[0]) == is_many
    items = task.items("test", 10_000)
    groups = task.groups_of(items)
    of_group = {item.question: group for item, group in zip(items, groups, strict=True)}
    for k in range(0, len(questions), 10):
        assert len({of_group[q] for q in questions[k : k + 10] if q in of_group}) <= 1
    assert len({of_group[text] for text in alone if text in of_group}) == sum(
        text in of_group for text in alone
    )
    apart = ClassifyTask(path, on_error="skip", compares_words=False)
    assert not apart.tests_other_wordings
    of_test = ClassifyTask(path, on_error="skip", test_path=path)
    assert not of_test.tests_other_wordings
