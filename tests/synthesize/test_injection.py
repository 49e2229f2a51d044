"""Injection: who writes the reasoning, how it is checked without the answer, and the balance."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from stratos.core.errors import TeacherError
from stratos.synthesize.injection import SURPLUS, Injection, Made, balanced
from stratos.synthesize.rationale import reading, request
from stratos.synthesize.strategy import NotWritten, Tally
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.mahjong import MahjongTask
from stratos.tasks.math import MathTask
from stratos.teachers.base import Answer, Question
from tests.synthesize.adder import Adder, rows_of, run, sums


@dataclass
class Explainer(Adder):
    """Explains sums; what it writes about a number depends on the number modulo 5.

    0: a reasoning that holds. 1: one that leans on the answer, mended when told. 2: one that reads
    as another answer, never mended. 3: none at all. 4: one that ends elsewhere, mended when told.
    """

    requests: list[Any] = field(default_factory=list)
    readings: list[Any] = field(default_factory=list)

    def identity(self) -> str:
        return "explainer"

    def reply(self, chat: Any) -> Answer:
        text = self._read(chat) if "Somebody's" in chat[1]["content"] else self._write(chat)
        return Answer(text, 10, 5, 0.0)

    def _read(self, chat: Any) -> str:
        self.readings.append(chat)
        body = chat[1]["content"]
        number = int(body.split("What is ")[1].split()[0])
        return f"Answer: {2 * number + (number % 5 == 2)}"

    def _write(self, chat: Any) -> str:
        self.requests.append(chat)
        number = int(chat[1]["content"].split("What is ")[1].split()[0])
        again, kind = len(chat) > 2, number % 5
        body = f"We take {number} and we put another {number} on top of it."
        if kind == 1 and not again:
            body = "We know the given answer, and so it has to be this one."
        if kind == 3:
            body = ""
        total = 2 * number + (kind == 4 and not again)
        return f"{body}\nSo the answer is {total}."


def bare(folder: Path, n: int = 300) -> JsonlTask:
    path = folder / "bare.jsonl"
    rows = [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(n)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return JsonlTask(str(path), metric="numeric")


def kinds(rows: list[dict[str, str]]) -> Counter[int]:
    return Counter(int(row["question"].split()[2]) % 5 for row in rows)


def test_the_teacher_writes_what_holds_without_the_answer(tmp_path):
    task, teacher = bare(tmp_path), Explainer()
    strategy = Injection(n_items=1000, rationale="teacher")
    corpus, warnings = run(tmp_path, task, strategy, (teacher,))
    all_kinds = kinds([{"question": item.question} for item in task.items("train", 1000)])
    rows = rows_of(corpus)
    assert kinds(rows) == {k: n for k, n in all_kinds.items() if k in (0, 1, 4)}
    assert corpus.refused == {
        NotWritten.LEADS_ELSEWHERE.value: all_kinds[2],
        NotWritten.NO_REASONING.value: all_kinds[3],
    }
    number = int(rows[0]["question"].split()[2])
    assert rows[0]["rationale"].startswith(f"We take {number} and we put another {number}")
    assert rows[0]["completion"] == f"{rows[0]['rationale']}\nAnswer: {2 * number}"
    assert warnings == []
    # The request holds the answer, the reading never does.
    assert all("The answer is" in chat[1]["content"] for chat in teacher.requests)
    assert teacher.readings
    for chat in teacher.readings:
        number = int(chat[1]["content"].split("What is ")[1].split()[0])
        assert str(2 * number) not in chat[1]["content"].split() or 2 * number in (0, number)
    # What was refused is told why.
    complaints = [chat[-1]["content"] for chat in teacher.requests if len(chat) > 2]
    for reason in (NotWritten.MENTIONS_ANSWER, NotWritten.OTHER_ANSWER):
        assert any(str(reason) in text for text in complaints)


class Narrow(Explainer):
    """Can neither read requests about multiples of five nor read again those about the next."""

    def too_long(self, question: Question) -> str | None:
        text = question.chat[1]["content"]
        number = int(text.split("What is ")[1].split()[0])
        unread = 0 if "The answer is" in text else 1
        return "so it is" if number % 5 == unread else None


def test_what_passes_the_context_is_refused_under_that_name(tmp_path):
    task, teacher = bare(tmp_path), Narrow()
    corpus, _ = run(tmp_path, task, Injection(n_items=1000, rationale="teacher"), (teacher,))
    all_kinds = kinds([{"question": item.question} for item in task.items("train", 1000)])
    assert set(kinds(rows_of(corpus))) == {4}
    assert corpus.refused[NotWritten.UNREAD.value] == all_kinds[0] + all_kinds[1]


def test_without_retries_what_could_be_mended_is_refused(tmp_path):
    task = bare(tmp_path)
    strategy = Injection(n_items=1000, rationale="teacher", n_retries=0)
    corpus, _ = run(tmp_path, task, strategy, (Explainer(),))
    assert set(kinds(rows_of(corpus))) == {0}
    assert set(corpus.refused) == {
        reason.value
        for reason in NotWritten
        if reason not in (NotWritten.NO_MONEY, NotWritten.UNREAD)
    }


def test_what_the_teacher_cannot_explain_falls_to_the_file(tmp_path):
    task = sums(tmp_path)
    corpus, _ = run(tmp_path, task, Injection(n_items=1000, rationale="teacher"), (Explainer(),))
    rows = rows_of(corpus)
    assert len(rows) == len(task.items("train", 1000))
    by_teacher = {_kind(row) for row in rows if "We take" in row["rationale"]}
    by_file = {_kind(row) for row in rows if "so the answer" in row["rationale"]}
    assert (by_teacher, by_file) == ({0, 1, 4}, {2, 3})


def _kind(row: dict[str, str]) -> int:
    return int(row["question"].split()[2]) % 5


@dataclass
class Babbler(Explainer):
    """Never writes a reasoning."""

    def _write(self, chat: Any) -> str:
        self.requests.append(chat)
        return "No."


def test_a_teacher_whose_reasoning_never_holds_writes_no_more(tmp_path):
    strategy = Injection(n_items=200, rationale="teacher", n_retries=0, balance=0.0)
    teacher = Babbler()
    corpus, warnings = run(tmp_path, sums(tmp_path), strategy, (teacher,))
    assert corpus.n_items == 200  # the file's own paths
    assert len(teacher.requests) == 64
    assert any("none of its first 64 reasonings held" in line for line in warnings)
    bare = replace(sums(tmp_path), rationale=None)
    with pytest.raises(
        TeacherError, match=r"None of the first 64 reasonings of teacher adder held"
    ):
        run(tmp_path, bare, strategy, (Babbler(),))


def test_steps_are_checked_where_the_task_can(tmp_path):
    @dataclass
    class Wrong(Explainer):
        def _write(self, chat: Any) -> str:
            number = int(chat[1]["content"].split("What is ")[1].split()[0])
            shown = 2 * number + (number % 2)
            return f"We add up, {number} + {number} = {shown}.\nAnswer: {2 * number}"

    path = bare(tmp_path).path
    task, teacher = MathTask(path), Wrong()
    corpus, _ = run(tmp_path, task, Injection(n_items=1000, rationale="teacher"), (teacher,))
    assert {int(row["question"].split()[2]) % 2 for row in rows_of(corpus)} == {0}
    assert set(corpus.refused) == {"a step is wrong"}
    assert teacher.readings == [], "checked steps need no second reading"


def test_a_labelled_set_without_reasoning_is_learnt_bare(tmp_path):
    corpus, warnings = run(tmp_path, bare(tmp_path), Injection(n_items=1000))
    assert corpus.n_items > 100
    assert all(row["completion"] == row["answer"] for row in rows_of(corpus))
    assert (corpus.refused, warnings) == ({}, [])


def test_without_reasoning_the_bare_answer_of_what_holds_is_learnt(tmp_path):
    task = sums(tmp_path, wrong=tuple(range(0, 600, 2)))
    corpus, _ = run(tmp_path, task, Injection(n_items=1000, rationale="none"))
    rows = rows_of(corpus)
    assert all(row["completion"] == row["answer"] for row in rows)
    assert {int(row["question"].split()[2]) % 2 for row in rows} == {1}
    assert set(corpus.refused) == {"unverified"}


def test_the_reading_holds_neither_answer_nor_conclusion():
    item = Item("i", "main", "What is 3 + 4?", "7")
    assert "7" in request(item)[1]["content"]
    assert "7" not in reading(item, "Three and four.")[1]["content"]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_difficulties_are_evened_out(strength):
    def drawn() -> Any:
        for k in range(20_000):
            n_steps = 1 if k % 10 < 7 else k % 10
            yield Item(str(k), "main", f"q{k}", "a", rationale="x" * n_steps)

    tally = Tally()
    admitted = balanced(map(Made, drawn()), strength, 2000, MahjongTask(), tally)
    items = [made.item for made in admitted][:2000]
    counts = Counter(len(item.rationale) for item in items)
    share = counts[1] / len(items)
    levels = 3  # 1, up to 7, and above
    assert share == pytest.approx((1 - strength) * 0.7 + strength / levels, abs=0.06)
    assert tally.refused[SURPLUS] > 0


def test_wrong_settings():
    with pytest.raises(ValueError, match="at least 1"):
        Injection(n_items=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Injection(balance=2.0)
