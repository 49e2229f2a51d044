"""Several answers to one question: which is learnt, and when no more are asked for."""

from __future__ import annotations

import pytest

from stratos.synthesize.alignment import Attempt, choose, fewest, settled


def attempts(*answers: str, gold: str = "7") -> list[Attempt]:
    """Make attempts from "answer" or "answer/text"; "" is one that could not be read."""
    made = []
    for k, answer in enumerate(answers):
        answer, _, text = answer.partition("/")
        made.append(Attempt(text or f"text {k}", answer or None, answer == gold, answer == ""))
    return made


@pytest.mark.parametrize(
    ("rule", "answers", "n_left", "expected"),
    [
        ("first", ["7"], 3, True),
        ("first", ["1"], 3, False),
        ("first", ["1"], 0, True),
        ("shortest", ["7"], 3, False),
        ("shortest", ["7", "7"], 3, True),
        ("shortest", ["7", "1", "1"], 1, False),
        ("likeliest", ["7", "1", "7"], 1, True),
        ("majority", ["7", "7"], 2, False),
        ("majority", ["7", "7", "7"], 2, True),
        ("majority", ["1", "1", "1"], 2, True),
        ("majority", ["1", "7", "1"], 2, False),
        ("majority", [""], 1, False),
    ],
)
def test_easy_questions_are_settled_sooner(rule, answers, n_left, expected):
    assert settled(rule, attempts(*answers), n_left) is expected


def test_which_right_answer_is_learnt():
    tried = attempts("1/a", "7/a long way to it", "7/short", "7/of medium size")
    assert choose("first", tried).text == "a long way to it"
    assert choose("shortest", tried).text == "short"
    assert choose("majority", tried).text == "a long way to it"
    assert choose("likeliest", tried, lambda texts: [-3, -2, -1]).text == "of medium size"
    assert choose("likeliest", tried).text == "a long way to it"


def test_a_lucky_guess_is_outvoted():
    assert choose("majority", attempts("7", "1", "1")) == "outvoted"
    assert choose("majority", attempts("7", "1")) == "outvoted"
    assert choose("majority", attempts("7", "1", "2", "7")).is_right
    assert choose("shortest", attempts("7", "1", "1")).is_right


def test_why_none_is_learnt():
    assert choose("first", attempts("1", "")) == "wrong"
    assert choose("first", attempts("", "")) == "cut off"
    assert choose("first", [Attempt("?", None, False)]) == "not parsable"
    unread = Attempt("", None, False, is_unread=True)
    assert choose("first", [unread, unread]) == "longer than the teacher's context"
    assert choose("first", [unread, *attempts("1")]) == "wrong"


@pytest.mark.parametrize("rule", ["first", "shortest", "majority", "likeliest"])
@pytest.mark.parametrize("n_most", range(1, 9))
def test_the_fewest_answers_that_settle_a_question(rule, n_most):
    same = attempts(*["7"] * n_most)
    first = next(n for n in range(1, n_most + 1) if settled(rule, same[:n], n_most - n))
    assert fewest(rule, n_most) == first
