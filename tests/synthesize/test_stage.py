"""The corpus: verified, without held-out items, the same for the same seed, whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError, ConfigError, TeacherError
from stratos.ledger import Ledger
from stratos.records import Corpus, RoleChoice, from_json, to_json
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.synthesize.stage import CorpusFile
from stratos.synthesize.strategy import Strategy
from stratos.synthesize.supervised import Supervised
from stratos.tasks.base import Item
from stratos.tasks.dedup.copies import HeldOut
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.words import NoPath
from stratos.teachers.prompting import data_limit
from tests.synthesize.adder import Adder, rows_of, run, sums
from tests.teachers.questions import cached_ask


def test_injection_writes_verified_training_items(tmp_path):
    task = sums(tmp_path)
    assert isinstance(Injection(), Strategy) and isinstance(Alignment(), Strategy)
    corpus, warnings = run(tmp_path, task, Injection(n_items=200))
    rows = rows_of(corpus)
    assert (corpus.n_items, corpus.n_by_slice, len(rows)) == (200, {"main": 200}, 200)
    train = {item.id: item for item in task.items("train", 1000)}
    for row in rows:
        item = train[row["id"]]
        assert row["completion"] == task.completion(item)
        assert (row["question"], row["answer"]) == (item.question, item.answer)
        assert (row["rationale"], row["family"]) == (item.rationale, item.family)
    assert sum(sum(table.values()) for table in corpus.answer_sizes.values()) == 200
    assert corpus.answer_sizes["main"]["1"] == sum(len(row["answer"]) == 1 for row in rows)
    assert (corpus.refused, corpus.usd, warnings) == ({}, 0.0, [])
    assert from_json(to_json(corpus), Corpus) == corpus


def test_the_rows_of_a_file_are_learnt_as_they_are(tmp_path):
    task = sums(tmp_path)
    corpus, warnings = run(tmp_path, task, Supervised())
    rows = rows_of(corpus)
    train = {item.id: item for item in task.items("train", 10_000)}
    assert {row["id"] for row in rows} == set(train)
    assert all(row["completion"] == task.completion(train[row["id"]]) for row in rows)
    assert all(row["rationale"] for row in rows), "the file's own reasoning is learnt, too"
    assert (corpus.strategy, corpus.refused, corpus.usd, warnings) == ("supervised", {}, 0.0, [])
    bare, _ = run(tmp_path / "bare", task, Supervised(n_items=50, reasoning=False))
    assert bare.n_items == 50
    assert all(row["completion"] == row["answer"] for row in rows_of(bare))
    wrong = [{"question": f"What is {i}?", "answer": i, "why": f"It is {i}."} for i in range(90)]
    for row in wrong[::3]:
        row["why"] = "So the answer is 1000."
    path = tmp_path / "wrong.jsonl"
    path.write_text("\n".join(map(json.dumps, wrong)))
    halved = JsonlTask(str(path), metric="numeric", rationale="why")
    corpus, warnings = run(tmp_path / "wrong", halved, Supervised())
    n_wrong = sum(row.rationale.endswith("1000.") for row in halved.items("train", 99))
    assert corpus.refused == {"unverified": n_wrong}
    assert corpus.n_items + n_wrong == halved.n_train


@pytest.mark.slow
def test_the_same_seed_makes_the_same_corpus(tmp_path):
    from stratos.tasks.mahjong import MahjongTask

    made = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        corpus, _ = run(tmp_path / folder, MahjongTask(), Injection(n_items=300), seed=seed)
        made.append((corpus.sha256, rows_of(corpus)))
    assert made[0] == made[1]
    assert made[0][0] != made[2][0]
    # Another process, with another seed of hashes.
    code = (
        "import hashlib, json, sys; t = [json.loads(line) for line in open(sys.argv[1])];"
        "h = hashlib.sha256();"
        "[h.update('\\x1f'.join([*r.values()][:-2]).encode() + b'\\n') for r in t];"
        "print(h.hexdigest())"
    )
    path = tmp_path / "a" / "corpus" / "train.jsonl"
    out = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert out.stdout.strip() == made[0][0]


@dataclass(frozen=True)
class Hostile(JsonlTask):
    """A task whose generator repeats itself, leaks held-out items and makes mistakes."""

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        good = list(super().reverse(5, seed))
        leaked = self.items("test", 2) + self.items("validation", 1)
        mirrored = replace(good[0], id="new", family=leaked[0].family)
        yield from [*good, *good[:2], *leaked, mirrored, replace(good[1], id="x", rationale="")]


def test_what_is_refused_is_counted_by_reason(tmp_path, snapshot):
    corpus, warnings = run(
        tmp_path,
        Hostile(sums(tmp_path).path, metric="numeric", rationale="why"),
        Injection(n_items=100),
    )
    assert corpus.n_items == 5
    assert corpus.refused == {
        "duplicate": 2,
        "held out (canonical)": 1,
        "held out (exact)": 3,
        "unverified": 1,
    }
    assert warnings == snapshot


def test_broken_lines_that_were_skipped_are_counted(tmp_path):
    task = sums(tmp_path, n=100)
    with Path(task.path).open("a") as file:
        file.write('\n{\n{"question": "\\u001b[2J", "answer": "<b>"}')
    corpus, warnings = run(tmp_path, replace(task, on_error="skip"), Injection(n_items=1000))
    assert corpus.refused == {"broken line": 2}
    assert corpus.items_per_s == corpus.n_items / corpus.seconds
    assert corpus.n_items == len(sums(tmp_path, n=100).items("train", 1000))
    assert warnings == [], "the run warned of them before anything was asked"


def test_hostile_text_is_escaped_where_it_is_shown(tmp_path):
    class Escaping(Hostile):
        def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
            yield from JsonlTask.reverse(self, 3, seed)
            yield replace(self.items("train", 1)[0], question="\x1b[2J\u202e", rationale="")

    task = Escaping(sums(tmp_path).path, metric="numeric", rationale="why")
    _, warnings = run(tmp_path, task, Injection(n_items=100))
    assert len(warnings) == 1
    assert warnings[0].isprintable()
    assert f"\\u001b[2J\\u202e: {NoPath()}" in warnings[0]


def test_rationales_that_end_elsewhere_are_refused(tmp_path):
    wrong = tuple(range(0, 600, 3))
    corpus, _ = run(tmp_path, sums(tmp_path, wrong=wrong), Injection(n_items=1000))
    numbers = {int(row["question"].split()[2]) for row in rows_of(corpus)}
    assert not numbers & set(wrong)
    assert corpus.refused["unverified"] + corpus.n_items == len(
        sums(tmp_path, wrong=wrong).items("train", 1000)
    )


def test_alignment_keeps_what_the_task_verifies(tmp_path):
    task, teacher = sums(tmp_path), Adder()
    corpus, warnings = run(tmp_path, task, Alignment(n_items=300), (teacher,))
    rows = rows_of(corpus)
    items = task.items("train", 300)
    right = [item for item in items if int(item.question.split()[2]) < 300]
    assert [row["id"] for row in rows] == [item.id for item in right]
    assert corpus.refused == {"wrong": len(items) - len(right)}
    number = int(right[0].question.split()[2])
    assert rows[0]["completion"] == f"Twice {number} makes it.\nAnswer: {2 * number}"
    assert rows[0]["answer"] == str(2 * number)
    assert (corpus.teacher_tokens, corpus.usd) == (15 * len(items), 0.0)
    n_right = sum(int(item.question.split()[2]) < 300 for item in items[:64])
    [first_look] = warnings
    assert f"first 64 items of 300, {n_right} are" in first_look
    # Again: the same corpus, and the teacher is not asked.
    silent = Adder()
    again, _ = run(tmp_path, task, Alignment(n_items=300), (silent,))
    assert (again.sha256, silent.seen) == (corpus.sha256, [])


def test_alignment_puts_bare_answers_into_canonical_spelling(tmp_path):
    corpus, _ = run(tmp_path, sums(tmp_path), Alignment(n_items=50), (Adder(bare=True),))
    for row in rows_of(corpus):
        assert (row["completion"], row["rationale"]) == (row["answer"], "")


def test_alignment_tries_further_prompts(tmp_path):
    task = sums(tmp_path)
    strategy = Alignment(n_items=200, n_samples=2)
    corpus, _ = run(tmp_path, task, strategy, (Adder(),), prompt="default")
    assert corpus.n_items == 200
    teacher = Adder()
    run(tmp_path / "b", task, Alignment(n_items=200), (teacher,), prompt="zero_shot")
    assert {len(chat) for chat in teacher.seen} == {2}


@dataclass
class Dear(Adder):
    """Half a cent an answer."""

    def card(self) -> Any:
        return replace(super().card(), usd_per_million_output_tokens=1000.0)


def test_alignment_stops_where_the_money_ends(tmp_path, snapshot):
    # Nothing tells how long answers are: it is not refused beforehand.
    task, notes = sums(tmp_path), []
    strategy = Alignment(n_items=300)
    corpus, warnings = run(tmp_path, task, strategy, (Dear(),), budget_usd=1.2, notes=notes)
    n_asked = corpus.n_items + corpus.refused["wrong"]
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.spent_usd == pytest.approx(corpus.usd) == pytest.approx(0.005 * n_asked)
    assert ledger.spent_usd <= 1.2
    assert corpus.refused["not asked: budget used up"] == 300 - n_asked
    assert len(warnings) == 1
    assert notes == snapshot


def test_alignment_that_the_probe_shows_to_cost_too_much_is_refused(tmp_path, snapshot):
    task, notes = sums(tmp_path), []
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"))
    probed = task.items("validation", 40)
    chats = [task.messages(item, task.prompts[0]) for item in probed]
    cached_ask(Dear(), chats, data_limit(task, task.prompts[0]).tokens, context)
    spent = context.ledger.spent_usd
    assert spent == pytest.approx(0.005 * len(probed))
    teacher = Dear()
    with pytest.raises(BudgetError) as caught:
        run(tmp_path, task, Alignment(n_items=300), (teacher,), budget_usd=spent + 1, notes=notes)
    assert str(caught.value) == snapshot
    assert (teacher.seen, Ledger(tmp_path / "ledger").spent_usd) == ([], pytest.approx(spent))
    assert len(notes) == 1
    run(tmp_path, task, Alignment(n_items=200), (teacher,), budget_usd=spent + 1.3)
    assert len(teacher.seen) == 200


def test_a_teachers_reasoning_that_costs_too_much_is_refused(tmp_path, snapshot):
    task, notes, teacher = sums(tmp_path), [], Dear()
    strategy = Injection(n_items=200, rationale="teacher")
    with pytest.raises(BudgetError) as caught:
        run(tmp_path, task, strategy, (teacher,), budget_usd=0.05, notes=notes)
    assert str(caught.value) == snapshot
    assert (teacher.seen, Ledger(tmp_path / "ledger").spent_usd, len(notes)) == ([], 0.0, 1)


def test_a_plan_that_buys_a_batch_is_carried_out_as_one(tmp_path, snapshot):
    @dataclass
    class Batched(Dear):
        batch: bool = False

        def as_batch(self) -> Any:
            return cheap

    role = RoleChoice("teacher", None, 0, False, 24.0, 1.0, "as a batch", as_batch=True)
    task, cheap, dear, notes = sums(tmp_path), Adder(), Batched(), []
    plan: Any = {"roles_of": lambda name: (role,) if name == "teacher" else ()}
    corpus, _ = run(tmp_path, task, Alignment(n_items=50), (dear,), notes=notes, **plan)
    assert (len(cheap.seen), dear.seen, corpus.usd) == (50, [], 0.0)
    _, warnings = run(tmp_path / "other", task, Alignment(n_items=50), (Adder(),), **plan)
    assert (len(notes), len(warnings)) == (1, 1)
    assert [*notes, *warnings] == snapshot


def test_nothing_learnt_is_one_clear_error_and_leaves_no_file(tmp_path, snapshot):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, sums(tmp_path), Alignment(n_items=20), (Adder(knows=0),))
    assert str(caught.value) == snapshot
    assert list((tmp_path / "corpus").iterdir()) == []
    with pytest.raises(TeacherError, match="The plan's teacher other is not configured"):
        run(tmp_path, sums(tmp_path), Alignment(), (Adder(),), teacher="other")
    with pytest.raises(ConfigError, match="The plan's strategy alignment is not configured"):
        run(tmp_path, sums(tmp_path), Injection(), planned="alignment")


def test_an_interrupted_corpus_leaves_the_old_one(tmp_path):
    path = tmp_path / "train.jsonl"
    item = Item("1", "s", "q", "a")
    with CorpusFile(path, HeldOut([]), lambda item: 1) as corpus:
        corpus.add(item, "a")
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), CorpusFile(path, HeldOut([]), lambda item: 1) as corpus:
        for i in range(10_000):
            corpus.add(replace(item, id=str(i)), "b")
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["train.jsonl"]


def test_overhead_is_under_50_microseconds_an_item(tmp_path):
    items = [
        Item(str(i), "s", f"question {i}", "12", rationale="step " * 120) for i in range(20_000)
    ]
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        with CorpusFile(tmp_path / "t.jsonl", HeldOut([]), lambda item: 1) as corpus:
            for item in items:
                corpus.add(item, item.rationale)
        best = min(best, (time.process_time() - started) / len(items))
    assert best < 50e-6


def test_mahjong_items_come_fast_and_none_is_held_out(tmp_path):
    from stratos.tasks.mahjong import MahjongTask

    task = MahjongTask()
    corpus, warnings = run(tmp_path, task, Injection(n_items=2000))
    rows = rows_of(corpus)
    families = {item.family for split in ("validation", "test") for item in task.items(split, 1000)}
    assert not families & {row["family"] for row in rows}
    assert corpus.n_items == 2000
    assert set(corpus.n_by_slice) == {"full_flush", "general"}
    assert all(row["completion"].startswith(row["rationale"]) for row in rows)
    assert warnings == []
