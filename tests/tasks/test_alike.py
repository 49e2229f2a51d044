"""Groups of near duplicates, with their signatures in memory or in files."""

from __future__ import annotations

import random

import pytest

from stratos.tasks.dedup import near as near_duplicates
from stratos.tasks.dedup.hashes import NO_WORD, normalised
from stratos.tasks.dedup.near import Alike

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


def test_signatures_in_files_give_the_same_groups(monkeypatch):
    some = texts(400)
    in_memory = grouped(some)
    assert 60 < sum(group != k for k, group in enumerate(in_memory)) <= 100
    monkeypatch.setattr(near_duplicates, "_IN_MEMORY", 64)
    monkeypatch.setattr("stratos.tasks.table._WRITTEN_AT_ONCE", 100)
    monkeypatch.setattr("stratos.tasks.table._READ_AT_ONCE", 48)
    assert grouped(some) == in_memory


def test_a_copy_in_letters_of_another_script_is_of_the_group():
    latin = texts(40)
    cyrillic = [text.translate(str.maketrans("aeokmt", "аеокмт")) for text in latin]
    assert not set(latin) & set(cyrillic)
    assert grouped(latin + cyrillic)[40:] == grouped(latin)


def test_words_and_numbers_of_plain_text_are_those_of_any_text():
    rng = random.Random(0)
    for _ in range(300):
        text = normalised("".join(chr(rng.randrange(128)) for _ in range(rng.randrange(99))))
        words = NO_WORD.sub("", text).split()
        numbers = " ".join(sorted(near_duplicates._NUMBER.findall(text))).encode()
        assert near_duplicates._words_and_numbers(text) == (words, numbers)
        # With another letter in it, it is read the other way.
        assert near_duplicates._words_and_numbers(f"{text} ß") == ([*words, "ß"], numbers)


def together(links: list[tuple[int, ...]], sessions: list[int] | None = None) -> int:
    """Return how many groups texts make that have nothing else in common."""
    groups = Alike()
    rng = random.Random(1)
    for k, one in enumerate(links):
        text = " ".join(rng.choices(WORDS, k=20))
        groups.add(text, one, sessions[k] if sessions else None)
    return len(set(groups.groups().tolist()))


def test_a_history_that_goes_on_is_one_group_however_long_it_is():
    grown = [tuple(range(1, k + 2)) for k in range(45)]
    assert together([*grown, *[(k,) for k in range(100, 200)]]) == 101
    # A beginning that goes on in a hundred ways is a phrase.
    assert together([(1, k) for k in range(100, 200)]) == 100


def test_a_session_is_one_group_however_long_it_is():
    assert together([()] * 400, [k % 10 for k in range(400)]) == 10
    assert together([()] * 100, [7] * 100) == 100, "an id that all have tells nothing"
    groups = Alike()
    for k in range(50):
        groups.add(f"text {WORDS[k]}", (), 7)
    assert groups.n_of_no_session == 50


def test_sessions_that_begin_with_one_phrase_are_not_one():
    groups = Alike()
    rng = random.Random(1)
    for k in range(100):
        groups.add("hello", (), k)
        for _ in range(2):
            groups.add(" ".join(["hello", *rng.choices(WORDS, k=20)]), (), k)
    assert len(set(groups.groups().tolist())) == 101


@pytest.mark.parametrize("letters", [range(0x4E00, 0x4F00), range(0x0E01, 0x0E2F)])
def test_texts_without_spaces_are_compared_by_their_characters(letters):
    rng = random.Random(0)
    some = ["".join(chr(rng.choice(letters)) for _ in range(200)) for _ in range(40)]
    changed = [one[:90] + chr(letters[0]) + one[91:] for one in some]
    groups = grouped([*some, *changed])
    assert sum(groups[k] == groups[k + 40] for k in range(40)) >= 39
    assert len(set(groups)) >= 40


def test_objects_on_one_line_are_compared_by_their_characters():
    rng = random.Random(0)
    one = ",".join(f'"{rng.choice(WORDS)}":"{rng.choice(WORDS)}"' for _ in range(30))
    first, second, other = grouped([one, f'"z":"y",{one}', one[::-1]])
    assert first == second != other


def test_the_order_of_the_texts_changes_no_group():
    rng = random.Random(0)
    template = " ".join(rng.choices(WORDS, k=40))
    some = [" ".join(rng.choices(WORDS, k=30)) for _ in range(2400)]
    some += [f"{template} {' '.join(rng.choices(WORDS, k=12))}" for _ in range(300)]
    groups = Alike(), Alike()
    for one in some:
        groups[0].add(one)
    for one in reversed(some):
        groups[1].add(one)
    assert groups[0].keys().tolist() == groups[1].keys().tolist()[::-1]
