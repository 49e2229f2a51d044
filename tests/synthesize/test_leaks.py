"""Nothing held out is trained on: not exactly, not in another form, not in part."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from stratos.synthesize.admission import NEAR, listed_by
from stratos.synthesize.stage import advice
from stratos.synthesize.supervised import Supervised
from stratos.tasks.base import Item
from stratos.tasks.dedup.copies import HeldOut
from stratos.tasks.dedup.hashes import content_id, family_id
from stratos.tasks.dedup.near import NearDuplicates
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.math import MathTask
from stratos.tasks.words import Leak

GSM8K = Path(__file__).parents[2].parent / "shared" / "gsm8k"
DUCKS = (
    "Janet's ducks lay 16 eggs per day, she eats three for breakfast every morning and bakes "
    "muffins with four, so how many are left?"
)
SHORT = "How many eggs are left after three days?"


def item(question: str, rationale: str = "") -> Item:
    return Item(content_id(question), "main", question, "1", (), rationale, family_id(question))


@pytest.mark.parametrize(
    ("question", "completion", "reason"),
    [
        (DUCKS, "", Leak.EXACT),
        (f"  {DUCKS.upper()} ", "", Leak.EXACT),
        (DUCKS.replace(",", " -").replace("?", ""), "", Leak.CANONICAL),
        # Thirteen words in a row, in the question or in what is learnt of it; twelve are no leak.
        ("A farm: Janet's ducks lay 16 eggs per day, she eats three for breakfast. Why?", "", None),
        (
            "A: Janet's ducks lay 16 eggs per day, she eats three for breakfast every",
            "",
            Leak.OVERLAP,
        ),
        ("Something else", f"As in: {DUCKS}", Leak.OVERLAP),
        # A short question is looked for as a whole.
        (f"Tell me. {SHORT} And after four?", "", Leak.OVERLAP),
        ("How many eggs are left after three weeks?", "", None),
        ("", "", None),
    ],
)
def test_what_repeats_a_held_out_question(question, completion, reason):
    held_out = HeldOut([item(DUCKS), item(SHORT)])
    assert held_out.leak(item(question), completion) == reason


def test_what_all_questions_have_in_common_is_no_leak():
    def question(k: int) -> Item:
        return item(
            "Read the following message of a customer and say what it is about, in one word "
            f"only, without any explanation: number {k} is broken"
        )

    few = HeldOut([question(k) for k in range(5)])
    assert few.leak(question(100)) == Leak.OVERLAP, "five questions may be one another's copies"
    many = HeldOut([question(k) for k in range(50)])
    assert many.leak(question(100)) is None
    known = HeldOut([question(k) for k in range(5)], [question(k) for k in range(10, 30)])
    assert known.leak(question(100)) is None
    assert known.leak(question(3)) == Leak.EXACT


def test_copies_of_one_question_are_no_phrase_however_many_they_are():
    rng = random.Random(0)
    base = [f"w{k}" for k in range(60)]

    def copy() -> Item:
        words = list(base)
        for _ in range(2):
            words[rng.randrange(60)] = f"x{rng.randrange(10**6)}"
        return item(" ".join(words))

    held_out = HeldOut([copy() for _ in range(40)], [copy() for _ in range(40)])
    assert all(held_out.leak(copy()) == Leak.OVERLAP for _ in range(20))


def test_text_without_spaces_is_compared_by_its_characters():
    rng = random.Random(0)

    def text(n: int) -> str:
        return "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(n))

    question = text(100)
    held_out = HeldOut([item(question), item(text(20))])
    assert held_out.leak(item(text(30) + question[40:66] + text(30))) == Leak.OVERLAP
    assert held_out.leak(item(text(30) + question[40:60] + text(30))) is None
    assert held_out.leak(item(text(200))) is None


def test_every_planted_leak_is_found(tmp_path):
    rng = random.Random(0)
    words = [f"w{k}" for k in range(500)]
    rows = [
        {"question": " ".join(rng.choices(words, k=rng.randrange(8, 40))), "answer": k}
        for k in range(600)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask(str(path))
    held_out = HeldOut(task.held_out(), task.items("train", 1000))
    assert len(task.held_out()) == len(task.items("test", 600) + task.items("validation", 600))
    for train in task.items("train", 600):
        assert held_out.leak(train) is None
    for leaked in task.held_out():
        planted = f"{rng.choice(words)} {leaked.question.upper()}, {rng.choice(words)}!"
        assert held_out.leak(item(planted)) == Leak.OVERLAP


def test_gsm8k_training_questions_that_repeat_a_test_question_are_few():
    if not GSM8K.is_dir():
        pytest.skip("no GSM8K beside the checkout")
    task = MathTask(
        str(GSM8K / "train.jsonl"), test_path=str(GSM8K / "test.jsonl"), split_answer="####"
    )
    held_out = HeldOut(task.held_out(), task.items("train", 1000))
    refused = [
        held_out.leak(row, task.completion(row)) for row in task.items("train", 1000, seed=1)
    ]
    assert {reason for reason in refused if reason} <= {Leak.OVERLAP}
    assert sum(reason is not None for reason in refused) < 20


def test_refused_rows_come_with_what_to_type(tmp_path, snapshot):
    """A phrase of eight questions is a leak for thirteen words, and none where it is allowed."""
    phrase = "the customer writes to us about an order that has not been delivered in time"
    rows = [{"question": f"{phrase} {k}", "answer": str(k)} for k in range(8)]
    rows += [{"question": f"something else number {k}", "answer": str(k)} for k in range(60)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    strict, loose = JsonlTask(str(path)), JsonlTask(str(path), compares_words=False)
    alike = next(row for row in strict.items("train", 68) if phrase in row.question)
    held_out = listed_by(strict)
    assert held_out is not None and held_out.leak(alike) == Leak.OVERLAP
    held_out = listed_by(loose)
    assert held_out is not None and held_out.leak(alike) is None
    assert held_out.leak(loose.items("test", 1)[0]) == Leak.EXACT, "copies are told all the same"
    refused = {Leak.OVERLAP: 2, NEAR: 1, Leak.EXACT: 3}
    assert list(advice(strict, Supervised(near_duplicates=0.8), refused)) == snapshot


# --- near duplicates: where rows say the same, and nowhere else -----------------------------------

STORY = (
    "A farmer walks to the market in the morning with 16 eggs in her basket, sells most of them to "
    "her neighbours along the way, and gives the rest to the children of the village school"
)


def row(question: str, answer: str = "7") -> Item:
    return Item(question, "main", question, answer)


@pytest.mark.parametrize(
    ("copy", "is_near"),
    [
        (row(STORY.replace("along the way", "along the road")), True),
        (row(f"{STORY.upper()}!"), True),
        (row(STORY.replace("16", "17")), False),
        (row(STORY, answer="8"), False),
        (
            row("A baker sells 16 loaves in the afternoon and keeps the rest for his own house"),
            False,
        ),
        (row("16 eggs"), False),
    ],
)
def test_what_is_a_near_duplicate(copy, is_near):
    near = NearDuplicates(0.8)
    assert not near.is_near(row(STORY))
    assert near.is_near(copy) is is_near


def test_phrases_of_the_task_do_not_count():
    animals = ["cow", "goat", "heron", "otter", "badger", "mole", "stoat", "hare"]

    def question(name: str) -> Item:
        return row(
            "Read the following line of the diary with care and tell whether it speaks of an "
            f"animal that lives on land or in water: the {name} came back"
        )

    near = NearDuplicates(0.8, [question(name) for name in animals])
    assert not any(near.is_near(question(name)) for name in animals)
    without = NearDuplicates(0.8)
    assert sum(without.is_near(question(name)) for name in animals) > 0


def test_many_copies_are_no_phrase_and_characters_are_compared_without_spaces():
    words = STORY.split()
    copies = [row(" ".join([*words[:k], "so", *words[k + 1 :]])) for k in range(30) if k != 9]
    near = NearDuplicates(0.6, copies)
    assert sum(near.is_near(copy) for copy in copies) > 20
    chinese = "".join(chr(0x4E00 + 7 * k) for k in range(90))
    assert not near.is_near(row(chinese))
    assert near.is_near(row(chinese.replace(chinese[50], "的")))


def test_planted_copies_are_found_among_thousands():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(2000)]
    texts = [rng.choices(words, k=60) for _ in range(2000)]
    near = NearDuplicates(0.8)
    assert not any(near.is_near(row(" ".join(text))) for text in texts)
    n_found = 0
    for text in texts[:200]:
        copy = list(text)
        copy[rng.randrange(60)] = "changed"
        n_found += near.is_near(row(" ".join(copy)))
    # One word of sixty is three triples of 58: an index of 0.9, of which 64 hashes see 0.8 or more
    # in 19 of 20 cases.
    assert n_found > 180
    far = [[rng.choice(words) if rng.random() < 0.5 else word for word in t] for t in texts[:200]]
    assert not any(near.is_near(row(" ".join(text))) for text in far)


def test_the_same_in_every_run():
    first, second = NearDuplicates(0.8), NearDuplicates(0.8)
    for near in (first, second):
        near.is_near(row(STORY))
    assert (first._signatures[0] == second._signatures[0]).all()
    assert not NearDuplicates(1.0).is_near(replace(row(STORY), question=""))
