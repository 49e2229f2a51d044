"""Groups of near duplicates, with their signatures in memory or in files."""

from __future__ import annotations

import random

import pytest

from stratos.tasks.messages import alike
from stratos.tasks.messages.alike import Alike
from stratos.tasks.split import normalised

WORDS = [f"{one}{two}{three}" for one in "bdklm" for two in "aeiou" for three in "nrst"]


def texts(n: int) -> list[str]:
    rng = random.Random(0)
    found = []
    for k in range(n):
        if k % 4 == 3:  # nearly one that came before
            words = rng.choice(found).split()
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=30)
        found.append(" ".join(words))
    return found


def grouped(some: list[str]) -> list[int]:
    groups = Alike()
    for one in some:
        groups.add(one)
    return groups.groups().tolist()


def test_signatures_in_files_give_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    some = texts(400)
    in_memory = grouped(some)
    assert 60 < sum(group != k for k, group in enumerate(in_memory)) <= 100
    monkeypatch.setattr(alike, "_IN_MEMORY", 64)
    monkeypatch.setattr("stratos.tasks.table._WRITTEN_AT_ONCE", 100)
    monkeypatch.setattr("stratos.tasks.table._READ_AT_ONCE", 48)
    assert grouped(some) == in_memory


def test_words_and_numbers_of_plain_text_are_those_of_any_text() -> None:
    rng = random.Random(0)
    for _ in range(300):
        text = normalised("".join(chr(rng.randrange(128)) for _ in range(rng.randrange(200))))
        words = alike._NO_WORD.sub("", text).split()
        numbers = " ".join(sorted(alike._NUMBER.findall(text))).encode()
        assert alike._words_and_numbers(text) == (words, numbers)
        # With another letter in it, it is read the other way.
        assert alike._words_and_numbers(f"{text} ß") == ([*words, "ß"], numbers)
