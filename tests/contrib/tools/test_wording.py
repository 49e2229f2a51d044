"""Questions in a teacher's words: kept where it comes to the call without having seen it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from adder import rows_of, run
from echo_teacher import EchoTeacher
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.tools.request_drawer import gives_away
from stratos.contrib.tools.tools_task import ToolsTask
from stratos.synthesize.injection import Injection
from stratos.teachers.base import Answer

TIMER: dict[str, Any] = {
    "name": "set_timer",
    "description": "Set a timer.",
    "parameters": {"properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]},
}


def timers(folder: Path, **settings: Any) -> ToolsTask:
    rows = [
        {
            "question": f"Wake me up {k} minutes from now",
            "tools": [TIMER],
            "calls": [{"name": "set_timer", "arguments": {"minutes": k}}],
        }
        for k in range(60)
    ]
    path = folder / "timers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return ToolsTask(str(path), n_drawn=150, **settings)


@dataclass
class Clerk(EchoTeacher):
    """Words timers as naps, with a slip where the minutes end in 7; reads naps rightly."""

    name: str = "adder"
    calls: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def ask(self, chats: Any, max_tokens: int, tick: Any = None, keep: Any = None) -> list[Answer]:
        answers = []
        for index, chat in enumerate(chats):
            text = chat[-1]["content"]
            said = self._word(text) if text.endswith("New request:") else self._read(text)
            answers.append(Answer(said, 10, 5, 0.0, finish="stop"))
            if keep is not None:
                keep(index, answers[-1])
        return answers

    def _word(self, text: str) -> str:
        self.calls.append(text)
        minutes = [one["arguments"]["minutes"] for one in json.loads(_calls(text))]
        told = " and ".join(str(one + (one % 10 == 7)) for one in minutes)
        return f'Request: "I nap for {told}"'

    def _read(self, text: str) -> str:
        self.read.append(text)
        request = text.rpartition("Request:\n")[2]
        calls = [
            {"name": "set_timer", "arguments": {"minutes": int(one)}}
            for one in re.findall(r"\d+", request)
        ]
        return json.dumps(calls)


def minutes_of(row: dict[str, str]) -> list[int]:
    return [one["arguments"]["minutes"] for one in json.loads(row["answer"])]


def _calls(text: str) -> str:
    return text.partition("Calls: ")[2].partition("\n")[0]


def test_a_request_is_in_the_teachers_words_where_it_reads_the_call_again(tmp_path: Path) -> None:
    task, teacher, notes = timers(tmp_path, drawn_from="schemas"), Clerk(), []
    strategy = Injection(n_items=150, wording="teacher", near_duplicates=0.0)
    corpus, said = run(tmp_path, task, strategy, (teacher,), prompt="default", notes=notes)
    rows = rows_of(corpus)
    worded = [row for row in rows if "I nap for " in row["question"]]
    slipped = [row for row in rows if row not in worded]
    assert len(worded) > 60
    for row in worded:
        told = [int(one) for one in re.findall(r"\d+", task.own_words(row["question"]))]
        assert told == minutes_of(row)
        assert task.own_words(row["question"]).startswith("I nap for ")
    # What it says wrongly or twice stands as the task words it, which was read back before.
    assert any(one % 10 == 7 for row in slipped for one in minutes_of(row))
    assert not any(one % 10 == 7 for row in worded for one in minutes_of(row))
    assert {str(minutes_of(row)) for row in worded} >= {
        str(minutes_of(row)) for row in slipped if not any(one % 10 == 7 for one in minutes_of(row))
    }
    # The request shows the call, the reading does not.
    assert len(teacher.calls) == len(rows) == 150 and all(map(_calls, teacher.calls))
    assert not any("Calls:" in text for text in teacher.read)
    assert "of the first 64 items of 150, " in notes[0]
    assert notes[-1].startswith(f"{len(worded)} of {len(teacher.calls)} questions stand")
    assert said == []
    # What a plan foretells are the first chats of the run.
    foretold = [one.chat[-1]["content"] for one in strategy.asks(_config(task), teacher, "")]
    assert foretold == teacher.calls


def test_a_teacher_that_reads_nothing_back_stops_and_rows_keep_their_words(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    @dataclass
    class Deaf(Clerk):
        def _read(self, text: str) -> str:
            self.read.append(text)
            return "[]"

    task, teacher = timers(tmp_path), Deaf()
    strategy = Injection(n_items=999, wording="teacher", near_duplicates=0.0)
    corpus, said = run(tmp_path, task, strategy, (teacher,), prompt="default", notes=[])
    assert said == snapshot
    assert len(teacher.calls) == 64
    own = {item.question for item in task.items("train", 999)}
    assert own <= {row["question"] for row in rows_of(corpus)}
    assert not any("I nap" in row["question"] for row in rows_of(corpus))


def test_what_gives_the_call_away_is_no_request(tmp_path: Path) -> None:
    task = timers(tmp_path, drawn_from="schemas")
    item = next(one for one in task.reverse(150) if one.answer != "[]")
    assert gives_away('Call {"minutes": 3}', item)
    assert gives_away("Please set_timer for 3", item)
    assert not gives_away("Set a timer for 3 minutes", item)
    assert task.reworded(item, "set_timer 3") is None
    made = task.reworded(item, "Nap for 3")
    assert made is not None and task.own_words(made.question) == "Nap for 3"
    assert (made.answer, made.id == item.id) == (item.answer, False)


def test_the_plan_counts_the_wording_and_its_reading(tmp_path: Path) -> None:
    strategy = Injection(wording="teacher")
    sizes = strategy.writing(timers(tmp_path))
    assert sizes is not None and not sizes.is_learnt
    assert (sizes.n_items, sizes.read_share) == (150, 1.0)
    assert sizes.request_bytes > sizes.path_bytes > 10
    assert strategy.words_questions and not strategy.writes_reasoning
    assert replace(strategy, wording="task").writing(timers(tmp_path)) is None
    with pytest.raises(ValueError, match="take one of them"):
        Injection(wording="teacher", rationale="teacher")


def _config(task: ToolsTask) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(task=task, seed=0)
