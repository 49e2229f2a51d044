"""Of few conversations more are made, with other values and words, and only where they help."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_traces import TOOLS, call, conversation, result, said, user

from stratos.contrib.tools import call_learner, trace_drawer
from stratos.contrib.tools.call_learner import CallerLearner, HeldOut, States, learnt, year_in
from stratos.contrib.tools.call_student import Caller
from stratos.contrib.tools.calls import calls_of, why_invalid
from stratos.contrib.tools.grounding import is_grounded, times, tokens
from stratos.contrib.tools.signatures import messages_in, tools_in, tools_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.contrib.tools.trace_checks import doubtful_turns
from stratos.contrib.tools.trace_drawer import TraceDrawer, made_of, recorded_of
from stratos.contrib.tools.trace_variables import Kind, Recorded

N_FEW, N_MADE = 5, 20


@pytest.fixture(scope="module", autouse=True)
def few_are_made() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_drawer, "N_MADE", N_MADE)
        yield


def task_of(folder: Path, n: int, **keys: Any) -> ToolsTask:
    paths = {"train": range(n), "test": range(1000, 1040)}
    for name, numbers in paths.items():
        rows = ({"messages": conversation(k), "tools": TOOLS} for k in numbers)
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    path, test_path = (str(folder / f"{name}.jsonl") for name in paths)
    return ToolsTask(path, test_path=test_path, validation_share=0.01, **keys)


def rows_of(task: ToolsTask) -> tuple[tuple[str, ...], tuple[str, ...]]:
    items = [*task.items("train", 9999), *task.items("validation", 9999)]
    return tuple(item.question for item in items), tuple(item.answer for item in items)


def right_calls(task: ToolsTask, student: Caller) -> float:
    items = [item for item in task.items("test", 9999) if item.slice != "text"]
    given = student.predict([item.question for item in items])
    scores = [task.score(p.text, item).exact for p, item in zip(given, items, strict=True)]
    return sum(scores) / len(scores)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ToolsTask:
    return task_of(tmp_path_factory.mktemp("few"), N_FEW)


@pytest.fixture(scope="module")
def recorded(task: ToolsTask) -> list[Recorded]:
    return recorded_of(*rows_of(task))


def test_the_conversations_of_rows_are_found_again(recorded: list[Recorded]) -> None:
    assert len(recorded) == N_FEW
    lengths = sorted(len(conversation(k)) for k in range(N_FEW))
    assert sorted(len(each.messages) for each in recorded) == lengths
    for each in recorded:
        spoken = {k for k, message in enumerate(each.messages) if message["role"] == "assistant"}
        assert each.learnt == spoken


def test_what_a_call_takes_from_the_conversation_is_a_variable(recorded: list[Recorded]) -> None:
    for each in recorded:
        values = {variable.value: variable.kind for variable in each.variables}
        for message in each.messages:
            for made in message.get("tool_calls", ()):
                arguments = made["arguments"]
                if made["name"] == "reserve_table":
                    assert values[arguments["time"]] is Kind.TIME
                    assert values[arguments["name"]] is Kind.NAME
                elif made["name"] == "cancel_reservation":
                    assert values[arguments["code"]] is Kind.ID


def test_made_conversations_are_new_valid_and_say_what_they_call_with(task: ToolsTask) -> None:
    rows = made_of(*rows_of(task), seed=0)
    assert len(rows) > 70
    assert rows == made_of(*rows_of(task), seed=0)
    known = {*rows_of(task)[0]}
    assert len(known & {question for question, _ in rows}) < 5
    codes, cities = set(), set()
    for question, answer in rows:
        context = {
            word: None
            for message in messages_in(question)
            for word in (*tokens(message["content"]), *times(message["content"]))
        }
        for made in calls_of(answer) if answer[:1] == "[" else ():
            assert why_invalid([made], tools_in(question)) is None
            for name, value in made.arguments.items():
                assert is_grounded(value, context), (name, value, question[-400:])
            codes.add(made.arguments.get("code"))
            cities.add(made.arguments.get("city"))
    assert len(codes) > 4 and len(cities) > 6


def test_no_made_conversation_is_doubtful(recorded: list[Recorded]) -> None:
    made = [*TraceDrawer(recorded).conversations(40, seed=1)]
    assert len(made) == 40
    doubts = doubtful_turns([each.turns for each in made], TOOLS)
    assert len({doubt.conversation for doubt in doubts}) < 6


def stay(k: int) -> dict[str, Any]:
    """Return a conversation whose values any word may be next to."""
    draw = random.Random(k)
    names = FEW_HOTELS if k < N_FEW else OTHER_HOTELS
    hotel, city, nights, people = draw.choice(names), draw.choice(CITIES), *draw.sample(
        range(2, 10), 2)  # fmt: skip
    parts = [f"{people} people", f"{nights} nights", f"the {hotel} in {city}"]
    draw.shuffle(parts)
    wanted = {"hotel": hotel, "city": city, "nights": nights, "people": people}
    messages = [user(f"I need {parts[0]}, {parts[1]}, {parts[2]}"), call(1, "book_stay", **wanted),
                result(1, code=f"S{k:04d}"), said(f"It is booked, code S{k:04d}.")]  # fmt: skip
    return {"messages": messages, "tools": [STAY]}


CITIES = ("Oslo", "Rome", "Porto", "Lyon", "Graz", "San Marino", "Cork")
FEW_HOTELS = ("Grand Palace", "Old Mill", "Sea View", "Royal Garden", "Blue Star")
OTHER_HOTELS = ("Quiet Fox", "Red Lantern Lodge", "Iris", "Silver Birch", "Tall Pine")
STAY = {"type": "function", "function": {"name": "book_stay", "parameters": {
    "type": "object", "required": ["hotel", "city", "nights", "people"], "properties": {
        "hotel": {"type": "string"}, "city": {"type": "string"},
        "nights": {"type": "integer"}, "people": {"type": "integer"}}}}}  # fmt: skip


def test_they_help_a_student_of_few_conversations_and_are_learnt_again(tmp_path: Path) -> None:
    paths = []
    for name, numbers in (("train", range(N_FEW)), ("test", range(100, 150))):
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(f"{json.dumps(stay(k))}\n" for k in numbers))
    task = ToolsTask(str(paths[0]), test_path=str(paths[1]), validation_share=0.01)
    rows = rows_of(task)
    fit = CallerLearner().fit(*rows, task)
    assert isinstance(fit.student, Caller) and fit.student.n_made >= N_MADE
    assert "made of these" in fit.accuracy.source
    alone = learnt(States.of(rows[0], "2026"), rows[1], 0)
    assert right_calls(task, fit.student) > right_calls(task, alone) + 0.1
    fit.student.save(tmp_path)
    again = CallerLearner().fit_again(tmp_path, *rows, task)
    assert isinstance(again, Caller) and again.n_made == fit.student.n_made


def test_they_are_left_out_where_they_do_not_help(
    task: ToolsTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(texts: Any, answers: Any, seed: int) -> list[tuple[str, str]]:
        rows = made_of(texts, answers, seed)
        answers = [answer for _, answer in rows]
        random.Random(0).shuffle(answers)
        return [(question, answer) for (question, _), answer in zip(rows, answers, strict=True)]

    monkeypatch.setattr(call_learner, "made_of", swapped)
    fit = CallerLearner().fit(*rows_of(task), task, seed=3)
    assert isinstance(fit.student, Caller) and fit.student.n_made == 0
    assert "made" not in fit.accuracy.source


def test_the_better_of_two_is_not_shown_too_good(
    task: ToolsTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, draw = 200, np.random.default_rng(0)
    names = [str(row) for row in range(n)]
    tried = [
        HeldOut(np.full(n, 0.5), draw.random(n) < 0.5, np.arange(n) % 2 == 0, names)
        for _ in range(2)
    ]  # neither is better: each answers by chance
    answered = iter(tried)
    monkeypatch.setattr(call_learner, "held_out_answers", lambda *_, **__: next(answered))
    fit = CallerLearner().fit(*rows_of(task), task, seed=4)
    better = max(float(each.right.mean()) for each in tried)
    assert fit.accuracy.mean < better - 0.005


def test_none_are_made_of_many_and_of_single_requests(tmp_path: Path) -> None:
    assert recorded_of(*rows_of(task_of(tmp_path, 60))) == []
    task = task_of(tmp_path, N_FEW)
    texts, answers = rows_of(task)
    alone = [k for k, text in enumerate(texts) if len(messages_in(text)) < 2]
    assert made_of([texts[k] for k in alone], [answers[k] for k in alone], 0) == []


def test_the_strategy_learns_the_rows_and_the_made_turns(task: ToolsTask) -> None:
    n = task.n_train
    items = [*task.reverse(n + 50)]
    assert len(items) == n + 50 and task.n_made > 70
    assert [item.id for item in items[:n]] == [item.id for item in task.items("train", n)]
    for item in items:
        assert task.verify(item) is None
        assert task.score(item.answer, item).exact == 1
    held_out = {item.question for item in task.held_out()}
    assert not held_out & {item.question for item in items}


def variables_are_found(day: str, words: str, people: int, number: str) -> None:
    tool = {"name": "book", "parameters": {"type": "object", "required": ["day", "people"],
            "properties": {"day": {"type": "string"}, "people": {"type": "integer"}}}}  # fmt: skip
    asked = f"A table on {words} for {number} people, at 7:30 pm"
    messages = [user(asked), call(1, "book", day=day, people=people), result(1, day=day),
                said(f"Booked for {words}.")]  # fmt: skip
    plain = [
        {"role": m["role"], "content": m["content"] or ""}
        | ({"tool_calls": [{"name": "book", "arguments": {"day": day, "people": people}}]}
           if "tool_calls" in m else {})
        for m in messages
    ]  # fmt: skip
    recorded = Recorded(tools_of([tool]), plain, frozenset((1, 3)), frozenset())
    assert {v.kind: v.value for v in recorded.variables} == {
        Kind.DATE: day, Kind.NUMBER: people, Kind.TIME: "19:30",
    }  # fmt: skip
    texts = [
        plain[k]["content"][span.start : span.end]
        for k, spans in enumerate(recorded.spans)
        for span in spans
    ]
    assert texts == [words, number, "7:30 pm", day, words]


@pytest.mark.parametrize(
    ("day", "words", "people", "number"),
    [
        ("2026-03-05", "March 5th", 4, "four"),
        ("2026-03-05", "the 5th of March", 12, "12"),
        ("2026-11-21", "Nov 21", 2, "2"),
    ],
)
def test_dates_times_and_numbers_are_found_in_any_wording(
    day: str, words: str, people: int, number: str
) -> None:
    variables_are_found(day, words, people, number)


def test_a_year_is_that_of_calls_else_of_texts_else_of_today() -> None:
    of_call = ['[{"name": "book", "arguments": {"day": "2031-04-01"}}]', "2029-01-01"]
    assert year_in(of_call, ["on 2030-05-05"]) == "2031"
    assert year_in(["[]"], ["logged 2030-05-05T10:00", "2030-06-01 and 2029-01-01"]) == "2030"
    assert year_in(["[]"], ["no date"]).startswith("20")


class Unhashable(ToolsTask):
    """A task of the user's own."""

    __hash__ = None  # type: ignore[assignment]


def test_a_task_without_a_hash_is_learnt_once(task: ToolsTask) -> None:
    rows = tuple(map(tuple, rows_of(task)))
    keys = {"test_path": task.test_path, "validation_share": 0.01}
    first = CallerLearner().fit(*rows, Unhashable(task.path, **keys))  # type: ignore[arg-type]
    again = CallerLearner().fit(*rows, Unhashable(task.path, **keys))  # type: ignore[arg-type]
    assert again is first
    assert CallerLearner().fit(*rows, replace(task)) is not first
