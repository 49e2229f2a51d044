"""The task of docs/own_task.md, as it stands there: it is planned with, and its corpus is made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from stub_task import StubTask

from stratos.records import Probe
from stratos.run import resume
from stratos.run.stages import PROBE
from stratos.tasks.base import Item, Split, Task
from stratos.tasks.mahjong import MahjongTask
from stratos.tasks.words import NotReadBack, Unreadable

DOCS = Path(__file__).parents[2] / "docs" / "own_task.md"


def block(first_line: str) -> str:
    """Return the code block of the page that opens with a line."""
    found = re.search(rf"```\w+\n({re.escape(first_line)}\n.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None, first_line
    return found[1]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The task, written down as the page says."""
    (tmp_path / "roman.py").write_text(block("# roman.py"))
    (tmp_path / "mine" / "task").mkdir(parents=True)
    (tmp_path / "mine" / "task" / "roman.yaml").write_text(block("# mine/task/roman.yaml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "roman", raising=False)
    made: Task = __import__("roman").RomanTask()
    return made


def test_it_has_at_most_50_lines_and_four_methods_that_have_to_be_written(own):
    assert len(block("# roman.py").splitlines()) <= 50
    assert len(Task.__abstractmethods__) == 4 and not type(own).__abstractmethods__


def test_its_splits_are_apart_and_its_answers_right(own):
    names: tuple[Split, ...] = ("train", "validation", "test")
    splits = [{item.id for item in own.items(name, 9999)} for name in names]
    assert sum(map(len, splits)) == len(set().union(*splits)) == 3999
    assert own.items("test", 5, 1) == own.items("test", 50, 1)[:5] != own.items("test", 5, 2)
    answers = {item.question: item.answer for item in own.items("train", 9999)}
    answers |= {item.question: item.answer for item in own.items("test", 9999)}
    answers |= {item.question: item.answer for item in own.items("validation", 9999)}
    known = {"1994": "MCMXCIV", "3999": "MMMCMXCIX", "4": "IV", "888": "DCCCLXXXVIII"}
    assert answers.items() >= known.items()
    assert all(own.verify(item) is None for item in own.reverse(99))


def test_no_hook_of_a_task_is_looked_for_by_name():
    looked = re.compile(r"(?:getattr|hasattr|isinstance)\([\w.]*\btask\s*,")
    files = (DOCS.parents[1] / "stratos").rglob("*.py")
    assert [str(path) for path in files if looked.search(path.read_text())] == []


def test_what_it_does_not_write_has_a_default(own):
    item = own.items("train", 1)[0]
    assert own.student_messages(item) == [{"role": "user", "content": item.question}]
    assert own.completion(item) == item.answer
    assert own.completion(replace(item, rationale="a path")) == f"a path\n{item.answer}"
    assert own.verify(replace(item, answer="IIX")) is None, "the task reads it as it is written"
    assert own.verify(replace(item, answer="2")) == NotReadBack("2")
    assert own.refute(item, "") == Unreadable() and own.refute(item, item.answer) is None
    assert (own.teachers(), own.side_test([item]), own.turns()) == ((), None, None)
    assert (own.checks_steps(item), own.has_paths, own.held_out()) == (False, True, None)
    assert (own.chance(item), own.normal("a"), own.answer_size(item)) == (0, "a", len(item.answer))
    assert own.difficulty(replace(item, rationale="long")) == 4.0
    four = replace(item, choices=("I", item.answer, "V", "X"))
    assert own.choice_messages(four)[1]["content"].endswith(f"A) I\nB) {item.answer}\nC) V\nD) X")
    chosen = [own.parse_choice(text) for text in ("It is B.", "(D)", "none", "E")]
    assert chosen == [1, 3, None, None]
    assert (own.has_rows, own.n_train, own.n_test, own.n_unlabelled) == (False, 0, 0, 0)
    assert (own.refusals(), own.complaints, own.parts, own.content_sha256) == ([], (), (), None)
    red, blue = Item("r", "main", "the red one", "r"), Item("b", "main", "the blue one", "b")
    assert own.lookup([red, blue], [replace(item, question="is it blue")]) == ["b"]
    assert own.lookup([], [item]) == [""]


def test_a_reverse_of_ones_own_is_not_replaced_by_the_drafts_of_a_parent(own):
    class Some(MahjongTask):
        def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
            return (item for item in super().reverse(n, seed) if item.slice == "general")

    class Drafts(StubTask):
        def drafts(self, n: int, seed: int = 0) -> Iterator[str]:
            return map(str, range(n))

        def made_of(self, draft: str) -> Item:
            return Item(draft, "main", draft, draft)

    assert [task.has_drafts for task in (MahjongTask(), Some(), own)] == [True, False, False]
    assert Drafts().has_drafts and [item.id for item in Drafts().reverse(3)] == ["0", "1", "2"]


@pytest.mark.slow
def test_the_command_plans_with_it_and_makes_its_corpus(own, probed):
    old = resume.find(PROBE, probed)
    assert old is not None and isinstance(old.record, Probe)
    resume.keep(PROBE, probed, "made by hand", replace(old.record, task="roman"))
    command = next(line for line in DOCS.read_text().splitlines() if "+task=roman" in line)
    variable, _, *words = command.split()
    small = ["stages=[plan,synthesize]", "strategy=injection", "strategy.n_items=40", "logger=none"]
    name, _, value = variable.partition("=")
    env = {**os.environ, name: value, "STRATOS_CACHE": str(probed.parent / "cache")}
    done = subprocess.run(
        [sys.executable, *words, *small, f"hydra.run.dir={probed}"],
        cwd=probed.parent, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads((probed / "synthesize.json").read_text())["record"]
    assert (made["task"], made["n_items"], made["refused"]) == ("roman", 40, {})
    rows = [json.loads(line) for line in Path(made["path"]).read_text().splitlines()]
    train = {item.question: item.answer for item in own.items("train", 9999)}
    assert all(train[row["question"]] == row["completion"] for row in rows)
