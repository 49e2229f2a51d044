"""Rows that are good each by itself, and of which too little can be learnt together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from stratos.tasks.classify import ClassifyTask
from stratos.tasks.doubts import language_of
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.words import (
    AnswersLikeIds,
    LikelyTypos,
    MergedSpellings,
    MoreLabelsThanRows,
    RareLabels,
    SeveralLanguages,
    TooFewRows,
    Typo,
    UnlearnableLabels,
    UnusedLabels,
    WideIntervals,
)

ENGLISH = "Please tell me where the parcel is that you sent, number {i}."
GERMAN = "Bitte sagen Sie mir, wo das Paket ist, das Sie mit der Nummer {i} geschickt haben."


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return str(path)


def templated(path: str, **settings: Any) -> ClassifyTask:
    """Return a task whose questions are of one template, which is no doubt here."""
    return ClassifyTask(path, compares_words=False, **settings)


def tickets(n: int, labels: list[str], text: str = ENGLISH) -> list[dict[str, Any]]:
    return [{"text": text.format(i=i), "label": labels[i % len(labels)]} for i in range(n)]


def test_enough_rows_of_one_kind_raise_no_doubt(tmp_path):
    task = templated(write(tmp_path / "t.jsonl", tickets(400, ["a", "b"])))
    assert task.refusals() == []
    assert task.complaints == ()


def test_six_rows_for_eight_labels_are_refused_with_counts(tmp_path):
    labels = tuple("abcdefgh")
    path = write(tmp_path / "t.jsonl", tickets(6, list("abcdef")))
    refusals = ClassifyTask(path, labels=labels).refusals()
    assert refusals == [MoreLabelsThanRows(path, n_rows=6, n_train=4, n_labels=8, least=5)]


def test_one_validation_row_is_refused(tmp_path):
    rows = [{"question": f"What is {i}?", "answer": f"It is {i}"} for i in range(7)]
    path = write(tmp_path / "q.jsonl", rows)
    n_rows = {"train": 4, "validation": 1, "test": 2}
    assert JsonlTask(path).refusals() == [TooFewRows(path, n_rows, least=2)]


def test_few_rows_are_said_with_what_they_can_tell(tmp_path):
    task = templated(write(tmp_path / "t.jsonl", tickets(80, ["a", "b"])))
    n = {split: len(task.items(split, 99)) for split in ("validation", "test")}
    assert task.complaints == (WideIntervals(n),)


def test_labels_that_differ_in_case_and_spacing_are_one_and_said(tmp_path):
    rows = tickets(400, ["Late  parcel", "refund"])
    for place in (0, 4, 6):
        rows[place]["label"] = "late parcel"
    path = write(tmp_path / "t.jsonl", rows)
    task = templated(path)
    assert {item.answer for item in task.items("train", 999)} == {"Late  parcel", "refund"}
    spellings = {"Late  parcel": {"Late  parcel": 197, "late parcel": 3}}
    assert task.complaints == (MergedSpellings(path, spellings),)


def test_a_label_that_looks_like_another_is_said(tmp_path):
    rows = tickets(400, ["billing", "refund"])
    for place in range(0, 12, 2):
        rows[place]["label"] = "biling"
    complaints = ClassifyTask(write(tmp_path / "t.jsonl", rows)).complaints
    assert LikelyTypos((Typo("biling", 6, "billing", 194),)) in complaints


@pytest.mark.parametrize(
    ("rare", "common", "is_said"),
    [
        ("refnud", "refund", True),
        ("refun", "refund", True),
        ("refundd", "refund", True),
        ("repund", "refund", True),
        ("not urgent", "urgent", False),
        ("level 12", "level 13", False),
        ("cat", "car", False),
    ],
)
def test_a_slip_of_one_key_is_said(tmp_path, rare, common, is_said):
    rows = [*tickets(63, [common, "delivery", "login"]), {"text": "once more", "label": rare}]
    complaints = ClassifyTask(write(tmp_path / "t.jsonl", rows)).complaints
    assert (LikelyTypos((Typo(rare, 1, common, 21),)) in complaints) == is_said


def test_labels_without_rows_are_said(tmp_path):
    rows = [*tickets(400, ["a", "b"]), {"text": "once", "label": "c"}]
    task = templated(write(tmp_path / "t.jsonl", rows), labels=("a", "b", "c", "d"))
    assert task.complaints == (UnusedLabels(("d",)), RareLabels({"c": 1}, least=5))


def test_a_label_of_the_test_file_alone_is_said(tmp_path):
    path = write(tmp_path / "t.jsonl", tickets(200, ["a", "b"]))
    tests = [
        {"text": f"Test of the row {i} that is here", "label": "abc"[i % 3]} for i in range(60)
    ]
    test_path = write(tmp_path / "test.jsonl", tests)
    with pytest.raises(
        ValueError, match=r"line 3, line 6, .*: the label c is in no row of .*t\.jsonl, so that"
    ):
        ClassifyTask(path, test_path=test_path)
    task = ClassifyTask(path, test_path=test_path, labels=("a", "b", "c"))
    assert UnlearnableLabels({"c": 20}) in task.complaints


def test_an_enormous_answer_is_a_broken_line(tmp_path):
    rows = [
        {"question": f"What is {i}?", "answer": "x" * (1 + 30_000 * (i == 2))} for i in range(9)
    ]
    path = write(tmp_path / "q.jsonl", rows)
    with pytest.raises(
        ValueError, match="line 3: its answer has 30,001 characters, and no student"
    ):
        JsonlTask(path)
    skipped = JsonlTask(path, on_error="skip")
    assert skipped.left_out == {"broken line": 1}


def test_two_languages_are_said_with_counts(tmp_path):
    rows = [*tickets(300, ["a", "b"]), *tickets(100, ["a", "b"], GERMAN)]
    path = write(tmp_path / "t.jsonl", rows)
    task = templated(path)
    texts = [item.question for item in task.items("train", 999)]
    n_german = sum(text.startswith("Bitte") for text in texts)
    n_rows = {"English": len(texts) - n_german, "German": n_german}
    assert task.complaints == (SeveralLanguages(path, n_rows, len(texts)),)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "English"),
        (GERMAN, "German"),
        ("Je ne sais pas où est le colis que vous avez envoyé", "French"),
        ("No sé dónde está el paquete que me enviaron por favor", "Spanish"),
        ("Где моя посылка?", "Cyrillic"),
        ("私の荷物はどこですか", "Hiragana"),
        ("SELECT name FROM employees WHERE city = 'Lyon'", None),
        ("12 Baker Street", None),
        ("", None),
    ],
)
def test_languages(text, language):
    assert language_of(text) == language


def test_an_id_in_place_of_the_answer_is_told_from_answers_that_differ(tmp_path):
    def rows(answer: Callable[[int], str], text: str = "text {i}") -> list[dict[str, Any]]:
        return [
            {"question": text.format(i=i), "answer": answer(i), "team": "abc"[i % 3], "x": str(i)}
            for i in range(60)
        ]

    def doubt(name: str, some: list[dict[str, Any]]) -> list[AnswersLikeIds]:
        complaints = JsonlTask(write(tmp_path / name, some)).complaints
        return [one for one in complaints if isinstance(one, AnswersLikeIds)]

    likely = ("task.answer=team (3 different values)",)
    assert doubt("ids.jsonl", rows(lambda i: f"m{i:03d}")) == [
        AnswersLikeIds(str(tmp_path / "ids.jsonl"), "answer", likely)
    ]
    assert doubt("uuids.jsonl", rows(lambda i: str(UUID(int=(i * 7919) % 1009))))
    assert not doubt("mixed.jsonl", rows(lambda i: f"m{(i * 7) % 60:03d}")), "no order"
    assert not doubt("within.jsonl", rows(lambda i: f"m{i:03d}", "find m{i:03d}")), "it is read off"
    assert not doubt("words.jsonl", rows(lambda i: f"about {i}")), "no id has a space"
    bare = [{"question": f"q {i}", "answer": f"{i}"} for i in range(60)]
    assert not doubt("bare.jsonl", bare), "no other field could be the answer"


@pytest.mark.parametrize("n", [60, 300, 11_000])
def test_an_id_is_no_label(tmp_path, n):
    rows = [{"id": f"m{i}", "text": f"t {i}", "label": "abc"[i % 3]} for i in range(n)]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(ValueError) as caught:
        ClassifyTask(path, answer="id")
    likely = ("task.answer=label (3 different values)",)
    assert str(caught.value) == str(AnswersLikeIds(path, "id", likely))


@pytest.mark.parametrize("n", [60, 300])
def test_an_id_that_a_few_rows_share_is_no_label(tmp_path, n):
    rows = [
        {"id": f"m{i - i % 15 // 14}", "text": f"t {i}", "label": "abc"[i % 3]} for i in range(n)
    ]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(ValueError) as caught:
        ClassifyTask(path, answer="id")
    likely = ("task.answer=label (3 different values)",)
    assert str(caught.value) == str(AnswersLikeIds(path, "id", likely))
    assert any(
        isinstance(c, AnswersLikeIds)
        for c in JsonlTask(path, question="text", answer="id").complaints
    )


def test_an_id_beside_no_labels_is_no_label(tmp_path):
    path = write(tmp_path / "t.jsonl", [{"id": f"m{i}", "text": f"t {i}"} for i in range(300)])
    with pytest.raises(ValueError, match=r"if they are ids, .* task.answer=<field>"):
        ClassifyTask(path, answer="id")
