"""The discard that leaves the most tiles: against the package `mahjong`, path by path."""

import random
from dataclasses import replace

import pytest
from mahjong.agari import Agari
from mahjong.shanten import Shanten

from stratos.tasks.base import Task
from stratos.tasks.mahjong import DiscardTask
from stratos.tasks.mahjong.discard import derive, discards
from stratos.tasks.mahjong.engine import (
    Fault,
    Hand,
    OtherTileCount,
    WrongPath,
    add,
    all_tiles,
    text_to_hand,
    tiles_to_text,
)

TASK = DiscardTask()


def best_by_package(hand: Hand) -> str:
    """Try every discard and every draw with the package."""
    totals = {}
    for tile in all_tiles():
        if not hand[tile[0]][tile[1] - 1]:
            continue
        rest = add(hand, tile, -1)
        totals[tile] = sum(
            4 - hand[s][r - 1]
            for s, r in all_tiles()
            if rest[s][r - 1] < 4
            and Agari.is_agari([n for counts in add(rest, (s, r)) for n in counts])
        )
    most = max(totals.values())
    return tiles_to_text(frozenset(tile for tile, n in totals.items() if n == most))


@pytest.mark.parametrize("name", ["full_flush", "general"])
def test_answers_agree_with_the_package(name):
    for item in TASK.items("test", 40, slice=name):
        hand = text_to_hand(item.question)
        assert item.answer == best_by_package(hand)
        assert Shanten().calculate_shanten([n for counts in hand for n in counts]) == 0


def test_known_hands():
    def best(question: str) -> str:
        return tiles_to_text(derive(text_to_hand(question))[1])

    # 34m waits for 2m and 5m, 13m for 2m alone.
    assert best("134m123456p789s11z") == "1m"
    # Each leaves a gap of four tiles.
    assert best("357m123456p789s11z") == "37m"
    path, found = derive(text_to_hand("134m123456p789s11z"))
    assert " -1m 2m:4 5m:4 =8 -3m -4m 2m:4 =4" in path
    assert found == {(0, 1)}


def test_keeps_the_contract_and_splits_are_disjoint():
    assert isinstance(TASK, Task)
    families = {
        split: {item.family for item in TASK.items(split, 150)} for split in ("validation", "test")
    }
    families["train"] = {item.family for item in TASK.reverse(300)}
    assert not families["train"] & (families["test"] | families["validation"])
    assert not families["validation"] & families["test"]
    assert TASK.items("test", 40)[:20] == TASK.items("test", 20)


def test_reverse_items_are_verified_and_wrong_ones_found():
    rng = random.Random(0)
    items = list(TASK.reverse(200, seed=3))
    assert items == list(TASK.reverse(200, seed=3))
    assert [TASK.verify(item) for item in items] == [None] * 200
    assert {item.slice for item in items} == {"full_flush", "general"}
    for item in items[:60]:
        assert sum(bool(left) for left in discards(text_to_hand(item.question)).values()) > 1
        places = [k for k, c in enumerate(item.rationale) if c.isdigit()]
        at = rng.choice(places)
        other = str((int(item.rationale[at]) + rng.randrange(1, 9)) % 10)
        changed = item.rationale[:at] + other + item.rationale[at + 1 :]
        assert TASK.verify(replace(item, rationale=changed)) is not None
    assert TASK.verify(replace(items[0], answer="1z2z3z")) is not None
    assert TASK.verify(replace(items[0], rationale="")) == WrongPath(Fault.KINDS)
    assert TASK.verify(replace(items[0], question="1m")) == OtherTileCount("1m", 14)


def test_every_text_is_made_of_the_vocabulary():
    import re

    symbols = TASK.vocabulary()
    known = set(symbols.vocabulary)
    assert len(known) == len(symbols.vocabulary)
    for item in TASK.reverse(100):
        text = TASK.student_messages(item)[0]["content"] + TASK.completion(item)
        for pattern, replacement in symbols.rewrites:
            text = re.sub(pattern, replacement, text)
        found = re.findall(symbols.pattern, text)
        assert "".join(found) == text
        assert set(found) <= known
        assert TASK.score(TASK.completion(item), item).exact == 1


def test_prompts_and_choices():
    for item in TASK.items("validation", 30):
        assert len(set(item.choices)) == 4
        assert item.choices.count(item.answer) == 1
        for prompt in TASK.prompts:
            assert item.question in TASK.messages(item, prompt)[-1]["content"]
    assert TASK.choice_messages(item)[0]["content"].endswith("Answer with one letter.")
    assert len(TASK.example_answers("default")) >= 2
