"""The model that wrote a log: what the log proves of it, and its answers again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from log_rows import EXTRACT, extractions, labels, row, write
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.logs.chat_task import ChatTask
from stratos.contrib.logs.log_task import LogTask
from stratos.contrib.logs.teacher import LoggedTeacher, in_words
from stratos.contrib.logs.words import Doubt, NoCard, NoLog
from stratos.core.context import Context
from stratos.evaluate.verdict import against_logged
from stratos.ledger import Ledger
from stratos.records import TeacherProbe
from stratos.tasks.base import Answered, Item, SideTest
from stratos.teachers.base import Teacher, on_task


def named(rows: list, model: str = "gpt-4o-mini-2024-07-18") -> list:
    return [{**one, "model": model} for one in rows]


def teacher_of(task: LogTask, **settings: str) -> LoggedTeacher:
    teacher = LoggedTeacher(**settings).of(task)
    assert teacher is not None
    return teacher


def measured(task: LogTask) -> TeacherProbe:
    notes, warnings = list[str](), list[str]()
    folder = Path(task.path).parent
    context = Context(
        folder, folder, Ledger(folder / "ledger.jsonl"), note=notes.append, warn=warnings.append
    )
    probe = teacher_of(task).measure(context)
    assert notes == [in_words(probe)]
    assert [one.partition(" (")[0] for one in warnings] == ["The terms of gpt-4o-mini"]
    return probe


def side_test(task: LogTask, items: list[Item]) -> SideTest:
    found = task.side_test(items, 0)
    assert found is not None
    return found


def broken(rows: list, places: Iterable[int]) -> list:
    for k in places:
        rows[k]["response"] = rows[k]["response"][:-1]
    return rows


def test_its_accuracy_is_at_most_what_passes_the_checks(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    # 400 rows: the first 240 train, 60 validate, 100 test.
    rows = broken(named(extractions(400)), range(250, 256))
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    [teacher] = task.teachers()
    assert isinstance(teacher, Teacher) and teacher.is_measured
    assert teacher.unreachable() is None
    found = measured(task)
    proof = found.logged
    assert proof is not None and proof.model == "gpt-4o-mini-2024-07-18"
    assert proof.doubts == {Doubt.NO_JSON.value: 6} and not proof.are_counted
    assert found.exact.mean == pytest.approx(1 - 6 / found.n_items) and found.exact.low > 0.7
    assert found.card.usd_per_million_output_tokens == 0.6 and found.usd == 0
    assert in_words(found) == snapshot


def test_tokens_are_those_of_the_log(tmp_path: Path) -> None:
    rows = [
        {**one, "usage": {"prompt_tokens": 100, "completion_tokens": 7}}
        for one in named(labels(100))
    ]
    found = measured(LogTask(write(tmp_path / "a.jsonl", rows)))
    assert found.input_tokens == 100 * found.n_items and found.output_tokens == 7 * found.n_items
    assert found.logged is not None and found.logged.are_counted


def test_where_nothing_can_be_proven_nothing_is_claimed(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    rows = named(
        [
            row(EXTRACT, one["messages"][1]["content"], one["messages"][1]["content"] * 2, k)
            for k, one in enumerate(labels(120))
        ]
    )
    found = measured(LogTask(write(tmp_path / "a.jsonl", rows)))
    assert not found.exact.is_known and not found.exact.is_share_known
    assert in_words(found) == snapshot
    trusted = LogTask(write(tmp_path / "b.jsonl", named(extractions(100))), answers="trust")
    assert not measured(trusted).exact.is_known
    assert trusted.side_test(trusted.items("test", 5)) is None


def test_a_model_without_a_card_takes_the_price_of_a_named_one(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    task = LogTask(write(tmp_path / "a.jsonl", named(extractions(100), "our-own-7")))
    [unpriced] = task.teachers()
    assert unpriced.unreachable() == NoCard("our-own-7", "logged_model")
    teacher = teacher_of(task, price_of="gpt_4o_mini")
    assert teacher.unreachable() is None
    assert teacher.card().usd_per_million_input_tokens == 0.15
    with pytest.raises(ValueError, match="price_of=gpt_4o_mino: there is no such card"):
        LoggedTeacher(price_of="gpt_4o_mino")


def test_it_is_a_teacher_of_logs_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", named(extractions(100)))
    other = LoggedTeacher(name="other")
    both = (LoggedTeacher(), other)
    bound = on_task(both, LogTask(path))
    assert [isinstance(one, LoggedTeacher) and one.log is not None for one in bound] == [True] * 2
    assert on_task(both, ChatTask(path)) == ()
    [alone] = on_task((other,), ChatTask(path))
    assert alone.unreachable() == NoLog()


def test_logged_answers_are_given_again_and_no_others(tmp_path: Path) -> None:
    rows = named(extractions(200))
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    teacher = teacher_of(task)
    items = task.items("train", 5)
    chats = [task.messages(item, "zero_shot") for item in items]
    answers = teacher.ask(chats, 10)
    assert [one.text for one in answers] == [item.answer for item in items]
    assert all(one.cached for one in answers)
    [held] = task.items("test", 1)
    with pytest.raises(Exception, match="which has no answer to"):
        teacher.ask([task.messages(held, "zero_shot")], 10)


def test_a_student_is_judged_by_the_checks_of_the_log(tmp_path: Path) -> None:
    rows = broken(named(extractions(400)), range(320, 326))
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    doubted = task.doubted(100)
    asked = {rows[k]["messages"][1]["content"] for k in range(320, 326)}
    assert {one.question for one in doubted} == asked
    assert not {one.id for one in doubted} & {one.id for one in task.items("test", 100)}
    [item] = task.items("test", 1)
    assert task.doubt(item, item.answer) is None
    wrong = json.dumps({**json.loads(item.answer), "order": 1})
    assert task.doubt(item, wrong) is None or task.doubt(item, wrong) == Doubt.NOT_SAID
    assert task.doubt(item, "no idea") == Doubt.NO_JSON
    assert task.doubt(item, "") == Doubt.NO_ANSWER
    assert all(task.doubt(one, one.answer) == Doubt.NO_JSON for one in doubted)


def test_the_comparison_asks_the_doubtful_requests_too(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    rows = broken(named(extractions(400)), range(320, 340))
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    items = task.items("test", task.n_test)

    def answered(some, texts):
        return [
            Answered(item, text, task.score(text, item))
            for item, text in zip(some, texts, strict=True)
        ]

    student = answered(items, ["?"] * 10 + [one.answer for one in items[10:]])
    beside = side_test(task, items)
    assert len(beside.items) == 20
    told = beside.compare(
        student, answered(beside.items, [one.answer + "}" for one in beside.items])
    )
    assert told.n_items == len(items) + 20
    assert (told.only_student, told.only_logged) == (20, 10) and told.p_value < 0.2
    assert told.agrees.mean == pytest.approx(1 - 10 / len(items))
    assert told.student_doubts == {Doubt.NO_JSON.value: 10}
    assert told.model == "gpt-4o-mini-2024-07-18"
    assert against_logged(told) == snapshot
    assert len(side_test(task, items[: len(items) // 2]).items) == 10


def test_a_doubtful_answer_to_a_repeat_is_left_out_as_a_good_one_is(tmp_path: Path) -> None:
    rows = named(extractions(400))
    for k in range(240, 280):  # of the validation time: 4 of 40 repeats are broken, and 2 of 20
        early = rows[k - 200]
        asked = early["messages"][1]["content"].replace("is late", "is - late!")
        rows[k] |= {"messages": row(EXTRACT, asked, "", k)["messages"]}
        rows[k]["response"] = early["response"]
    task = LogTask(write(tmp_path / "a.jsonl", broken(rows, [*range(240, 244), 290, 291])))
    assert task.logged.doubts == {Doubt.NO_JSON: 2}
    assert task.logged.n_held == len(task.items("validation", 100)) < 30


@pytest.mark.parametrize("text", ["banana", "positive"])
def test_a_student_that_does_not_agree_is_never_ahead(
    tmp_path: Path, text: str, snapshot: SnapshotAssertion
) -> None:
    rows = named(labels(400))
    for k in range(330, 340):
        rows[k]["response"] = "I'm sorry, but I can't help with that."
    task = LogTask(write(tmp_path / "a.jsonl", rows))
    items = task.items("test", task.n_test)
    beside = side_test(task, items)

    def constant(some):
        return [Answered(item, text, task.score(text, item)) for item in some]

    told = beside.compare(constant(items), constant(beside.items))
    assert len(beside.items) == 10
    assert told.only_logged > told.only_student and told.p_value < 0.05
    assert told.only_student == (0 if text == "banana" else 10)
    alone = beside.compare(constant(items), [])
    assert alone.n_doubtful == 0
    assert [against_logged(one) for one in (told, alone)] == snapshot


def test_a_label_that_no_answer_was_is_doubtful(tmp_path: Path) -> None:
    task = LogTask(write(tmp_path / "a.jsonl", named(labels(200))))
    [item] = task.items("test", 1)
    assert task.doubt(item, "banana") == Doubt.RARE
    assert task.doubt(item, "Positive") is None
