"""Doubtful turns of agents' traces: a teacher answers them anew, and its answers are checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_traces import TOOLS, call, conversation, said, user
from chat_server import KEY
from perfect_server import PerfectServer
from test_agent_traces import items, written

from stratos.contrib.tools.signatures import messages_in
from stratos.contrib.tools.tool_rows import TEXT, Names, row_of
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.records import corpus_rows
from stratos.tasks.base import Item

N, N_WRONG = 150, 30
WRONG = {
    "an unknown argument": lambda messages: (2, call(1, "find_restaurant", town="Oslo")),
    "an unknown tool": lambda messages: (6, call(2, "order_taxi", people=3)),
    "a text for a call": lambda messages: (6, said("I found it. Shall I reserve a table?")),
}


def rows(wrong: bool) -> list[dict[str, Any]]:
    """Return conversations, of which every fifth has a wrong turn."""
    made = []
    for k in range(N):
        messages = conversation(k)
        if wrong and k % 5 == 0:
            place, turn = [*WRONG.values()][k // 5 % 3](messages)
            assert messages[place]["role"] == "assistant"
            messages[place] = turn
            if not turn.get("tool_calls"):
                messages[place + 1] = user("Yes, please")
        made.append({"messages": messages, "tools": TOOLS})
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("relabelled")


@pytest.fixture(scope="module")
def log(folder: Path) -> str:
    return written(folder, *rows(wrong=True))


@pytest.fixture(scope="module")
def task(log: str) -> ToolsTask:
    return ToolsTask(log, answers="relabel", compares_words=False)


@pytest.fixture(scope="module")
def right(task: ToolsTask, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The right answer of each question."""
    path = written(tmp_path_factory.mktemp("right"), *rows(wrong=False))
    clean = ToolsTask(path, answers="trust", compares_words=False)
    return {item.question: item.answer for some in items(clean).values() for item in some}


def asked(task: ToolsTask) -> list[Item]:
    return task.unlabelled(999)


def test_doubtful_turns_that_are_not_held_out_are_asked_for(
    task: ToolsTask, log: str, right: dict[str, str]
) -> None:
    some = asked(task)
    assert task.n_unlabelled == len(some) and 5 <= len(some) <= N_WRONG
    assert {item.answer for item in some} == {""}
    assert {item.question for item in some} <= right.keys()
    held_out = {item.family for item in task.held_out()}
    assert not held_out & {item.family for item in some}
    [note] = [note for note in task.notes if "probably wrong" in note]
    assert f"; {len(some)} of them go to a teacher" in note
    verifying = ToolsTask(log, compares_words=False)
    assert verifying.n_unlabelled == 0
    assert items(verifying) == items(task), "what is learnt without a teacher is the same"


def test_a_question_of_a_held_out_conversation_is_not_asked_for(folder: Path) -> None:
    made = rows(wrong=False)
    for k in range(0, N, 4):  # begins as another one, and goes on in another way
        messages = conversation(k)
        messages[2] = call(1, "find_restaurant", town="Oslo")
        for place, message in enumerate(messages):
            if place > 2 and message["role"] == "user":
                messages[place] = user(f"Never mind {k}. {message['content']}")
        made.append({"messages": messages, "tools": TOOLS})
    (there := folder / "begun").mkdir()
    task = ToolsTask(written(there, *made), answers="relabel", compares_words=False)
    doubted = {task.item_of(row).id for row, _ in task.content.reader.to_relabel}
    held_out = {item.id for item in task.held_out()}
    assert doubted & held_out
    assert not held_out & {item.id for item in asked(task)}


def test_a_right_answer_is_learnt(task: ToolsTask, right: dict[str, str]) -> None:
    made = [task.labelled(item, right[item.question]) for item in asked(task)]
    assert [item and item.answer for item in made] == [right[item.question] for item in asked(task)]
    assert {item.slice for item in made if item} == {"multiple"}
    answers = {item.question: item for item in items(task)["train"]}
    assert not any(item.question in answers for item in asked(task))


@pytest.mark.parametrize(
    "answer",
    [
        "I found nothing, sorry.",
        '[{"name": "order_taxi", "arguments": {}}]',
        '[{"name": "find_restaurant", "arguments": {"town": "Oslo"}}]',
        '[{"name": "cancel_reservation", "arguments": {"code": "R9999"}}]',
        "[]",
        "",
    ],
)
def test_an_answer_that_is_doubtful_as_well_is_left_out(task: ToolsTask, answer: str) -> None:
    some = asked(task)
    if answer.startswith("I found"):  # a text may be due where the log goes on as behind one
        some = [item for item in some if len(messages_in(item.question)) < 4]
    assert some
    assert [task.labelled(item, answer) for item in some] == [None] * len(some)


