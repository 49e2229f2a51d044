"""Splits, reverse generation, scoring and the look-up of the Mahjong task."""

import random
import time
from itertools import permutations, product

import pytest

from stratos.tasks.base import Item, Task
from stratos.tasks.mahjong import DiscardTask, MahjongTask, engine
from stratos.tasks.mahjong.engine import (
    SUITS,
    Hand,
    add,
    canonical,
    text_to_hand,
    tiles_to_text,
    waits,
)
from stratos.tasks.mahjong.task import worked

TASK = MahjongTask()


def images(hand: Hand, rng: random.Random) -> list[Hand]:
    """Every permutation and mirror of the suits, with a random permutation of the honours."""
    found = []
    for order, mirrors in product(permutations(range(3)), product((False, True), repeat=3)):
        suits = [hand[s][::-1] if m else hand[s] for s, m in zip(order, mirrors, strict=True)]
        honours = list(hand[3])
        rng.shuffle(honours)
        found.append((*suits, tuple(honours)))
    return found


def test_keeps_the_contract():
    assert isinstance(TASK, Task)


def test_symmetric_hands_are_of_one_family_and_so_of_one_split():
    rng = random.Random(0)
    for _ in range(40):
        hand, _ = engine.remove_random(engine.winning_hand(rng), rng)
        assert {canonical(image) for image in images(hand, rng)} == {canonical(hand)}


def test_splits_are_disjoint_up_to_symmetry():
    families: dict[str, set[str]] = {
        split: {item.family for item in TASK.items(split, 1200)} for split in ("validation", "test")
    }
    families["train"] = {item.family for item in TASK.reverse(3000)}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not families[one] & families[other]
    assert len(families["test"]) == 1200, "no two test items are mirrors of each other"


@pytest.mark.parametrize("task", [TASK, DiscardTask()], ids=lambda task: task.name)
def test_two_seeds_share_no_more_test_items_than_chance(task):
    n = 200 if task is TASK else 50
    by_seed = [
        {name: {i.family for i in task.items("test", n, seed, name)} for name in task.slices}
        for seed in (0, 1)
    ]
    # Of the 8,032 classes of full flush, n are drawn for each seed. The rare shapes of the other
    # slice (thirteen orphans) have few families.
    by_chance = n * n / len(engine.flush_split("test"))
    both = {name: len(by_seed[0][name] & by_seed[1][name]) for name in task.slices}
    assert both["full_flush"] <= by_chance + 4 * by_chance**0.5
    assert both["general"] <= 0.1 * n
    trained = {item.family for item in task.reverse(2000 if task is TASK else 200)}
    for found in by_seed:
        assert not trained & set.union(*found.values())


def test_less_than_half_of_full_flush_is_trained_on():
    sizes = {split: len(engine.flush_split(split)) for split in engine.SHARES}
    assert sum(sizes.values()) == 20_128
    assert sizes["train"] <= 20_128 / 2
    trained = {item.family for item in TASK.reverse(3000) if item.slice == "full_flush"}
    assert all(engine.split_of(family) == "train" for family in trained)


def test_a_smaller_n_is_a_prefix_and_slices_alternate():
    few, many = TASK.items("test", 20), TASK.items("test", 60)
    assert many[:20] == few
    assert [item.slice for item in few[:4]] == ["full_flush", "general"] * 2
    assert {item.slice for item in TASK.items("test", 10, slice="general")} == {"general"}


def test_reverse_items_are_verified_and_reproducible():
    items = list(TASK.reverse(400, seed=7))
    assert items == list(TASK.reverse(400, seed=7))
    assert items != list(TASK.reverse(400, seed=8))
    assert [TASK.verify(item) for item in items] == [None] * 400
    share = sum(item.slice == "full_flush" for item in items) / 400
    assert 0.22 < share < 0.38


def test_reverse_generation_is_fast():
    list(TASK.reverse(500))  # enumerates full flush once
    start = time.process_time()
    for item in TASK.reverse(1000, seed=1):
        assert TASK.verify(item) is None
    # The target is 2,000 a second (benchmarks/tasks/mahjong_engine.py): this guards a collapse.
    assert 1000 / (time.process_time() - start) > 500


def test_general_hands_hold_the_documented_shares():
    rng = random.Random(1)
    winning = [engine.winning_hand(rng) for _ in range(3000)]
    pairs = sum(all(n in (0, 2) for counts in hand for n in counts) for hand in winning)
    orphans = sum(
        not any(any(counts[1:8]) for counts in hand[:3]) and all(hand[3]) for hand in winning
    )
    assert 0.035 < pairs / 3000 < 0.065
    assert 0.035 < orphans / 3000 < 0.065
    assert all(sum(map(sum, hand)) == 14 for hand in winning)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("147m25p", "147m25p"),
        ("The waits are 1m, 4m and 7m.", "147m"),
        (" 1m:0 /00ab m+1-2 => 2p1m", "1m2p"),
        ("1m4m7m2p", "147m2p"),
        ("11m", "1m"),
        ("I do not know", None),
        ("8z", None),
        ("", None),
        ("first\n=> 5s", "5s"),
    ],
)
def test_answers_are_read(text, answer):
    assert TASK.parse(text) == answer


