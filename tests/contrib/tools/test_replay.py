"""Whole conversations, walked with a model's own answers against tools that answer from the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_traces import TOOLS, conversation, lines, user

from stratos.contrib.tools.calls import calls_of
from stratos.contrib.tools.replay import Conversations
from stratos.contrib.tools.signatures import messages_in
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.core.intervals import wilson
from stratos.evaluate.baselines import replayed
from stratos.evaluate.verdict import whole_conversations
from stratos.records import EarlierReads, ModelScore, Replay, Scorecard, SliceScore
from stratos.tasks.base import Item

N = 60


def task_of(folder: Path, form: str = "openai", n: int = N, **settings: Any) -> ToolsTask:
    path = folder / f"{form}.jsonl"
    path.write_text(lines(form, n))
    return ToolsTask(str(path), compares_words=False, answers="trust", **settings)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ToolsTask:
    return task_of(tmp_path_factory.mktemp("traces"))


@pytest.fixture(scope="module")
def walks(task: ToolsTask) -> Conversations:
    walks = task.conversations()
    assert walks is not None
    return walks


def gold(items: Sequence[Item]) -> list[str]:
    return [item.answer for item in items]


def test_right_answers_finish_every_conversation(task: ToolsTask, walks: Conversations) -> None:
    replay = walks.replay(gold)
    assert (replay.whole.mean, replay.whole_calls.mean) == (1, 1)
    assert replay.mean_right == replay.mean_turns
    assert replay.n_conversations > 8
    assert {item.id for item in walks.items} == {item.id for item in task.items("test", 9999)}


def test_no_turn_of_a_walk_is_learnt(task: ToolsTask, walks: Conversations) -> None:
    learnt = {item.id for part in ("train", "validation") for item in task.items(part, 9999)}
    assert not any(item.id in learnt for item in walks.items)


def test_spans_of_one_conversation_are_one(walks: Conversations, tmp_path: Path) -> None:
    spans = task_of(tmp_path, "spans").conversations()
    assert spans is not None
    turns = {len(each.turns) for each in (*spans.recorded, *walks.recorded)}
    assert turns == {4, 6} and len(spans.recorded) > 8


def test_a_wrong_call_ends_a_conversation(walks: Conversations) -> None:
    def answer(items: Sequence[Item]) -> list[str]:
        return [item.answer.replace("reserve_table", "cancel_reservation") for item in items]

    replay = walks.replay(answer)
    assert (replay.whole.mean, replay.mean_right) == (0, 2)
    low = wilson(0, replay.n_conversations)
    assert (replay.whole.low, replay.whole.high) == (low.low, low.high)


def test_the_own_answer_stands_before_the_next_turn(walks: Conversations) -> None:
    heard: list[list[dict[str, Any]]] = []

    def answer(items: Sequence[Item]) -> list[str]:
        heard.extend(messages_in(item.question) for item in items)
        texts = []
        for item in items:
            if item.slice == "text":
                texts.append(f"{item.answer} Just say so.")
                continue
            [call] = calls_of(item.answer)
            arguments = {key: value.upper() if key == "city" else value
                         for key, value in call.arguments.items()}  # fmt: skip
            texts.append(json.dumps([{"name": call.name, "arguments": arguments}]))
        return texts

    assert walks.replay(answer).whole.mean == 1
    longest = max(heard, key=len)
    own = [message for message in longest if message["role"] == "assistant"]
    city = own[0]["tool_calls"][0]["arguments"]["city"]
    assert city == city.upper() and own[1]["content"].endswith("Just say so.")
    others = [message for message in longest if message["role"] == "tool"]
    assert len(others) >= 2, "results are those of the log"


def test_a_text_of_other_words_ends_it_unless_any_text_passes(walks: Conversations) -> None:
    def answer(items: Sequence[Item]) -> list[str]:
        return ["Well." if item.slice == "text" else item.answer for item in items]

    replay = walks.replay(answer)
    assert (replay.whole.mean, replay.mean_right, replay.whole_calls.mean) == (0, 1, 1)


def test_turns_that_are_no_test_rows_stand_as_recorded(tmp_path: Path) -> None:
    messages = [conversation(k) for k in range(N)]
    for k, each in enumerate(messages):  # one first request, and so one row of a first turn
        each[1] = user("Find me a place to eat")
        each[2] = conversation(0)[2] if k else each[2]
    path = tmp_path / "same.jsonl"
    path.write_text("".join(json.dumps({"messages": m, "tools": TOOLS}) + "\n" for m in messages))
    walks = ToolsTask(str(path), compares_words=False, answers="trust").conversations()
    assert walks is not None
    n_asked = [len(each.turns) for each in walks.recorded]
    assert {3, 5} <= {*n_asked} or {4, 6} <= {*n_asked}
    assert walks.replay(gold).whole.mean == 1


def test_turns_that_are_learnt_as_no_call_are_left_to_somebody(tmp_path: Path) -> None:
    walks = task_of(tmp_path, texts="no_call").conversations()
    assert walks is not None
    replay = walks.replay(gold)
    assert replay.whole.mean == 1 and replay.n_conversations > 3
    assert not any(item.slice == "text" for item in walks.items)


def test_requests_alone_are_no_conversations(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    rows = [{"question": f"a table in {k} cities", "tools": TOOLS, "calls": []} for k in range(40)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert ToolsTask(str(path)).conversations() is None


def test_baselines_are_walked_beside_the_student_and_all_are_told(
    task: ToolsTask, walks: Conversations
) -> None:
    replays = replayed(task, task.items("train", 9999), walks)
    assert {*replays} == {"situation", "lookup"}
    assert all(replay.whole.mean < 0.5 for replay in replays.values())
    part = SliceScore("all", 9, wilson(4, 9), 0.5)
    own = Replay(9, wilson(4, 9), 3.5, 4.5, wilson(5, 9))
    scores = (ModelScore("student", "caller", (part,), replay=own),
              ModelScore("lookup", "the nearest training item", (part,),
                         replay=replays["lookup"]))  # fmt: skip
    card = Scorecard("tools", "exact", scores, None, "", 1.0, against=(),
                     earlier_reads=EarlierReads(0, 0, 9), answers_path="")  # fmt: skip
    text = whole_conversations(card)
    assert "44.4%" in text and "3.5 of 4.5 turns" in text and "the nearest training item" in text
    assert whole_conversations(None) == ""


def test_no_request_of_a_test_file_is_learnt(tmp_path: Path) -> None:
    """Both files open alike, with other answers: each conversation is another one, though."""
    tools = json.loads(json.dumps(TOOLS))
    for name, places in (("train", ("Rome", "Oslo", "Lima", "Bern")), ("test", ("Kyiv", "Baku"))):
        rows = [
            {
                "tools": tools,
                "messages": [
                    {"role": "user", "content": "Can you help me with a trip?"},
                    {"role": "assistant", "content": f"Sure, {place} is lovely."},
                    {"role": "user", "content": f"Then tell me more of {place}."},
                    {"role": "assistant", "content": None, "tool_calls": [
                        {"id": "1", "type": "function", "function": {
                            "name": "find_restaurant", "arguments": json.dumps({"city": place})}}]},
                ],
            }
            for place in places
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    paths = (str(tmp_path / f"{name}.jsonl") for name in ("train", "test"))
    task = ToolsTask(next(paths), test_path=next(paths), answers="trust")
    rows_of = task.splits.rows
    tested = set(rows_of["test"].column("ids").tolist())
    assert tested
    for name in ("train", "validation"):
        assert not tested & set(rows_of[name].column("ids").tolist())
