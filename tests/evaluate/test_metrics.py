from itertools import product
from math import comb, inf, log, sqrt

import pytest

from stratos.core.pairs import difference_interval, mcnemar_exact, paired_difference
from stratos.evaluate.metrics import _ratio_score, mean, only_answer, percentile, ratio_interval
from stratos.tasks.answers import fields_of, object_of
from stratos.tasks.base import Item, Score


def test_mcnemar_agrees_with_published_values():
    # Airway hyper-responsiveness before and after stem-cell transplantation, 1 against 7 changes:
    # Fagerland, Lydersen and Laake (2014), "exact conditional", P = 0.070.
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703125)
    assert mcnemar_exact(7, 1) == mcnemar_exact(1, 7)


@pytest.mark.parametrize("n", range(1, 12))
def test_mcnemar_is_the_sum_of_outcomes_that_are_no_likelier(n):
    chances = [comb(n, k) / 2**n for k in range(n + 1)]
    for k in range(n + 1):
        expected = sum(chance for chance in chances if chance <= chances[k] * (1 + 1e-12))
        assert mcnemar_exact(k, n - k) == pytest.approx(expected)


def test_mcnemar_at_the_ends():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0
    assert 0 <= mcnemar_exact(2000, 0) < 1e-300
    assert mcnemar_exact(1000, 900) == pytest.approx(0.0232, abs=5e-4)


def test_ratio_interval_agrees_with_published_values():
    # The same study: "Tang asymptotic score" interval of the ratio, 0.065 to 0.907.
    low, high = ratio_interval(both=1, only_student=1, only_teacher=7, n=21)
    assert (round(low, 3), round(high, 3)) == (0.065, 0.907)


def test_ratio_interval_stands_when_the_teacher_has_nothing_right():
    low, high = ratio_interval(both=0, only_student=126, only_teacher=0, n=128)
    assert low > 20
    assert high == inf
    assert ratio_interval(0, 0, 0, 10) == (0.0, inf)


def test_ratio_interval_turns_over_with_its_models():
    low, high = ratio_interval(both=43, only_student=8, only_teacher=3, n=100)
    turned_low, turned_high = ratio_interval(both=43, only_student=3, only_teacher=8, n=100)
    assert low < 51 / 46 < high
    assert (turned_low, turned_high) == pytest.approx((1 / high, 1 / low))


@pytest.mark.parametrize(("counts", "ratio"), product([(1, 1, 7, 12), (5, 9, 2, 4)], [0.3, 1, 2.5]))
def test_ratio_score_uses_the_likeliest_shares_under_the_hypothesis(counts, ratio):
    both, only_student, only_teacher, _ = counts
    n = sum(counts)

    def likelihood(p_both: float, p_teacher: float) -> float:
        p_student = ratio * (p_both + p_teacher) - p_both
        p_neither = 1 - p_both - p_teacher - p_student
        shares = (p_both, p_student, p_teacher, p_neither)
        if min(shares) <= 0:
            return -inf
        return sum(k * log(p) for k, p in zip(counts, shares, strict=True))

    # A brute-force twin of the closed form: the best of a grid that closes in on itself.
    (x, y), step = (0.2 / (1 + ratio), 0.2 / (1 + ratio)), 0.05
    while step > 1e-9:
        around = [(x + i * step, y + j * step) for i in range(-5, 6) for j in range(-5, 6)]
        best = max(around, key=lambda point: likelihood(*point))
        step = step if best != (x, y) else step / 2
        x, y = best
    variance = n * ratio * (ratio * (x + y) - x + y)
    expected = (both + only_student - ratio * (both + only_teacher)) / sqrt(variance)
    assert _ratio_score(*counts, ratio) == pytest.approx(expected, rel=1e-5)


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^Counts 5, 6 and 0 do not fit into 10 items\.$"):
        ratio_interval(5, 6, 0, 10)


