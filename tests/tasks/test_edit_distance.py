"""Texts within a few characters of others, compared with the textbook's table of distances."""

from __future__ import annotations

import json
import random
import time

import pytest

from stratos.tasks.dedup.splits import NearTexts, _differing, _distance, edits_of
from stratos.tasks.jsonl import JsonlTask

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty")


def textbook(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def edited(text: str, n: int, rng: random.Random) -> str:
    for _ in range(n):
        at = rng.randrange(len(text) + 1)
        text = rng.choice((text[:at], text[: at + 1])) + rng.choice(("x", "")) + text[at + 1 :]
    return text


def test_distances_are_those_of_the_textbook():
    rng = random.Random(0)
    for _ in range(500):
        a = "".join(rng.choices("abc", k=rng.randrange(1, 80)))
        b = (
            edited(a, rng.randrange(9), rng)
            if rng.random() < 0.7
            else "".join(rng.choices("abc", k=9))
        )
        assert _distance(*_differing(a, b)) == textbook(a, b)


def test_what_is_near_is_what_all_pairs_tell():
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randrange(2, 9))) for _ in range(60)]
    asked = [edited(rng.choice(texts), rng.randrange(6), rng) for _ in range(120)]
    near = NearTexts(texts)
    for text in asked:
        text = " ".join(text.split())
        expected = any(
            textbook(text, other) <= min(edits_of(len(text)), edits_of(len(other)))
            for other in texts
        )
        assert near.has_near(text) == expected, text


@pytest.mark.parametrize(
    ("text", "is_near"),
    [
        ("Anna has 3 red apples and buys 4.", True),
        ("Anna hsa 3 red aples and buys 2.", True),
        ("ANNA HAS 3 RED APPLES, AND BUYS 2!", True),
        ("Bertha sells 3 red apples and buys 2.", False),
        ("", False),
    ],
)
def test_typos_and_a_changed_number_are_near(text, is_near):
    assert NearTexts(["Anna has 3 red apples and buys 2."]).has_near(text) == is_near


@pytest.mark.parametrize("is_template", [False, True])
def test_a_thousand_questions_and_ten_thousand_rows_take_two_seconds(is_template):
    rng = random.Random(2)
    if is_template:
        made = [f"What is the sum of {k} and {rng.randrange(10**9)}?" for k in range(11_000)]
    else:
        made = [" ".join(rng.choices(WORDS, k=8)) + f" {k}" for k in range(11_000)]
    start = time.process_time()
    near = NearTexts(made[1000:])
    n = sum(map(near.has_near, made[:1000]))
    assert time.process_time() - start < 4, n


def test_a_typo_is_seen_behind_an_instruction_that_all_share():
    rng = random.Random(4)
    head = " ".join(rng.choices(WORDS, k=60))
    made = [f"{head} {' '.join(rng.choices(WORDS, k=90))}" for _ in range(1100)]
    near = NearTexts(made[:1000])
    start = time.process_time()
    assert near.has_near(made[0][:-9] + "#" + made[0][-8:])
    assert not any(map(near.has_near, made[1000:]))
    assert time.process_time() - start < 1


def test_a_task_counts_the_test_rows_that_are_near_training_rows(tmp_path):
    rng = random.Random(3)
    rows = [" ".join(rng.choices(WORDS, k=9)) for _ in range(300)]
    tested = [text.replace("e", "3", 1) for text in rows[:30]]
    other = [" ".join(rng.choices(WORDS, k=9)) for _ in range(30)]
    for name, texts, first in (("train", rows, 0), ("test", tested + other, 1000)):
        made = ({"question": text, "answer": str(k)} for k, text in enumerate(texts, first))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)))
    task = JsonlTask(str(tmp_path / "train.jsonl"), test_path=str(tmp_path / "test.jsonl"))
    learnt = [row.question for row in task.splits.rows["train"]]
    n = sum(
        any(_distance(*_differing(text, row)) <= 3 for row in learnt) for text in tested + other
    )
    assert task.splits.n_edited_test == n > 15
    assert f"Of the test {n} are within 3 characters of a training row." in task.notes[0]
    assert task.splits.n_near_test < n, "their answers are others"
