"""Near duplicates: found where they say the same, and nowhere else."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from stratos.synthesize.leaks import NearDuplicates
from stratos.tasks.base import Item

STORY = (
    "A farmer walks to the market in the morning with 16 eggs in her basket, sells most of them to "
    "her neighbours along the way, and gives the rest to the children of the village school"
)


def item(question: str, answer: str = "7") -> Item:
    return Item(question, "main", question, answer)


@pytest.mark.parametrize(
    ("copy", "is_near"),
    [
        (item(STORY.replace("along the way", "along the road")), True),
        (item(f"{STORY.upper()}!"), True),
        (item(STORY.replace("16", "17")), False),
        (item(STORY, answer="8"), False),
        (
            item("A baker sells 16 loaves in the afternoon and keeps the rest for his own house"),
            False,
        ),
        (item("16 eggs"), False),
    ],
)
def test_what_is_a_near_duplicate(copy: Item, is_near: bool) -> None:
    near = NearDuplicates(0.8)
    assert not near.is_near(item(STORY))
    assert near.is_near(copy) is is_near


def test_phrases_of_the_task_do_not_count() -> None:
    animals = ["cow", "goat", "heron", "otter", "badger", "mole", "stoat", "hare"]

    def asked(name: str) -> Item:
        return item(
            "Read the following line of the diary with care and tell whether it speaks of an "
            f"animal that lives on land or in water: the {name} came back"
        )

    near = NearDuplicates(0.8, [asked(name) for name in animals])
    assert not any(near.is_near(asked(name)) for name in animals)
    without = NearDuplicates(0.8)
    assert sum(without.is_near(asked(name)) for name in animals) > 0


def test_many_copies_are_no_phrase_and_characters_are_compared_without_spaces() -> None:
    words = STORY.split()
    copies = [item(" ".join([*words[:k], "so", *words[k + 1 :]])) for k in range(30) if k != 9]
    near = NearDuplicates(0.6, copies)
    assert sum(near.is_near(copy) for copy in copies) > 20
    chinese = "".join(chr(0x4E00 + 7 * k) for k in range(90))
    assert not near.is_near(item(chinese))
    assert near.is_near(item(chinese.replace(chinese[50], "的")))


def test_planted_copies_are_found_among_thousands() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(2000)]
    texts = [rng.choices(words, k=60) for _ in range(2000)]
    near = NearDuplicates(0.8)
    assert not any(near.is_near(item(" ".join(text))) for text in texts)
    n_found = 0
    for text in texts[:200]:
        copy = list(text)
        copy[rng.randrange(60)] = "changed"
        n_found += near.is_near(item(" ".join(copy)))
    # One word of sixty is three triples of 58: an index of 0.9, of which 64 hashes see 0.8 or more
    # in 19 of 20 cases.
    assert n_found > 180
    far = [[rng.choice(words) if rng.random() < 0.5 else word for word in t] for t in texts[:200]]
    assert not any(near.is_near(item(" ".join(text))) for text in far)


def test_the_same_in_every_run() -> None:
    first, second = NearDuplicates(0.8), NearDuplicates(0.8)
    for near in (first, second):
        near.is_near(item(STORY))
    assert (first._kept[0] == second._kept[0]).all()
    assert not NearDuplicates(1.0).is_near(replace(item(STORY), question=""))
