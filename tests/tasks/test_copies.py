"""Copies with some words changed are told from texts that a template was filled in for."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from stratos.tasks.dedup.near import Alike

WORDS = ["".join(random.Random(k).choices("abcdefghij", k=6)) for k in range(3000)]
RNG = random.Random(0)
Texts = list[list[str]]


def some(n: int) -> list[str]:
    return RNG.choices(WORDS, k=n)


def copies(n: int, n_changed: int, base: list[str] | None = None) -> Texts:
    base = base or some(60)
    found = [list(base) for _ in range(n)]
    for one in found:
        for _ in range(n_changed):
            one[RNG.randrange(len(one))] = RNG.choice(WORDS)
    return found


def filled(n: int, *slots: Callable[[], str]) -> Texts:
    base = some(60)
    found = [list(base) for _ in range(n)]
    for one in found:
        for k, slot in enumerate(slots):
            one[7 * k + 3] = slot()
    return found


def largest(texts: Texts) -> int:
    alike = Alike()
    for one in texts:
        alike.add(" ".join(one))
    groups = alike.groups().tolist()
    return max(map(groups.count, set(groups)))


@pytest.mark.parametrize(
    ("texts", "n_least"),
    [
        (lambda: [*copies(42, 2), *[some(60) for _ in range(458)]], 40),
        (lambda: [*copies(5, 2), *[some(60) for _ in range(25)]], 5),
        (lambda: copies(150, 2), 145),
        (lambda: [*copies(42, 1, some(20)), *[some(20) for _ in range(458)]], 40),
        (lambda: [["so", "to", *one] for one in (*copies(42, 2), *copies(400, 60))], 40),
    ],
)
def test_copies_are_found_however_many_there_are(texts, n_least):
    RNG.seed(1)
    assert largest(texts()) >= n_least


@pytest.mark.parametrize(
    "texts",
    [
        lambda: filled(300, lambda: RNG.choice(WORDS)),
        lambda: filled(30, lambda: RNG.choice(WORDS)),
        lambda: filled(300, lambda: RNG.choice(WORDS[:12]), lambda: RNG.choice(WORDS)),
        lambda: filled(
            300,
            *5 * [lambda: "plain" if RNG.random() < 0.8 else RNG.choice(WORDS[:5])],
            lambda: RNG.choice(WORDS),
        ),
    ],
)
def test_what_a_template_was_filled_in_for_is_no_copy(texts):
    RNG.seed(1)
    assert largest(texts()) <= 10


def test_copies_of_what_is_filled_in_are_found():
    RNG.seed(2)
    template = some(40)
    contents = [*copies(42, 1, some(30)), *[some(30) for _ in range(458)]]
    assert largest([template + one for one in contents]) >= 38
