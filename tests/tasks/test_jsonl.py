"""The user's own file: splits, metrics, prompts, and every broken line by its number."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stratos.core.errors import ConfigError, StratosError
from stratos.core.limited import limited
from stratos.tasks import metrics
from stratos.tasks.base import Task
from stratos.tasks.doubts import REPEAT
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.metrics import Own
from stratos.tasks.words import (
    Contradiction,
    FileProblems,
    GoldNotRight,
    HeldOutCopies,
    NoPath,
    PathEndsElsewhere,
    WideIntervals,
)


def write(path: Path, rows: list[Any]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def sums(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {i} + {i}?", "answer": str(2 * i), "why": f"{i} + {i} = {2 * i}."}
        for i in range(start, start + n)
    ]


@pytest.fixture
def task(tmp_path: Path) -> JsonlTask:
    path = write(tmp_path / "sums.jsonl", sums(400))
    return JsonlTask(path, metric="numeric", rationale="why")


def test_keeps_the_contract(task):
    assert isinstance(task, Task)
    assert task.can_reverse
    assert all(not item.rationale for item in JsonlTask(task.path).reverse(20))
    assert task.vocabulary() is None


def test_a_field_for_the_reasoning_that_no_line_has_is_refused(task):
    with pytest.raises(ValueError, match=r"task\.rationale=wy: no line of .* has a value there"):
        JsonlTask(task.path, metric="numeric", rationale="wy").items("train", 1)


def test_of_conversations_it_is_said_what_names_their_task(tmp_path):
    rows = [{"messages": [{"role": "user", "content": f"Hello {i}"}]} for i in range(20)]
    path = write(tmp_path / "my chats.jsonl", rows)
    with pytest.raises(ValueError, match=re.escape(f"See which: stratos look '{path}'")):
        JsonlTask(path)


def test_rows_that_repeat_are_counted_and_said_once(tmp_path):
    rows = [{"question": f"What is {k} + 1?", "answer": str(k + 1)} for k in range(60)]
    task = JsonlTask(write(tmp_path / "a.jsonl", [*rows, *rows[:20], *rows[:5]]))
    assert task.left_out == {REPEAT: 25}
    assert sum(len(task.items(split, 99)) for split in ("train", "validation", "test")) == 60
    told = [note for note in task.notes if REPEAT in note]
    assert told == [f"Left out of {task.path}: {REPEAT}: 25."]


def test_answers_that_contradict_are_shown_where_they_differ(tmp_path):
    rows = [{"question": f"What is {k} + 1?", "answer": str(k + 1)} for k in range(60)]
    long = json.dumps([{"name": "set_light", "arguments": {"zone": "nursery", "percent": 5}}])
    both = [{"question": "dim it", "answer": one} for one in (long, long.replace("5", "7"))]
    with pytest.raises(ValueError) as error:
        JsonlTask(write(tmp_path / "a.jsonl", [*rows, *both]))
    shown = [f'"…ursery", "percent": {n}}}}}]"' for n in (5, 7)]
    assert str(Contradiction(2, " and ".join(shown))) in str(error.value)


def test_splits_are_disjoint_and_complete(task):
    splits = {name: task.items(name, 1000) for name in ("train", "validation", "test")}
    ids = [item.id for items in splits.values() for item in items]
    assert len(ids) == len(set(ids)) == 400
    assert 0.5 < len(splits["train"]) / 400 < 0.7
    assert 0.18 < len(splits["test"]) / 400 < 0.32


def copied(rows: list[dict[str, Any]], ends: str = "!;:") -> list[dict[str, Any]]:
    copies = [{**row, "question": f"{row['question']}{end}"} for row in rows for end in ends]
    return [*rows, *copies]


@pytest.mark.parametrize("has_test_file", [False, True])
def test_copies_of_a_question_are_measured_once(tmp_path, has_test_file):
    """An interval counts its items as independent; copies of one question are one."""
    rows = sums(80)
    tests = sums(20, start=900)
    once = JsonlTask(
        write(tmp_path / "a.jsonl", rows),
        test_path=write(tmp_path / "at.jsonl", tests) if has_test_file else None,
    )
    more = JsonlTask(
        write(tmp_path / "b.jsonl", copied(rows)),
        test_path=write(tmp_path / "bt.jsonl", copied(tests)) if has_test_file else None,
    )
    for split in ("validation", "test"):
        families = [item.family for item in more.items(split, 999)]
        assert len(families) == len(set(families))
        assert set(families) == {item.family for item in once.items(split, 999)}
    assert more.n_train == 4 * once.n_train, "what is trained on keeps them"
    n_copies = 3 * sum(len(once.items(split, 999)) for split in ("validation", "test"))
    assert more.left_out == {"copy of a held-out question": n_copies}
    assert more.complaints[0] == HeldOutCopies(more.path, n_copies)
    assert once.left_out == {} and not any(isinstance(c, HeldOutCopies) for c in once.complaints)
    other = JsonlTask(write(tmp_path / "c.jsonl", copied(rows)[::-1]), test_path=more.test_path)
    assert {i.id for i in other.items("test", 999)} == {i.id for i in more.items("test", 999)}


def test_questions_that_differ_in_punctuation_and_answer_are_no_copies(tmp_path):
    rows = [
        {"question": f"{i}{sign}3", "answer": f"{sign} {i}"} for i in range(60) for sign in "-*/"
    ]
    task = JsonlTask(write(tmp_path / "a.jsonl", rows))
    n = sum(len(task.items(split, 999)) for split in ("train", "validation", "test"))
    assert n == 180 and task.left_out == {}


def test_splits_stay_when_rows_are_added_moved_or_respelled(task, tmp_path):
    rows = sums(50, start=9_000) + sums(400)[::-1]
    rows = [{**row, "question": f"  {row['question'].upper()} "} for row in rows]
    changed = JsonlTask(write(tmp_path / "b.jsonl", rows), metric="numeric")
    for split in ("train", "validation", "test"):
        before = {item.id for item in task.items(split, 1000)}
        assert before <= {item.id for item in changed.items(split, 1000)}


def test_a_smaller_draw_is_a_prefix_and_seeds_differ(task):
    ten = task.items("train", 10)
    assert ten == task.items("train", 200)[:10]
    assert ten != task.items("train", 10, seed=1)
    assert len(task.items("train", 10_000)) < 400


def test_slices_alternate(tmp_path):
    rows = [{**row, "kind": "easy" if i % 4 else "hard"} for i, row in enumerate(sums(400))]
    path = write(tmp_path / "s.jsonl", rows)
    task = JsonlTask(path, slice="kind", slices=("easy", "hard"))
    assert [item.slice for item in task.items("test", 4)] == ["easy", "hard", "easy", "hard"]
    assert {item.slice for item in task.items("test", 9, slice="hard")} == {"hard"}
    with pytest.raises(ValueError, match=r"line 1, line 5, .* and 95 more: its slice is hard, not"):
        JsonlTask(path, slice="kind", slices=("easy",))


def test_choices_hold_gold_once_and_stay(task):
    items = task.items("validation", 50)
    for item in items:
        assert len(set(item.choices)) == 4
        assert item.choices.count(item.answer) == 1
    places = Counter(item.choices.index(item.answer) for item in items)
    assert len(places) == 4
    assert items == JsonlTask(task.path, metric="numeric", rationale="why").items("validation", 50)


def test_prompts(task):
    item = task.items("validation", 1)[0]
    default, zero_shot, reasoning = (task.messages(item, name) for name in task.prompts)
    assert [message["role"] for message in default] == [
        "system",
        *["user", "assistant"] * 4,
        "user",
    ]
    assert len(zero_shot) == 2
    assert default[-1]["content"] == reasoning[-1]["content"] == item.question
    assert default[2]["content"].removeprefix("Answer: ") in task.example_answers("default")
    assert "=" in reasoning[2]["content"] and "Answer: " in reasoning[2]["content"]
    assert task.example_answers("zero_shot") == frozenset()
    # A training item is never shown its own answer.
    example = task.items("train", 1, seed=1)[0]
    assert all(m["content"] != f"Answer: {example.answer}" for m in task.messages(example))
    offer = task.choice_messages(item)[-1]["content"]
    assert offer.splitlines()[1:] == [
        f"{letter}) {choice}" for letter, choice in zip("ABCD", item.choices, strict=True)
    ]
    assert [task.parse_choice(text) for text in ("B", "(C) 4", "It is D.", "Answer 7", "")] == [
        1,
        2,
        3,
        None,
        None,
    ]


def test_reverse_gives_verified_training_items(task):
    items = list(task.reverse(50))
    train = {item.id for item in task.items("train", 1000)}
    assert len(items) == 50
    assert {item.id for item in items} <= train
    assert [task.verify(item) for item in items] == [None] * 50
    item = items[0]
    assert task.completion(item) == f"{item.rationale}\nAnswer: {item.answer}"
    assert task.verify(replace(item, rationale="")) == NoPath()
    wrong = replace(item, rationale="So the answer is 1,000,001.")
    assert task.verify(wrong) == PathEndsElsewhere("1000001", item.answer)


def test_scores_by_metric(tmp_path):
    def score(metric: str, gold: str, text: str) -> tuple[float, float]:
        task = JsonlTask(
            write(tmp_path / "one.jsonl", [{"question": "q", "answer": gold}]), metric=metric
        )
        item = next(i for s in ("train", "validation", "test") for i in task.items(s, 1))
        result = task.score(text, item)
        return result.exact, round(result.f1, 3)

    assert score("exact", "New  York", "answer: new york.") == (1, 1)
    assert score("exact", "New York", "The York") == (0, 0.5)
    assert score("exact", "yes", "") == (0, 0)
    assert score("numeric", "1,234.50", "It costs $1234.5 a month.\nAnswer: $1,234.50") == (1, 1)
    assert score("numeric", "3/4", r"\boxed{\frac{3}{4}}") == (1, 1)
    assert score("numeric", "0.5", ".5") == (1, 1)
    assert score("numeric", "7", "no idea") == (0, 0)
    assert score("regex", r"\d{3}-\d{2}", "Answer: 123-45") == (1, 1)
    assert score("regex", r"\d{3}", "1234")[0] == 0
    assert score("f1", "a cat on the mat", "Answer: the cat on a mat") == (1, 1)
    assert score("f1", "a cat on the mat", "a cat") == (0, 0.571)
    assert score("regex", "(a+)+b", "a" * 40)[0] == 0, "it would take years"


@dataclass(frozen=True)
class SameSet:
    separator: str = ","

    def compare(self, answer: str, gold: str) -> float:
        if "boom" in answer:
            raise RuntimeError("boom")
        parts = [{part.strip() for part in text.split(self.separator)} for text in (answer, gold)]
        return len(parts[0] & parts[1]) / len(parts[0] | parts[1])


@dataclass(frozen=True)
class Evaluates:
    """Evaluates what it reads, as verifiers of mathematics do."""

    def read(self, text: str) -> str:
        return str(eval(text))

    def why_wrong(self, gold: str) -> None:
        eval(gold)

    def compare(self, answer: str, gold: str) -> float:
        return float(eval(answer) == eval(gold))


@dataclass(frozen=True)
class NoVerifier:
    separator: str = ","


@dataclass(frozen=True)
class HalfRight:
    def compare(self, answer: str, gold: str) -> float:
        return 0.5


def test_a_verifier_of_the_users_own(tmp_path, monkeypatch):
    rows = [{"question": f"q{i}", "answer": "a; b"} for i in range(40)]
    path = write(tmp_path / "sets.jsonl", rows)
    here = __name__.partition(".")[0]
    target = f"{__name__}.SameSet"
    with pytest.raises(ValueError, match=r"only classes under stratos\. may be created"):
        JsonlTask(path, verifier={"_target_": target})
    monkeypatch.setenv("STRATOS_ALLOW_TARGETS", here)
    task = JsonlTask(path, verifier={"_target_": target, "separator": ";"})
    item = task.items("test", 1)[0]
    assert [task.score(text, item).exact for text in ("b; a", "Answer: a;b", "a", "")] == [
        *(1, 1, 0, 0),
    ]
    assert [type(part).__name__ for part in task.parts] == ["SameSet"]
    with pytest.raises(StratosError, match=r"SameSet.compare failed \(RuntimeError: boom\)"):
        task.score("boom", item)
    with pytest.raises(ValueError, match=r"verifier\.colour: there is no such key"):
        JsonlTask(path, verifier={"_target_": target, "colour": 1})
    with pytest.raises(ValueError, match=r"it lacks compare\(answer, gold\)"):
        JsonlTask(path, verifier={"_target_": f"{__name__}.NoVerifier"})
    with pytest.raises(ValueError, match="give the dotted name"):
        JsonlTask(path, verifier={})


def test_a_verifier_is_tried_on_a_gold_answer_when_the_file_is_read(
    tmp_path, monkeypatch, worded, snapshot
):
    monkeypatch.setenv("STRATOS_ALLOW_TARGETS", __name__.partition(".")[0])
    verifier = {"_target_": f"{__name__}.SameSet"}
    good = [{"question": f"q{i}", "answer": "a, b"} for i in range(9)]
    path = write(tmp_path / "boom.jsonl", [{"question": "q", "answer": "boom"}, *good])
    with pytest.raises(ValueError) as caught:
        JsonlTask(path, verifier=verifier)
    assert worded(caught.value) == snapshot
    path = write(tmp_path / "good.jsonl", good)
    complaints = JsonlTask(path, verifier=verifier).complaints
    assert not any(isinstance(one, GoldNotRight) for one in complaints)
    half = JsonlTask(path, verifier={"_target_": f"{__name__}.HalfRight"}).complaints[0]
    assert half == GoldNotRight("HalfRight", 0.5, "a, b", f"line 1 of {path}")


def test_a_verifier_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(metrics, "limited", functools.partial(limited, seconds=0.5))
    own, endless = Own(Evaluates()), "9**99999999"
    assert own.compare("2 + 2", "4") == 1
    assert own.compare(endless, "4") == 0
    assert own.read("2 + 2") == "4" and own.read(endless) is None
    with pytest.raises(ValueError, match=r"cannot be checked: it takes more than 0\.5 seconds"):
        own.canonical(endless, ())


OF_A_NOTEBOOK = """
import sys
from dataclasses import dataclass
from stratos.tasks.jsonl import JsonlTask

