"""Turns of agents' conversations: read alike of a test and of a log, and exchanged together."""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from agent_traces import TOOLS, call, conversation, said, user

from stratos.contrib.drift import command
from stratos.contrib.drift import shifts as module
from stratos.contrib.drift.command import renewal
from stratos.contrib.drift.shifts import Response, distinct, shifts
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.core.errors import StratosError
from stratos.tasks.base import Turn

N = 60
NAMES = ("find_restaurant", "reserve_table", "cancel_reservation")
Message = dict[str, Any]


def talks(n: int = N) -> list[list[Message]]:
    """Return conversations of which no two begin alike."""
    made = [conversation(k) for k in range(n)]
    for k, messages in enumerate(made):
        messages[1] = user(f"{messages[1]['content']} ({k})")
    return made


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def whole(path: Path, conversations: list[list[Message]]) -> str:
    return written(path, *({"messages": messages, "tools": TOOLS} for messages in conversations))


def requests(messages: list[Message], is_cut: bool = False, **fields: Any) -> list[Any]:
    """Return a request with its response for each turn of the model, with the history before."""
    rows, start = [], 0
    for k, message in enumerate(messages):
        start = k if is_cut and message["role"] == "user" else start
        if message["role"] == "assistant":
            request = {"messages": messages[start:k], "tools": TOOLS}
            response = {"choices": [{"message": message}]}
            rows.append({"request": request, "response": response, **fields})
    return rows


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> ToolsTask:
    path = whole(tmp_path_factory.mktemp("turns") / "log.jsonl", talks())
    return ToolsTask(path, answers="trust", compares_words=False)


def of_log(task: ToolsTask, path: str) -> list[Turn]:
    found, n_wrong = task.turns().of_log(path, None, None)
    assert n_wrong == 0
    return found


def partition(turns: list[Turn]) -> set[frozenset[str]]:
    together: dict[str, set[str]] = {}
    for turn in turns:
        together.setdefault(turn.conversation, set()).add(turn.id)
    return {frozenset(ids) for ids in together.values()}


def test_a_turn_is_the_same_in_the_test_and_in_the_log(task):
    logged = {turn.id: turn for turn in of_log(task, task.path)}
    items = task.items("test", 999)
    tested = task.turns().of_answers((item.question, item.answer) for item in items)
    assert len(tested) > 30
    for turn in tested:
        live = logged[turn.id]
        assert (turn.request, turn.answer, turn.kind) == (live.request, live.answer, live.kind)
    groups = partition(of_log(task, task.path))
    assert all(any(one <= group for group in groups) for one in partition(tested))


def test_each_turn_is_a_request_and_calls_are_answers(task):
    turns = of_log(task, task.path)
    said_by_model = [m for messages in talks() for m in messages if m["role"] == "assistant"]
    assert len(turns) == len(said_by_model) == len({turn.id for turn in turns})
    calls = [m["tool_calls"][0]["function"]["name"] for m in said_by_model if m.get("tool_calls")]
    n_texts = len(said_by_model) - len(calls)
    assert Counter(turn.kind for turn in turns) == Counter(calls) + Counter(text=n_texts)
    first = conversation(0)[1]["content"]
    assert turns[0].request == f"{first} (0)" and "names" in turns[1].request


def test_histories_that_grow_are_one_conversation_and_no_turn_counts_twice(task, tmp_path):
    expected = of_log(task, task.path)
    rows = [row for messages in talks() for row in requests(messages)]
    grown = of_log(task, written(tmp_path / "requests.jsonl", *rows))
    assert [turn.id for turn in grown] == [turn.id for turn in expected]
    assert partition(grown) == partition(expected) and len(partition(grown)) == N
    again = [messages[: k + 1] for messages in talks() for k, message in enumerate(messages)
             if message["role"] == "assistant"]  # fmt: skip
    twice = of_log(task, whole(tmp_path / "again.jsonl", again))
    assert len(twice) > len(expected) and partition(twice) == partition(expected)
    responses = [*map(Response.of_turn, twice)]
    assert len(distinct(responses)) == len(expected)


def test_histories_that_are_cut_are_one_conversation_by_the_id_of_the_session(task, tmp_path):
    cut = [requests(messages, True, session_id=f"s{k}") for k, messages in enumerate(talks())]
    turns = of_log(task, written(tmp_path / "cut.jsonl", *(row for rows in cut for row in rows)))
    assert len({turn.conversation for turn in turns}) <= N
    greeted = [requests([user("Hi"), said("Hello!"), *messages[1:]], session_id=f"s{k}")
               for k, messages in enumerate(talks())]  # fmt: skip
    path = written(tmp_path / "greeted.jsonl", *(row for rows in greeted for row in rows))
    assert len(partition(of_log(task, path))) == N, "sessions that begin alike are not joined"
    one = [row | {"session_id": "all"} for rows in cut for row in rows]
    turns = of_log(task, written(tmp_path / "one.jsonl", *one))
    assert len({turn.conversation for turn in turns}) > N, "what all have tells nothing"


def test_a_beginning_that_many_share_links_nothing(task, tmp_path):
    greeted = [[user("Hi"), said("Hello!"), *messages[1:]] for messages in talks()]
    turns = of_log(task, whole(tmp_path / "greeted.jsonl", greeted))
    assert len({turn.conversation for turn in turns}) == N + 1


