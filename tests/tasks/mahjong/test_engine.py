"""The engine against the package `mahjong`: a fixed part of benchmarks/tasks/mahjong_engine.py."""

import random

import pytest
from mahjong.agari import Agari

from stratos.tasks.mahjong import engine
from stratos.tasks.mahjong.engine import EMPTY, Hand, add, text_to_hand, tiles_to_text


def package_waits(hand: Hand) -> frozenset[tuple[int, int]]:
    found = set()
    for tile in engine.all_tiles():
        if hand[tile[0]][tile[1] - 1] < 4:
            full = add(hand, tile)
            if Agari.is_agari([n for counts in full for n in counts]):
                found.add(tile)
    return frozenset(found)


@pytest.mark.parametrize("kind", ["full_flush", "general"])
def test_agrees_with_the_package(kind):
    rng = random.Random(20)
    for _ in range(300):
        if kind == "general":
            hand, _ = engine.remove_random(engine.winning_hand(rng), rng)
        else:
            hand = engine.flush_hand(rng.choice(engine.flush_classes()), rng.randrange(3), False)
        assert engine.waits(hand) == package_waits(hand)


def test_agrees_with_the_package_on_hands_that_are_not_ready():
    rng = random.Random(3)
    kinds = engine.all_tiles() * 4
    for _ in range(150):
        hand = EMPTY
        for tile in rng.sample(kinds, 13):
            hand = add(hand, tile)
        assert engine.waits(hand) == package_waits(hand)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("1112345678999m", "123456789m"),
        ("123m456p789s1122z", "12z"),
        ("1122334455667p", "147p"),
        ("19m19p19s1234567z", "19m19p19s1234567z"),
        ("19m19p119s124567z", "3z"),
        ("1111m222p333s444z", ""),
        ("2222m34m567p888s1z", "1z"),
    ],
)
def test_known_hands(question, answer):
    assert tiles_to_text(engine.waits(text_to_hand(question))) == answer


def test_a_tile_held_four_times_is_no_wait():
    assert (0, 5) not in engine.waits(text_to_hand("5555m123p456p789p"))


def test_full_flush_has_20128_ready_classes():
    classes = engine.flush_classes()
    assert len(classes) == 20_128
    assert sum(2 if counts != counts[::-1] else 1 for counts in classes) == 40_196
    assert all(engine.waits((counts, *EMPTY[1:])) for counts in classes)


def test_ready_classes_come_without_asking_the_engine_of_every_hand(monkeypatch):
    """A plan counts a few hands of this task: it has no time for all hands of 13 tiles."""
    monkeypatch.setattr(engine, "waits", lambda _: pytest.fail("asked"), raising=False)
    monkeypatch.setattr(engine, "waits", lambda _: pytest.fail("asked"))
    found = engine.flush_classes.__wrapped__()
    assert list(found) == sorted(found) and found == engine.flush_classes()
