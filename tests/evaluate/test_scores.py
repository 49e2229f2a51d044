import pytest

from stratos.core.intervals import n_independent, wilson
from stratos.core.pairs import mcnemar_exact
from stratos.evaluate.metrics import against, by_slice, compare
from stratos.records import ModelScore
from stratos.tasks.base import Item, Score

RIGHT, WRONG = Score(1.0, 1.0, True), Score(0.0, 0.5, True)


def items(*slices: str) -> list[Item]:
    return [Item(str(n), name, "question", "answer") for n, name in enumerate(slices)]


def test_slices_come_in_the_order_they_are_met_and_all_comes_last():
    rows = by_slice(items("b", "a", "b", "b"), [RIGHT, WRONG, WRONG, RIGHT])
    assert [(row.slice, row.n_items) for row in rows] == [("b", 3), ("a", 1), ("all", 4)]
    assert [row.exact for row in rows] == [wilson(2, 3), wilson(0, 1), wilson(2, 4)]
    assert [row.f1 for row in rows] == pytest.approx([2.5 / 3, 0.5, 0.75])


def test_models_are_compared_pair_by_pair():
    student = [RIGHT] * 7 + [WRONG] * 3
    teacher = [WRONG] * 6 + [RIGHT] * 2 + [WRONG] * 2
    comparison = compare(student, teacher)
    assert (comparison.only_student, comparison.only_teacher) == (6, 1)
    assert comparison.ratio == pytest.approx(3.5)
    assert comparison.ratio_at_least == wilson(7, 10).low / wilson(2, 10).high
    assert comparison.p_value == mcnemar_exact(6, 1)


def test_a_teacher_without_a_right_answer_has_no_ratio_but_a_lower_end():
    comparison = compare([RIGHT] * 20, [WRONG] * 20)
    assert comparison.ratio is None
    assert comparison.ratio_high is None
    assert comparison.ratio_low > 4
    assert comparison.ratio_at_least == wilson(20, 20).low / wilson(0, 20).high


def test_two_models_without_a_right_answer_are_not_told_apart():
    comparison = compare([WRONG] * 5, [WRONG] * 5)
    assert comparison.ratio is None
    assert comparison.ratio_at_least == 0.0
    assert comparison.p_value == 1.0


def test_a_baseline_is_compared_pair_by_pair():
    student = [RIGHT] * 7 + [WRONG] * 3
    other = [WRONG] * 6 + [RIGHT] * 2 + [WRONG] * 2
    versus = against(ModelScore("lookup", "the nearest row", ()), student, other)
    assert (versus.role, versus.name, versus.n_items) == ("lookup", "the nearest row", 10)
    assert (versus.only_student, versus.only_other) == (6, 1)
    assert (versus.student_exact.mean, versus.other_exact.mean) == (0.7, 0.2)
    assert versus.p_value == mcnemar_exact(6, 1)
    assert versus.ahead == pytest.approx(-0.5)


def sets(right: int, answered: int, gold: int) -> Score:
    """Return the score of an answer of some labels to an item with some."""
    return Score(float(right == answered == gold), 0.0, True, (2 * right, answered + gold))


def test_the_f1_of_several_labels_counts_labels_and_not_items():
    scores = [sets(3, 3, 3), sets(0, 1, 1)] * 20
    [all_items] = by_slice(items(*["all"] * 40), scores)[-1:]
    f1 = all_items.micro_f1
    assert f1.mean == pytest.approx(3 / 4)
    assert f1.low < f1.mean < f1.high < 1
    assert all_items.exact == wilson(20, 40)
    assert by_slice(items("a"), [RIGHT])[-1].micro_f1 is None
    assert by_slice(items("a"), [sets(0, 0, 0)])[-1].micro_f1.mean == 1.0, "no label was right"


def test_students_of_several_labels_are_compared_by_their_f1():
    good, poor = [sets(2, 3, 2)] * 40, [sets(1, 3, 2)] * 40
    versus = against(ModelScore("linear", "TF-IDF", ()), good, poor)
    assert versus.student_exact.mean == versus.other_exact.mean == 0.0
    assert (versus.student, versus.baseline) == pytest.approx((4 / 5, 2 / 5))
    assert versus.p_value < 0.01
    assert against(ModelScore("linear", "TF-IDF", ()), good, good).p_value == 1.0


def test_intervals_count_groups_of_near_duplicates():
    scores = [RIGHT] * 30 + [WRONG] * 10 + [RIGHT] * 10
    groups = [str(k // 10) for k in range(40)] + [f"alone {k}" for k in range(10)]
    [*_, part] = by_slice(items(*["a"] * 50), scores, groups)
    worth = n_independent([score.exact for score in scores], groups)
    assert (part.n_items, part.n_groups, part.n_independent) == (50, 14, round(worth))
    assert part.exact.mean == pytest.approx(0.8)
    assert part.exact.low == pytest.approx(wilson(0.8 * worth, worth).low)
    assert part.exact.high - part.exact.low > 1.5 * (wilson(40, 50).high - wilson(40, 50).low)
    [*_, apart] = by_slice(items(*["a"] * 50), scores, [str(k) for k in range(50)])
    assert apart.exact == wilson(40, 50) and apart.n_groups == 0


def test_the_f1_of_groups_has_a_wider_interval():
    scores = [sets(3, 3, 3)] * 20 + [sets(0, 1, 1)] * 20
    every = items(*["all"] * 40)
    [*_, alone] = by_slice(every, scores)
    [*_, grouped] = by_slice(every, scores, [str(k // 5) for k in range(40)])
    assert grouped.micro_f1.mean == alone.micro_f1.mean
    widths = [part.micro_f1.high - part.micro_f1.low for part in (alone, grouped)]
    assert widths[1] > 1.5 * widths[0]