def test_a_value_that_nobody_said_is_left_out(task: ToolsTask, right: dict[str, str]) -> None:
    first = [item for item in asked(task) if "find_restaurant" in right[item.question]]
    assert first
    for item in first:
        [made] = json.loads(right[item.question])
        said_by_none = made | {"arguments": {**made["arguments"], "city": "Timbuktu"}}
        assert task.labelled(item, json.dumps([said_by_none])) is None
        assert task.labelled(item, json.dumps([made])) is not None


def test_a_text_may_be_due(tmp_path: Path, right: dict[str, str]) -> None:
    made = rows(wrong=False)
    for k in range(0, N, 10):
        made[k]["messages"][4] = call(7, "order_taxi", people=3)
        made[k]["messages"].insert(5, {"role": "tool", "tool_call_id": "call_7", "content": "{}"})
    task = ToolsTask(written(tmp_path, *made), answers="relabel", compares_words=False)
    some = [item for item in asked(task) if messages_in(item.question)[-1]["role"] == "tool"]
    texts = [item for item in some if right.get(item.question, "[")[:1] != "["]
    assert texts
    for item in texts:
        labelled = task.labelled(item, right[item.question])
        assert labelled is not None and labelled.slice == TEXT
        assert labelled.answer == right[item.question]


@pytest.mark.parametrize("texts", ["learnt", "no_call"])
def test_a_teacher_knows_whether_a_text_may_be_due(log: str, texts: Any) -> None:
    own = ToolsTask(log, texts=texts)
    [asked] = own.items("train", 1)
    system = own.prompt.messages(asked, "zero_shot", [])[0]["content"]
    assert ("text for the user is due" in system) is (texts == "learnt")


def test_a_row_to_label_by_hand_is_a_row_of_the_task(task: ToolsTask) -> None:
    for item in asked(task):
        row = task.as_row(
            item, json.dumps([{"name": "find_restaurant", "arguments": {"city": "x"}}])
        )
        fields = row_of(row, Names("question", "messages", "tools", "calls"))
        assert isinstance(fields, dict) and fields["question"] == item.question


@pytest.mark.slow
def test_the_plan_has_their_price_and_the_corpus_their_answers(
    log: str, task: ToolsTask, right: dict[str, str], tmp_path: Path
) -> None:
    """The teacher is wrong about every third of them; what it says there is checked, too."""
    questions = sorted(item.question for item in asked(task))
    lies = dict.fromkeys(questions[::3], '[{"name": "order_taxi", "arguments": {}}]')
    known = {item.question: item.answer for some in items(task).values() for item in some}
    with PerfectServer(right | known | lies) as server:
        command = (
            sys.executable, "-m", "stratos", "+task=tools", f"task.path={log}",
            "task.answers=relabel", "task.compares_words=false", "cloud=aws",
            "teacher=endpoint", "teacher.model=parrot-large", f"teacher.base_url={server.base_url}",
            "teacher.api_key_env=PARROT_KEY", "teacher.usd_per_million_input_tokens=2",
            "teacher.usd_per_million_output_tokens=8", "teacher.outputs_may_train=true",
            "stages=[probe,plan,synthesize]", "logger=none", "plan.pilot=false", "student=caller",
            "strategy=pseudo_labels", "plan.history=false", "hydra.run.dir=run",
        )  # fmt: skip
        env = {**os.environ, "PARROT_KEY": KEY, "STRATOS_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=280
        )
    assert done.returncode == 0, done.stdout + done.stderr
    record = {
        name: json.loads((tmp_path / "run" / f"{name}.json").read_bytes())["record"]
        for name in ("plan", "synthesize")
    }
    [role] = [role for role in record["plan"]["roles"] if role["role"] == "teacher"]
    asks = f"{len(questions)} rows without an answer: parrot-large answers each 2 to 5 times"
    assert role["usd"] > 0 and asks in " ".join(record["plan"]["reasons"])
    made = record["synthesize"]
    rows = [row for row in corpus_rows(made["path"]) if row.source == "labelled by parrot-large"]
    assert {row.question: row.answer for row in rows}.items() <= right.items()
    n_lies = made["refused"]["no label of the task in the teacher's answer"]
    n_leaks = sum(n for why, n in made["refused"].items() if "held out" in why)
    assert n_lies >= 1 and len(rows) >= 4 and made["usd"] > 0
    assert len(rows) + n_lies + n_leaks >= len(questions) == task.n_unlabelled
