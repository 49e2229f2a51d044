"""What counts as right in the generators of reasoning-gym: the answer, and nothing beside it."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from required import lacking

from stratos.contrib.gym import GymTask, source
from stratos.contrib.gym.gym_task import SEVERAL, points_of, says_the_same
from stratos.contrib.gym.source import names, not_installed

SLOW = frozenset(("sokoban",))
"""Generators that make an entry in minutes."""
N_ENTRIES = 4
OPPOSITE = {"knight": "knave", "True": "False", "Yes": "No", "on": "off"} | {
    "knave": "knight", "False": "True", "No": "Yes", "off": "on"
}  # fmt: skip
FIXED = ("nan", "inf", "-inf", "0", "banana", "None", "[]", "I do not know", "x" * 300)


@pytest.fixture(autouse=True)
def _installed() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        lacking("gym", not_installed())


def entries(name: str) -> tuple[Any, list[dict[str, Any]], list[str]]:
    """Return a generator, some of its entries, and their right answers."""
    level = 0 if source.has_levels(name) else None
    stream = source.entries(name, "{}", level, 0)
    found = [next(stream)[1] for _ in range(N_ENTRIES)]
    verifier = source.generator(name, "{}", level, source.first_of(0, 0))
    golds = ["" if one["answer"] is None else str(one["answer"]).strip() for one in found]
    return verifier, found, golds


def opposite(gold: str) -> str:
    """Return an answer that says the contrary, or the same where none is known."""
    words = "|".join(OPPOSITE)
    return re.sub(rf"\b({words})\b", lambda found: OPPOSITE[found[0]], gold)


def hostile(gold: str, other: str) -> list[str]:
    """Return texts that are no right answer, though some hold it."""
    around = ["not {}", "Not: {}", "{} (not)", "{} foo bar", "{}\nfoo", "{} {}"]
    return [
        *FIXED,
        *(one.replace("{}", gold) for one in around),
        f"{gold} {other}", f"{other} {gold}", f"{gold}, or {other}", f"{gold} But no: {other}",
        f"{gold} {opposite(gold)}", f"{opposite(gold)} {gold}", opposite(gold),
    ]  # fmt: skip


def means(text: str) -> str:
    """Return an answer without what changes nothing: spaces, a number's form, its unit."""
    text = "".join(text.split()).casefold()
    text = re.sub(r"\d+\.?\d*", lambda found: f"{float(found[0]):g}", text)
    return text.removesuffix("days")


def test_of_every_generator_the_gold_is_right_and_what_is_none_is_wrong() -> None:
    taken = []
    for name in names():
        if name in SLOW or name in source.WITHOUT_GOLD:
            continue
        verifier, found, golds = entries(name)
        entry, gold = next(one for one in zip(found, golds, strict=True) if one[1])
        others = [one for one in golds if one != gold] or ["zzz"]
        assert points_of(name, gold, verifier, entry) == 1.0, (name, gold)
        texts = {*hostile(gold, others[0])} | (set() if name in SEVERAL else {*others})
        taken += [
            (name, text, gold)
            for text in texts
            if means(text) != means(gold) and points_of(name, text, verifier, entry) >= 1.0
        ]
    assert taken == []


@pytest.mark.parametrize(("name", "wrong"), [
    ("complex_arithmetic", "nan"), ("game_of_life_halting", "banana"), ("coin_flip", "0"),
    ("gsm_symbolic", "not {}"), ("quantum_lock", "not {}"), ("letter_jumble", "{} foo bar"),
    ("knights_knaves", "{} But no: {}"), ("decimal_arithmetic", "{}9"),
    ("polynomial_equations", "banana"),
])  # fmt: skip
def test_what_the_package_takes_and_is_no_answer(name: str, wrong: str) -> None:
    verifier, found, golds = entries(name)
    for entry, gold in zip(found, golds, strict=True):
        if wrong != gold and not (wrong == "0" and float(gold) == 0):
            assert points_of(name, wrong.replace("{}", gold), verifier, entry) < 1.0


@pytest.mark.parametrize(("name", "answer", "gold"), [
    ("chain_sum", "1,234.0", "1234"), ("coin_flip", "3/8", "0.375"),
    ("complex_arithmetic", "48+36i", "48.0 + 36.0i"), ("bitwise_arithmetic", "23272", "0x5ae8"),
    ("bitwise_arithmetic", "0X5AE8", "0x5ae8"), ("time_intervals", "3", "3 days"),
    ("power_function", "2.11e-6", "2.1074564964392415e-06"),
    ("number_format", "31016.956", "31016.956000000002"),
    ("fraction_simplification", "31/39", r"$\dfrac{31}{39}$"), ("figlet_font", "a near", "ANEAR"),
    ("knights_knaves", "Jo is a knave, Al is a knight", "Al is a knight, Jo is a knave."),
    ("polynomial_equations", '""', ""), ("game_of_life", "[[0, 1]]", "[[0,1]]"),
    ("number_sorting", '["1,234", "2"]', "['1234', '2.0']"),
    ("quantum_lock", "A, B -> c", "C → C → C"), ("sokoban", "ULDR", "RR"),
    ("jugs", '["fill A", "pour A->B"]', "[]"),
])  # fmt: skip
def test_the_same_in_another_form_is_left_to_the_verifier(
    name: str, answer: str, gold: str
) -> None:
    assert says_the_same(name, answer, gold)


@pytest.mark.parametrize(("name", "answer"), [
    ("sokoban", "not ULDR"), ("rush_hour", "never A+1"), ("rubiks_cube", "R U or no: D"),
    ("tower_of_hanoi", "do not Move disk 1 from Peg 1 to Peg 2"), ("jugs", '["fill A or not"]'),
    ("kakurasu", "0 1\nnot 1 0"), ("quantum_lock", "A → B not"),
])  # fmt: skip
def test_of_several_right_answers_each_is_in_its_form(name: str, answer: str) -> None:
    assert not says_the_same(name, answer, "")


class TakesAll:
    """A verifier that gives every answer all points."""

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        return 1.0


def test_a_verifier_that_fails_gives_no_points_and_a_rule_of_ours_that_fails_is_an_error() -> None:
    entry: dict[str, Any] = {"answer": None, "metadata": {}}
    assert points_of("chain_sum", "7", None, entry) == 0.0
    with pytest.raises(KeyError, match="numbers"):
        points_of("puzzle24", "3*8", TakesAll(), entry)


@pytest.mark.parametrize("answer", ["[" * 100_000, f"[{10**400}]", "7", "[[1]]", "{}", "[1, 'a']"])
def test_a_rule_of_ours_takes_whatever_a_model_writes(answer: str) -> None:
    assert points_of("number_sorting", answer, TakesAll(), {"answer": "['1', '2']"}) == 0.0


def test_a_number_that_would_fill_the_memory_is_not_handed_on() -> None:
    task = GymTask("coin_flip")
    assert task.score("1e9999999999", task.items("test", 1)[0]).exact == 0.0
