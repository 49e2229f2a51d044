"""Which prompts are asked more items."""

from __future__ import annotations

import pytest

from stratos.probe.questioning import Answered, can_win, left_in, sizes, winner
from stratos.tasks.base import Item, Score
from stratos.teachers.base import LENGTH, Answer
from stratos.teachers.prompting import AnswerLimit


def answered(right: str, f1: float = 0.0, cut: bool = False) -> Answered:
    """Answers of which those marked with a 1 are right."""
    return Answered(
        tuple(Item(str(n), "main", "?", "!") for n in range(len(right))),
        tuple(Answer("", 1, 1, 0.1, finish=LENGTH if cut else "stop") for _ in right),
        tuple(Score(float(mark), max(f1, float(mark)), True) for mark in right),
        AnswerLimit(8, "data"),
    )


def test_sizes():
    assert sizes(16) == [8, 16]
    assert sizes(20) == [8, 16, 20]
    assert sizes(8) == [8] and sizes(2) == [2]


def test_a_prompt_that_cannot_win_any_more_is_dropped():
    tried = {"a": answered("1111"), "b": answered("0000"), "c": answered("0111")}
    assert left_in(tried, 16) == ["a", "c"]  # none of four lies below all of four
    # All that is left would not make up for what it lacks.
    late = {"a": answered("1" * 12), "b": answered("0" * 4 + "1" * 8)}
    assert left_in(late, 16) == ["a"]
    assert left_in(late, 32) == ["a", "b"]  # two at least, while both may win
    # One that was dropped before has fewer items and stays out.
    assert left_in({**late, "c": answered("1111")}, 32) == ["a", "b"]


def test_the_better_half_goes_on():
    tried = {
        "a": answered("10000000"),
        "b": answered("0" * 8, f1=0.1),
        "c": answered("0" * 8, f1=0.3),
        "d": answered("0" * 8, f1=0.2),
    }
    assert left_in(tried, 16) == ["a", "c"]
    assert left_in({name: tried[name] for name in "ab"}, 16) == ["a", "b"]
    few = {name: answered("0000", f1=n / 10) for n, name in enumerate("abcd")}
    assert left_in(few, 16) == ["c", "d"]


def test_where_nothing_is_right_after_eight_items_none_is_asked_more():
    assert left_in({"a": answered("0000"), "b": answered("0000")}, 16) == ["a", "b"]
    assert left_in({"a": answered("0" * 8), "b": answered("0" * 8)}, 16) == []
    assert left_in({"a": answered("0" * 8), "b": answered("0" * 7 + "1")}, 16) == ["a", "b"]


def test_cut_answers_may_still_win():
    best, cut = answered("1111"), answered("0000", cut=True)
    assert not can_win(cut, best, 16)
    assert cut.n_cut_and_wrong == cut.n_truncated == 4
    assert can_win(cut, best, 16, n_open=cut.n_cut_and_wrong)
    assert can_win(best, best, 4)


@pytest.mark.parametrize(
    ("whole", "cut", "are_read"),
    [("..", 6, True), ("...", 5, False), (".!..", 4, False), (".!.!", 4, True), ("", 8, True)],
)
def test_longer_answers_are_worth_asking_for_where_whole_ones_are_answers(whole, cut, are_read):
    """Each "!" is an answer that can be read; one or two tell nothing yet."""
    finishes = ["stop"] * len(whole) + [LENGTH] * cut
    parsed = [mark == "!" for mark in whole] + [False] * cut
    answers = Answered(
        tuple(Item(str(n), "main", "?", "!") for n in range(len(parsed))),
        tuple(Answer("", 1, 1, 0.1, finish=finish) for finish in finishes),
        tuple(Score(0.0, 0.0, mark) for mark in parsed),
    )
    assert answers.is_readable == are_read


def test_the_winner_is_the_best_of_those_that_were_asked_most():
    tried = {"a": answered("0000", f1=0.2), "b": answered("0000", f1=0.4), "c": answered("11")}
    assert winner(tried, ("a", "b", "c")) == "b"
    even = {"a": answered("0101"), "b": answered("1010")}
    assert winner(even, ("b", "a")) == "b" and winner(even, ("a", "b")) == "a"