def test_answers_that_cannot_be_read_are_of_no_kind(tmp_path):
    path = whole(tmp_path / "log.jsonl", talks(30))
    task = ToolsTask(path, answers="trust", texts="no_call", compares_words=False)
    broken = '[{"name": "find_restaurant", "argum'
    question = task.items("test", 1)[0].question
    texts = (broken, "[]", "", "Hello.", '[{"name": "b"}, {"name": "a"}]')
    told = task.turns().of_answers((question, text) for text in texts)
    assert [turn.kind for turn in told] == [None, "text", "text", "text", "a + b"]
    assert all(turn.kind != "text" or "tool" not in turn.request for turn in of_log(task, path))


def drawn(rng: random.Random, n: int, renamed: float = 0.0) -> list[Response]:
    """Return turns of conversations, each of which is about one tool."""
    made = []
    for k in range(n):
        own, number = rng.choice(NAMES), rng.random()
        for turn in range(rng.randint(3, 8)):
            kind = own if rng.random() < 0.7 else rng.choice(NAMES)
            kind = "other" if rng.random() < renamed else kind
            text = f"{own} {rng.choice('abc')} {rng.randint(0, 99)}"
            made.append(Response(text, kind, kind, f"{number} {k}", f"{number} {k} {turn}"))
    return made


def alarms(n_checks: int, alpha: float, **change: float) -> int:
    rng = random.Random(1)
    checks = (shifts(drawn(rng, 40), drawn(rng, 25, **change), alpha) for _ in range(n_checks))
    return sum(any(one.is_shift for one in found) for found in checks)


@pytest.mark.slow
def test_conversations_are_exchanged_so_that_alarms_are_as_rare_as_is_said(monkeypatch):
    monkeypatch.setattr(module, "N_DEALT", 199)
    n, alpha = 150, 0.1
    assert alarms(n, alpha) <= alpha * n + 2.5 * math.sqrt(n * alpha * (1 - alpha))
    assert alarms(20, alpha, renamed=0.3) > 15


def test_turns_that_are_conversations_by_themselves_are_compared_as_before():
    rng = random.Random(2)
    samples = [[Response(f"{rng.random()}", "a" * rng.randint(1, 9), rng.choice("ab"))
                for _ in range(n)] for n in (60, 40)]  # fmt: skip
    alone = [[Response(one.question, one.answer, one.value, one.question, one.question)
              for one in sample] for sample in samples]  # fmt: skip
    assert shifts(*samples, 0.05) == shifts(*alone, 0.05)


def test_more_than_can_be_compared_is_drawn_by_conversation(monkeypatch):
    monkeypatch.setattr(module, "MOST", 50)
    many = drawn(random.Random(3), 60)
    part = module._part(many, module.np.random.default_rng(0))
    sizes = Counter(one.conversation for one in many)
    assert 25 <= len(part) <= 90
    assert all(n == sizes[name] for name, n in Counter(one.conversation for one in part).items())


def test_the_renewal_learns_the_log_with_a_teacher_and_the_settings_of_the_run(
    task, tmp_path, monkeypatch
):
    before = ("+task=tools", "task.path=old.jsonl", "task.texts=no_call", "teacher=endpoint",
              "stages=[plan]", "task.answers=trust", "strategy=first_right")  # fmt: skip
    monkeypatch.setattr(command, "overrides_of", lambda run: before)
    live = [Response("q", "a", "a", "c", "i")]
    found = renewal(tmp_path, task, "/log.jsonl", live, "turns", None)
    assert found.overrides == (
        "+task=tools", "task.path=/log.jsonl", "task.answers=relabel", "task.conversation=turns",
        "task.texts=no_call", "teacher=endpoint", "strategy=first_right",
    )  # fmt: skip
    assert not renewal(tmp_path, task, "l", [Response("q", "[{", None)], None, None).overrides


def test_a_call_that_is_renamed_is_another_answer(task, tmp_path):
    renamed = [
        [call(1, "search") if (m.get("tool_calls") and k == 2) else m for k, m in enumerate(one)]
        for one in talks()
    ]
    turns = of_log(task, whole(tmp_path / "renamed.jsonl", renamed))
    kinds = Counter(turn.kind for turn in turns)
    assert kinds["search"] == N and not kinds["find_restaurant"]


def test_turns_that_were_not_asked_in_their_shares_are_refused():
    whole = Counter(text=900, multiple=100)
    command._check_shares(Counter(text=850, multiple=100), whole)
    with pytest.raises(StratosError, match=r"200 of 1,000 test turns.*evaluate\.n_items=1000\."):
        command._check_shares(Counter(text=100, multiple=100), whole)


def test_requests_alone_are_by_themselves_and_the_field_of_calls_may_be_named(task, tmp_path):
    rows = [
        {"question": f"Table number {k}", "tools": TOOLS, "done": [
            {"name": "find_restaurant", "arguments": {"city": "Oslo"}}]}
        for k in range(40)
    ]  # fmt: skip
    path = written(tmp_path / "alone.jsonl", *rows, {"question": "x"})
    turns, n_wrong = task.turns().of_log(path, None, "done")
    assert (len(turns), n_wrong) == (40, 1)
    assert len({turn.conversation for turn in turns}) == 40
    assert (turns[0].request, turns[0].kind) == ("Table number 0", "find_restaurant")