@dataclass(frozen=True)
class Mine:
    def compare(self, answer, gold):
        return float(answer == gold)

for module in ("__main__", "mine"):
    print(JsonlTask(sys.argv[1], verifier={"_target_": f"{module}.Mine"}).notes[-1])
"""


def test_a_verifier_of_a_notebook_runs_without_limits_and_says_so(tmp_path):
    rows = [{"question": f"q{i}", "answer": str(i)} for i in range(40)]
    path = write(tmp_path / "rows.jsonl", rows)
    (tmp_path / "script.py").write_text(OF_A_NOTEBOOK)
    (tmp_path / "mine.py").write_text(OF_A_NOTEBOOK.partition("for module")[0])
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", path],
        capture_output=True, text=True, check=True,
        env={**os.environ, "STRATOS_ALLOW_TARGETS": "__main__,mine"},
    )  # fmt: skip
    of_main, of_module = done.stdout.splitlines()
    assert of_main.startswith("task.verifier Mine runs without limits of time and memory")
    assert "without limits" not in of_module


def test_multiple_choice(tmp_path):
    rows = [
        {"question": f"Pick {i % 4} of row {i}", "options": ["w", "x", "y", "z"], "answer": gold}
        for i, gold in enumerate(["x", "B", "(b)", " X "] * 20)
    ]
    task = JsonlTask(write(tmp_path / "mc.jsonl", rows), metric="multiple_choice")
    item = task.items("test", 1)[0]
    assert (item.answer, item.choices) == ("B", ("A", "B", "C", "D"))
    assert item.question.endswith("A) w\nB) x\nC) y\nD) z")
    assert task.score("The answer is (B).", item).exact == 1
    assert task.score("A", item).exact == 0
    assert task.choice_messages(item)[-1]["content"] == item.question
    with pytest.raises(ValueError, match="line 1: the answer v is not one of its 2 options"):
        row = {"question": "q", "options": ["a", "b"], "answer": "v"}
        JsonlTask(write(tmp_path / "bad.jsonl", [row]), metric="multiple_choice")


def test_lookup_takes_the_nearest_question(tmp_path):
    rows = [
        {"question": f"capital of {land}", "answer": town}
        for land, town in (("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome"))
    ]
    task = JsonlTask(write(tmp_path / "c.jsonl", rows))
    known = [i for s in ("train", "validation", "test") for i in task.items(s, 9)]
    asked = [replace(known[0], question="And the capital of Spain today?")]
    assert task.lookup(known, asked) == ["Madrid"]
    assert task.lookup([], asked) == [""]


def test_every_broken_line_is_named(tmp_path, worded, snapshot):
    path = tmp_path / "bad.jsonl"
    lines = [
        b'\xef\xbb\xbf{"question": "a", "answer": 1}',
        b"{",
        b"[1]",
        b"",
        b'{"question": "b"}',
        b'{"question": " ", "answer": "x"}',
        b'{"question": "c", "answer": null}',
        b'{"question": "\xff", "answer": "x"}',
        b'{"question": "A ", "answer": "1"}',
        b'{"question": "a", "answer": "2"}',
        b'{"question": "d", "answer": "many"}',
    ]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError) as caught:
        JsonlTask(str(path), metric="numeric")
    assert worded(caught.value) == snapshot


def test_lines_with_one_cause_are_one_line(tmp_path, worded, snapshot):
    rows = [{"question": f"q{i}", "answer": "many" if i % 3 == 0 else "1"} for i in range(90)]
    rows += [{"question": "x", "anwser": "1"}, {"question": "y", "answer": "few"}]
    with pytest.raises(ValueError) as caught:
        JsonlTask(write(tmp_path / "bad.jsonl", rows), metric="numeric")
    assert worded(caught.value) == snapshot


def test_broken_lines_can_be_skipped_and_are_counted(tmp_path, worded, snapshot):
    rows: list[Any] = [*sums(100), "{", {"question": "What is 1 + 1?", "answer": "3"}]
    rows += [{"question": "what is 7+7", "answer": 14}, {"question": "x", "answer": "\x1b[m"}]
    task = JsonlTask(write(tmp_path / "s.jsonl", rows), metric="numeric", on_error="skip")
    items = [i for split in ("train", "validation", "test") for i in task.items(split, 1000)]
    assert len(items) == 100, "of a question with two answers, no row is taken"
    assert not any(item.question == "What is 1 + 1?" for item in items)
    assert task.left_out == {"broken line": 4}
    assert len(items) + 4 == len(rows)
    problems, few = task.complaints
    assert isinstance(few, WideIntervals) and isinstance(problems, FileProblems)
    assert problems.broken.n_lines == 4 and worded(problems) == snapshot
    with pytest.raises(ValueError, match="has no good lines"):
        JsonlTask(write(tmp_path / "b.jsonl", ["{"]), on_error="skip")


def test_each_question_with_two_answers_is_said_once(tmp_path, worded, snapshot):
    rows = [{"question": f"q{i % 3}", "answer": f"{i // 3}"} for i in range(6)]
    rows += [{"question": "q2", "answer": str(n)} for n in range(2, 9)]
    with pytest.raises(ValueError) as caught:
        JsonlTask(write(tmp_path / "two.jsonl", rows))
    assert worded(caught.value) == snapshot


def test_a_test_file_is_tested_whole_and_never_trained_on(tmp_path):
    path = write(tmp_path / "train.jsonl", sums(300))
    tested = [{"question": "what is 5+5", "answer": 10}, *sums(50, start=1000)]
    task = JsonlTask(path, test_path=write(tmp_path / "test.jsonl", tested), metric="numeric")
    assert len(task.items("test", 1000)) == 51
    rest = task.items("train", 1000) + task.items("validation", 1000)
    assert len(rest) == 299
    assert not any(item.question == "What is 5 + 5?" for item in rest)
    assert task.left_out == {"training question of the test file": 1}


def test_a_field_that_no_line_has_is_said_once(tmp_path, worded, snapshot):
    path = write(tmp_path / "q.jsonl", [{"prompt": str(n), "answer": n} for n in range(30)])
    for on_error in ("stop", "skip"):
        with pytest.raises(ValueError) as caught:
            JsonlTask(path, on_error=on_error)
        assert worded(caught.value) == snapshot(name="every line")
    assert JsonlTask(path, question="prompt").n_train


@pytest.mark.parametrize(
    "wrong",
    [
        {"question": "text", "answer": "lable"},
        {"question": "txt", "answer": "label"},
        {"question": "text", "answer": "label", "slice": "lable"},
        {"question": "text", "answer": "label", "rationale": "whyy"},
    ],
)
def test_a_field_whose_name_is_misspelled_is_told_its_nearest(tmp_path, wrong, worded, snapshot):
    rows = [{"id": n, "text": f"t{n}", "label": "ab"[n % 2], "why": "x"} for n in range(30)]
    path = write(tmp_path / "q.jsonl", rows)
    with pytest.raises(ValueError) as caught:
        JsonlTask(path, **wrong)
    assert worded(caught.value) == snapshot


def test_the_sizes_of_the_splits_are_said(tmp_path):
    path = write(tmp_path / "q.jsonl", sums(100))
    task = JsonlTask(path, metric="numeric")
    n = [len(task.items(split, 100)) for split in ("train", "validation", "test")]
    assert sum(n) == 100
    [note] = task.notes
    told = f"{n[0]} to train, {n[1]} to validate, {n[2]} to test; split by their hash."
    assert note.startswith(told)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([{"area": "db", "summary": f"{n}"} for n in range(9)], "summary and task.answer=area"),
        ([{"a": f"{n}", "b": f"{n}"} for n in range(9)], "a and task.answer=b"),
        ([{"a": f"{n}", "b": "x", "c": "x"} for n in range(9)], "… and task.answer=…"),
        ([{"a b": f"{n}", "c": "x"} for n in range(9)], "… and task.answer=…"),
    ],
)
def test_of_two_fields_the_one_with_fewer_texts_is_offered_as_the_answer(tmp_path, rows, named):
    with pytest.raises(ValueError, match=re.escape(f"task.question={named}")):
        JsonlTask(write(tmp_path / "q.jsonl", rows))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_another_encoding_that_shows_at_its_beginning_is_read(tmp_path, encoding, suffix):
    rows = [{"question": f"où est {k} 𝄞?", "answer": k} for k in range(40)]
    forms = {
        "jsonl": "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows),
        "json": json.dumps(rows, indent=1, ensure_ascii=False),
        "csv": "question,answer\n" + "".join(f"{r['question']},{r['answer']}\n" for r in rows),
    }
    path = tmp_path / f"other.{suffix}"
    path.write_text(forms[suffix], encoding=encoding)
    plain = JsonlTask(write(tmp_path / "plain.jsonl", rows))
    assert JsonlTask(str(path)).items("train", 99) == plain.items("train", 99)


def test_what_is_cut_within_a_character_of_utf_16_is_refused(tmp_path):
    path = tmp_path / "cut.csv"
    path.write_bytes("question,answer\na,b\n".encode("utf-16")[:-1])
    with pytest.raises(ValueError, match="it is no UTF-16"):
        JsonlTask(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_an_array_of_objects_is_read_like_lines(tmp_path, encoding):
    rows = [{"question": f"what is {k}?", "answer": k} for k in range(40)]
    path = tmp_path / "array.json"
    path.write_text(json.dumps(rows, indent=1), encoding=encoding)
    lines = JsonlTask(write(tmp_path / "lines.jsonl", rows))
    assert {item.id for item in JsonlTask(str(path)).items("train", 40)} == {
        item.id for item in lines.items("train", 40)
    }


def test_a_spreadsheet_is_said_to_be_one(tmp_path):
    path = tmp_path / "book.xlsx"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="Save it as CSV"):
        JsonlTask(str(path))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError) as caught:
        JsonlTask(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: it is a folder. Name a file in it."


def test_a_long_list_is_cut_and_counted(tmp_path):
    path = write(tmp_path / "bad.jsonl", [json.dumps(i) for i in range(50)])
    with pytest.raises(ValueError) as caught:
        JsonlTask(path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("has 50 broken lines:")
    assert lines[-2] == "    … and 30 more"
    assert len(lines) == 23


def test_empty_missing_and_wrong_settings(tmp_path):
    with pytest.raises(ValueError, match="has no lines"):
        JsonlTask(write(tmp_path / "empty.jsonl", [""]))
    with pytest.raises(ConfigError, match="cannot be read"):
        JsonlTask(str(tmp_path / "absent.jsonl")).items("train", 1)
    with pytest.raises(ValueError, match="prompts="):
        JsonlTask("x", prompts=("loud",))
    with pytest.raises(ValueError, match="below 1 together"):
        JsonlTask("x", test_share=0.9)
    with pytest.raises(ValueError, match="not a regular expression"):
        JsonlTask(write(tmp_path / "r.jsonl", [{"question": "q", "answer": "("}]), metric="regex")


def test_surrogates_and_control_characters_are_data(tmp_path):
    row = '{"question": "a\\ud800\\u0000\\u001b[31m<b>", "answer": "<script>"}'
    task = JsonlTask(write(tmp_path / "s.jsonl", [row]))
    item = next(i for s in ("train", "validation", "test") for i in task.items(s, 1))
    assert item.question == "a?\x00\x1b[31m<b>"
    assert task.score("<script>", item).exact == 1


def test_the_yaml_fits_the_class(tmp_path):
    from dataclasses import fields

    from omegaconf import OmegaConf

    conf = Path(__file__).parents[2] / "conf" / "task" / "jsonl.yaml"
    values = OmegaConf.load(conf)
    assert OmegaConf.is_missing(values, "path")
    of_config = {"_target_", "instruction_path"}  # which is read with the config
    made = JsonlTask(**{k: values[k] for k in values if k not in {*of_config, "path"}}, path="x")
    assert {field.name for field in fields(JsonlTask)} == set(values) - of_config
    assert (made.metric, made.validation_share) == ("exact", 0.15)


@pytest.mark.parametrize(
    "gold",
    [
        "Paris is the capital of France.",
        "yes.",
        "...",
        "first line\nsecond line",
        "items.map(x => x.id)",
        "The answer is 5",
        "Answer: none",
        '"quoted"',
    ],
)
def test_the_gold_answer_itself_is_right_whatever_it_looks_like(tmp_path, gold):
    rows = [{"question": f"Row {i}?", "answer": gold if i % 2 else f"other {i}"} for i in range(40)]
    task = JsonlTask(write(tmp_path / "rows.jsonl", rows))
    (item, *_) = [one for one in task.items("train", 40) if one.answer == gold]
    assert task.score(task.completion(item), item).exact == 1
    assert task.score(f"Let me think.\nAnswer: {gold}", item).exact == 1
    assert task.score("other 4", item).exact == 0


@pytest.mark.parametrize(("gold", "said"), [("_private", "private"), ("$5", "5"), ("a*", "a")])
def test_an_answer_without_a_sign_of_the_gold_one_is_wrong(tmp_path, gold, said):
    rows = [{"question": f"Row {i}?", "answer": gold if i % 2 else f"other {i}"} for i in range(40)]
    task = JsonlTask(write(tmp_path / "rows.jsonl", rows))
    (item, *_) = [one for one in task.items("train", 40) if one.answer == gold]
    assert task.score(said, item).exact == 0
    assert task.score(f"Answer: {gold}", item).exact == 1
