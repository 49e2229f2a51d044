"""Two students on the items that both answered."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from stratos.evaluate.answers import KeptAnswer
from stratos.report.paired import describe, paired, settings_of
from stratos.tasks.base import Score

RIGHT = Score(1.0, 1.0, True)


def answers(right: list[bool], first: int = 0) -> list[KeptAnswer]:
    return [
        KeptAnswer(
            str(i), "all", f"question {i}", f"gold {i}", [], "text", 1,
            Score(float(is_right), 0.0, True), -0.1,
        )
        for i, is_right in enumerate(right, first)
    ]  # fmt: skip


def test_the_counts_are_those_of_shared_items(snapshot):
    ours = answers([True] * 6 + [False] * 4)  # 0 to 9
    theirs = answers([False, True, True, True, True, True, True, False], first=4)  # 4 to 11
    result = paired(ours, theirs)
    assert result is not None
    assert (result.n_items, result.only_first, result.only_second) == (6, 1, 4)
    assert (result.first, result.second) == (2 / 6, 5 / 6)
    assert result.low < result.second - result.first < result.high
    assert result.outcome == "open"
    assert describe(result, ("A", "B")) == snapshot


def test_items_with_other_labels_are_counted_and_the_better_one_stands_first(snapshot):
    ours, theirs = answers([True] * 104), answers([False] * 104)
    for i in range(18):
        theirs[i] = replace(theirs[i], gold="another")
    result = paired(ours, theirs)
    assert result is not None and result.n_items == 86 and result.left_out.n_relabelled == 18
    text = describe(result, ("A", "B"))
    assert text == snapshot
    back = paired(theirs, ours)
    assert back is not None
    assert describe(back, ("B", "A")) == text, "it says one thing in both orders"


def test_an_item_of_another_gold_answer_is_another_item():
    ours, theirs = answers([True]), answers([True])
    theirs[0] = KeptAnswer("0", "all", "question 0", "another", [], "", 1, RIGHT, 0.0)
    assert paired(ours, theirs) is None
    assert paired([], theirs) is None


@pytest.mark.parametrize(("lead", "outcome"), [(40, "second"), (-40, "first"), (0, "open")])
def test_a_sure_lead_is_one_in_both_orders(lead, outcome):
    ours = [True] * 200 + [False] * 100
    theirs = [True] * (200 + lead) + [False] * (100 - lead)
    result = paired(answers(ours), answers(theirs))
    assert result is not None and result.outcome == outcome
    back = paired(answers(theirs), answers(ours))
    assert back is not None
    assert back.outcome == {"first": "second", "second": "first", "open": "open"}[outcome]
    assert (back.low, back.high) == pytest.approx((-result.high, -result.low), abs=1e-9)
    assert back.p_value == result.p_value


def test_equal_students_are_seldom_told_apart():
    rng, wrong = random.Random(0), 0
    for _ in range(400):
        ours = answers([rng.random() < 0.8 for _ in range(150)])
        theirs = answers([rng.random() < 0.8 for _ in range(150)])
        result = paired(ours, theirs)
        assert result is not None
        wrong += result.outcome != "open"
    assert wrong <= 0.05 * 400


def test_what_a_card_knows_of_earlier_trainings_is_no_setting(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(
        "seed: 1\nstudent:\n  name: a\n  runs:\n    - {task: b, accuracy: 0.9}\n"
    )
    assert settings_of(tmp_path) == {"seed": "1", "student.name": "a"}
