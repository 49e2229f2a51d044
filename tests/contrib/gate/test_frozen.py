"""`stratos gate`, on folders as stages leave them and with a bundle that is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import factory
import pytest
from in_process import Done, stratos
from tiny_run import tiny_config
from tiny_student import Larger, make_students

from stratos.contrib.gate import command as gate_frozen
from stratos.contrib.gate.command import Counts, ExactTest, Frozen, Side, frozen_of, right_in_turn
from stratos.core.errors import StratosError
from stratos.deploy.bundle_server import MOST_TOKENS, longest_answer
from stratos.evaluate.answers import KeptAnswer, answers_path, ask_folder
from stratos.records import save
from stratos.tasks.base import Item, Score


def make_run(folder: Path, right: int, n: int = 400, first: int = 0) -> Path:
    (folder / "evaluate").mkdir(parents=True)
    factory.write_hydra(folder, [], ["evaluate"])
    save(folder / "evaluate.json", "evaluate", "mark", factory.make_records(folder)["evaluate"])
    lines = [
        json.dumps({
            "id": str(i), "slice": "all", "question": f"q{i}", "gold": "g", "messages": [],
            "text": "t", "output_tokens": 1, "logprob": -0.1,
            "score": {"exact": float(i % 100 < right), "f1": 0.0, "parsed": True},
        })
        for i in range(first, first + n)
    ]  # fmt: skip
    answers_path(folder).write_text("\n".join(lines))
    return folder


Gate = Callable[..., Done]


@pytest.fixture
def gate(runs: Path) -> Gate:
    """The command, in this process."""

    def call(*words: str) -> Done:
        return stratos("gate", *words, cwd=runs)

    return call


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "old", right=90)
    make_run(folder / "same", right=90)
    make_run(folder / "worse", right=60)
    make_run(folder / "other", right=60, first=1000)
    shutil.copy(answers_path(folder / "old"), folder / "frozen.jsonl")
    return folder


def test_a_worse_student_fails_on_all_items(gate):
    told = gate("worse", "--against", "frozen.jsonl", "--json")
    assert told.returncode == 1, told.stderr
    found = json.loads(told.stdout)
    assert found["outcome"] == "worse" and not found["passed"]
    assert sum(found["counts"].values()) == found["n_items"] == 400
    assert gate("worse", "--against", "old").stdout.startswith("WORSE by more than 2 po")


def test_an_equal_one_passes(gate):
    told = gate("same", "--against", "old", "--delta", "0.03")
    assert told.returncode == 0 and told.stdout.startswith("No worse by more than 3 points (95%")


def test_where_nothing_is_shown_it_says_how_many_items_are_needed(gate):
    words = ("same", "--against", "old", "--delta", "0.001")
    told = gate(*words)
    found = json.loads(gate(*words, "--json").stdout)
    n = ExactTest(0.001, 0.05).n_needed(Counts(**found["counts"]))
    assert n is not None and n > sum(found["counts"].values()) == found["n_items"]
    assert told.returncode == 3 and told.stdout.startswith("CANNOT TELL")
    assert f"about {float(f'{n:.2g}'):,.0f} items are needed" in told.stdout
    assert (found["outcome"], found["passed"], found["n_needed"]) == ("cannot tell", False, n)


def test_what_cannot_be_compared_is_said(gate, runs):
    told = gate("other", "--against", "old")
    assert told.returncode == 2 and "no item in common, and no bundle to ask" in told.stderr
    told = gate("nowhere", "--against", "old")
    assert told.returncode == 2 and told.stderr.startswith("nowhere is no run, no bundle and no")
    told = gate("same", "--against", "old", "--delta", "2")
    assert told.returncode == 2 and told.stderr.startswith("--delta 2: type a share from 0")
    (runs / "text.jsonl").write_text("hello\n")
    assert gate("same", "--against", "text.jsonl").returncode == 2


def test_items_whose_labels_differ_are_refused(gate, runs):
    lines = [json.loads(line) for line in answers_path(runs / "old").read_text().splitlines()]
    for one in lines[:18]:
        one["gold"] = "another"
    (runs / "relabelled.jsonl").write_text("\n".join(map(json.dumps, lines)))
    told = gate("same", "--against", "relabelled.jsonl")
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.startswith("18 of 400 frozen items ")
    assert '"q0": "g" there, "another" here' in told.stderr


def test_items_that_one_side_lacks_are_said(gate, runs):
    lines = answers_path(runs / "old").read_text().splitlines()
    (runs / "fewer.jsonl").write_text("\n".join(lines[:300]))
    told = gate("fewer.jsonl", "--against", "old", "--delta", "0.03")
    assert "Left out: 100 items that one side " in told.stdout
    found = json.loads(gate("fewer.jsonl", "--against", "old", "--json").stdout)
    assert (found["n_items"], found["n_left_out"]) == (300, 100)


@pytest.mark.slow
def test_a_bundle_is_asked_what_is_not_kept_and_no_more_than_is_read(tmp_path, monkeypatch):
    student, _ = make_students(tmp_path, steps=60)
    task, config = Larger(), tiny_config(tmp_path)
    items = task.items("test", config.evaluate.n_items, config.seed)
    n_tokens = longest_answer(student) or MOST_TOKENS
    found = ask_folder(task, student, items, max_new_tokens=n_tokens, batch_size=8)
    kept = {
        (item.question, item.answer): KeptAnswer(
            item.id, item.slice, item.question, item.answer, task.student_messages(item), text, n,
            score, -0.1,
        )
        for item, text, n, score in zip(items, found.texts, found.tokens, found.scores, strict=True)
    }  # fmt: skip
    monkeypatch.setattr(gate_frozen, "BATCH", 5)
    monkeypatch.setattr(gate_frozen, "task_of", lambda run_dir, asked: config)
    reference, candidate = Side(Path("kept"), kept), Side(student, bundle=student)
    frozen, asked = frozen_of(candidate, reference), list[tuple[int, int]]()
    turns = right_in_turn(candidate, frozen, reference, lambda *done: asked.append(done))
    first = [next(turns) for _ in range(7)]
    assert [done for done, _ in asked] == [5, 10], "asked as far as is read"
    right = [*first, *turns]
    assert right == [kept[key].score.exact >= 1 for key in frozen.keys]
    assert len(set(right)) == 2, "the student is right now and then"


def test_a_bundle_without_a_run_cannot_be_scored(tmp_path):
    with pytest.raises(StratosError, match="nobody knows the task that scores its answers"):
        gate_frozen.task_of(None, tmp_path)


def test_the_order_of_the_items_is_that_of_no_file():
    keys = [(f"q{i}", "g") for i in range(50)]
    one = Frozen.of(keys)
    assert one == Frozen.of(keys[::-1]) and one.keys != tuple(keys)
    assert one.digest != Frozen.of(keys[1:]).digest


def test_items_that_a_student_has_learnt_prove_nothing(tmp_path, monkeypatch):
    answers = {
        (f"q{k}", "g"): KeptAnswer(
            str(k), "all", f"q{k}", "g", [], "t", 1, Score(1.0, 1.0, True), -0.1
        )
        for k in range(10)
    }
    corpus = tmp_path / "corpus" / "train.jsonl"
    corpus.parent.mkdir()
    validation = [Item("v", "all", "Q9", "g")]
    task = SimpleNamespace(has_rows=True, items=lambda split, n: validation)
    monkeypatch.setattr(gate_frozen, "task_of", lambda *_: SimpleNamespace(task=task))
    new, old = (
        Side(Path("new"), bundle=Path("bundle"), run_dir=tmp_path),
        Side(Path("old"), answers),
    )
    for n, left in ((3, 6), (9, 0)):
        rows = (json.dumps({"question": f"q{k}"}).encode() for k in range(n))
        corpus.write_bytes(b"\n".join(rows))
        if left:
            frozen = frozen_of(new, old)
            assert (len(frozen.keys), frozen.n_left_out) == (left, 10 - left)
            continue
        with pytest.raises(StratosError, match="has learnt"):
            frozen_of(new, old)
    # What is kept was answered before, and is compared whatever the bundle has learnt.
    assert len(frozen_of(replace(new, answers=answers), old).keys) == 10