@pytest.mark.parametrize("counts", [(5, 1, 60), (0, 0, 400), (1, 0, 44), (3, 12, 100), (9, 9, 20)])
def test_the_ends_of_a_difference_are_those_that_a_score_test_just_rejects(counts):
    """A brute-force twin: the likeliest shares under a difference, from a fine grid."""
    only_first, only_second, n = counts

    def score(difference: float) -> float:
        def likelihood(second: float) -> float:
            shares = (second + difference, second, 1 - 2 * second - difference)
            found = 0.0
            for k, p in zip((only_first, only_second, n - only_first - only_second), shares,
                            strict=True):  # fmt: skip
                if p < 0 or (k and p <= 0):
                    return -inf
                found += k * log(p) if k else 0.0
            return found

        low, high = max(0.0, -difference), (1 - difference) / 2
        for _ in range(4):
            width = (high - low) / 400
            grid = [low + i * width for i in range(401)]
            best = max(grid, key=likelihood)
            low, high = max(low, best - width), min(high, best + width)
        variance = n * (2 * best + difference - difference**2)
        return (only_first - only_second - n * difference) / sqrt(variance)

    low, high = difference_interval(*counts)
    assert score(low) == pytest.approx(1.959964, rel=1e-3)
    assert score(high) == pytest.approx(-1.959964, rel=1e-3)
    other = difference_interval(only_second, only_first, n)
    assert other == pytest.approx((-high, -low))


def test_the_interval_of_a_difference_and_the_exact_test_never_contradict_each_other():
    assert paired_difference(5, 0, 40)[:2] == (0.0625, 0.0)
    assert paired_difference(6, 0, 40)[1] > 0
    for n in (*range(1, 25), 100, 3_000):
        for only_first in range(min(n, 24) + 1):
            for only_second in range(min(n - only_first, 24) + 1):
                p_value, low, high = paired_difference(only_first, only_second, n)
                assert p_value == mcnemar_exact(only_first, only_second)
                assert (p_value < 0.05) == (not low <= 0 <= high), (only_first, only_second, n)


@pytest.mark.slow
def test_a_difference_has_an_interval_around_it_for_all_counts():
    for n in range(1, 61):
        for only_first in range(n + 1):
            for only_second in range(n + 1 - only_first):
                low, high = difference_interval(only_first, only_second, n)
                assert -1 <= low <= (only_first - only_second) / n <= high <= 1
    for n in (400, 12_345, 10**6):
        assert difference_interval(0, n, n)[0] == -1 == -difference_interval(n, 0, n)[1]


def test_no_item_that_differs_leaves_a_width():
    # The closed form: z² / (n + z²).
    assert difference_interval(0, 0, 400) == pytest.approx((-3.8415 / 403.8415, 3.8415 / 403.8415),
                                                           rel=1e-4)  # fmt: skip
    with pytest.raises(ValueError, match=r"^Counts 5 and 6 do not fit into 10 items\.$"):
        difference_interval(5, 6, 10)


def test_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.95) == 95
    assert percentile(values, 0.07) == 7
    assert percentile(values, 1.0) == 100
    assert percentile([3.0], 0.95) == 3
    with pytest.raises(ValueError, match=r"^No percentile 0\.5 of 0 values\.$"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("gold", "given", "expected"),
    [
        ("ab", ["b", "B "], "b"),
        ("ab", ["b", "a"], None),
        ("ab", ["", ""], ""),
        ("aa", ["a", "a"], None),  # as it should be
        ("", [], None),
        ("aaaaab" * 2, ["a"] * 12, None),  # a good student may get those two wrong
        (["5", "5.0"], ["5", "5"], None),  # which are equal
        (['{"a": 1, "b": 2}', '{"b": 2, "a": 1}'], ['{"a": 1, "b": 2}'] * 2, None),
    ],
)
def test_one_answer_to_everything_is_found(gold, given, expected):
    n = 1 if len(given) > 2 else 5
    items = [Item(str(k), "main", "q", answer) for k, answer in enumerate([*gold] * n)]
    texts = given * n
    scores = [
        Score(float(_value(text) == _value(item.answer)), 0.0, True)
        for text, item in zip(texts, items, strict=True)
    ]
    assert only_answer(items, texts, scores) == expected
    assert only_answer(items[:4], texts[:4], scores[:4]) is None  # of few it says nothing


def _value(text):
    if (made := object_of(text)) is not None:
        return fields_of(made)
    return float(text) if text[:1].isdigit() else text.strip().lower()


def test_mean_of_nothing_is_zero():
    assert mean([]) == 0.0
    assert mean([1, 2, 6]) == 3.0