def test_scores():
    item = Item("i", "general", "123m456p789s1122z", "12z")
    assert TASK.score("=> 12z", item).exact == 1
    half = TASK.score("=> 1z", item)
    assert (half.exact, round(half.f1, 3), half.parsed) == (0, 0.667, True)
    assert TASK.score("none", item).parsed is False
    assert TASK.score(TASK.completion(item), item).exact == 1


def test_choices_hold_the_gold_answer_once_at_every_place():
    items = TASK.items("validation", 200)
    places = [item.choices.index(item.answer) for item in items]
    assert all(len(set(item.choices)) == 4 for item in items)
    assert all(30 <= places.count(place) <= 75 for place in range(4))
    assert all(TASK.parse(choice) == choice for choice in items[0].choices)


def test_few_shot_examples_are_training_items():
    held_out = {i.question for s in ("validation", "test") for i in TASK.items(s, 500)}
    for prompt in TASK.prompts:
        chat = TASK.messages(TASK.items("validation", 1)[0], prompt)
        examples = [m["content"] for m in chat[:-1] if m["role"] == "user"]
        if prompt == "reasoning":  # it shows none
            assert not examples and not TASK.example_answers(prompt)
            continue
        assert examples
        assert not any(question in text for question in held_out for text in examples)
        assert len(TASK.example_answers(prompt)) >= 2


def test_lookup_finds_a_mirror_image():
    train = [
        Item("a", "general", "1223456789m11p9s", ""),
        Item("b", "general", "1112345678999m", "1m9m"),
    ]
    train[0] = Item("a", "general", "4445m111999s111z", "356m")
    asked = Item("q", "general", "5666p111999s111z", "457p")
    assert TASK.lookup(train, [asked]) == ["457p"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3m: 123m 456p 789s 11z 333m\n=> 3m", "3m"),
        ("3m: 123m 456p 789s 11z 333m", None),
        ("3m: 123m\n3m: 123m\n", None),
        (" 1m:2 /12ax 2m:0", None),
        ("3: 3m: 33m 33m", None),
        ("=> 10p6p", None),
        ("It is 3m.", "3m"),
        ("3m, 4p", "3m4p"),
        ("3m: so it waits for\n4p", "4p"),
    ],
)
def test_a_step_of_some_reasoning_is_no_answer(text, expected):
    assert TASK.parse(text) == expected


def test_worked_answers_are_complete_hands():
    task = MahjongTask()
    shapes = ["19m19p19s1234567z", "1122334455667z", "1112345678999m"]
    hands = [text_to_hand(text) for text in shapes]
    hands += [text_to_hand(item.question) for item in task.items("train", 200, seed=3)]
    for hand in hands:
        *lines, last = worked(hand).splitlines()
        found = waits(hand)
        assert last == f"=> {tiles_to_text(found)}"
        assert [line.partition(":")[0] for line in lines] == [
            f"{rank}{SUITS[suit]}" for suit, rank in sorted(found)
        ]
        for line, tile in zip(lines, sorted(found), strict=True):
            groups = line.partition(": ")[2].split()
            rows = [text_to_hand(group) for group in groups]
            total = tuple(
                tuple(map(sum, zip(*(row[suit] for row in rows), strict=True))) for suit in range(4)
            )
            assert total == add(hand, tile)
            sizes = sorted(len(group) - 1 for group in groups)
            orphans = not any(any(counts[1:8]) for counts in hand[:3])
            assert orphans or sizes in ([2, 3, 3, 3, 3], [2] * 7)


def test_prompts_that_ask_for_reasoning_are_read_and_tell_their_length():
    task = MahjongTask()
    item = task.items("train", 1, seed=9)[0]
    examples = task.messages(item, "worked")[1:-1]
    assert len(examples) == 6 and "=> " in examples[1]["content"]
    assert task.parse(examples[1]["content"]) == task._examples[0].answer
    assert not [one for one in task.messages(item, "reasoning") if one["role"] == "assistant"]
    longest = {
        prompt: max(map(len, task.answer_texts(prompt)), default=0) for prompt in task.prompts
    }
    assert longest["reasoning"] == 0  # nothing shows how long a teacher reasons
    assert longest["default"] < 40 < longest["worked"] < 600
    assert len(set(task.answer_texts("question"))) > 100
