"""The exact paired test: how often it is wrong, what it is sure of, and against adding up."""

import math
from pathlib import Path

import numpy as np
import pytest

from stratos.contrib.gate.command import Counts, ExactTest, _scores, p_value


@pytest.mark.parametrize(
    ("n", "lost", "won", "margin"), [(8, 0, 4, 0.02), (12, 1, 7, 0.02), (15, 0, 0, 0.1),
                                     (12, 6, 1, -0.1), (10, 0, 5, -0.02)],
)  # fmt: skip
def test_the_p_value_is_the_largest_probability_over_the_whole_hypothesis(n, lost, won, margin):
    """All counts that speak as clearly, added up, at shares on the boundary and beyond it."""
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    a, b = a[a + b <= n], b[a + b <= n]
    seen = _scores(n, np.array([lost]), np.array([won]), margin)[0]
    is_clear = _scores(n, a, b, margin) >= seen - 1e-9
    a, b = a[is_clear], b[is_clear]
    ways = np.array([math.comb(n, i) * math.comb(n - i, j) for i, j in zip(a, b, strict=True)])
    largest = 0.0
    for q in np.linspace(0, 1, 401):
        for p in np.linspace(max(0.0, q + margin), 1 - q, 5) if q + margin <= 1 - q else ():
            rest = max(0.0, 1 - p - q)
            largest = max(largest, float((ways * p**a * q**b * rest ** (n - a - b)).sum()))
    assert largest - 1e-9 <= p_value(n, lost, won, margin) <= 1.03 * largest


@pytest.mark.parametrize("n", [3, 8, 12])
def test_false_verdicts_are_as_rare_as_is_said(n):
    """At a difference of exactly delta either verdict is wrong; added up over all counts."""
    test = ExactTest(0.05, 0.1)
    outcomes = {
        (lost, won): test.outcome(Counts(lost, won, n - lost - won))
        for lost in range(n + 1) for won in range(n + 1 - lost)
    }  # fmt: skip
    for alike in np.linspace(0.0, 0.95, 20):
        lost_share = (1 - alike + test.delta) / 2
        wrong = {"worse": 0.0, "no worse": 0.0, "cannot tell": 0.0}
        for (lost, won), outcome in outcomes.items():
            ways = math.comb(n, lost) * math.comb(n - lost, won)
            chance = lost_share**lost * (1 - alike - lost_share) ** won * alike ** (n - lost - won)
            wrong[outcome] += ways * chance
        assert sum(wrong.values()) == pytest.approx(1)
        assert max(wrong["worse"], wrong["no worse"]) <= test.alpha + 1e-9


def test_few_items_decide_where_they_are_clear():
    test = ExactTest(0.02, 0.05)
    assert test.outcome(Counts(1, 19, 20)) == "no worse", "95% against 50% of 40"
    assert test.outcome(Counts(0, 4, 4)) == "no worse"
    assert test.outcome(Counts(4, 0, 4)) == "worse"
    assert test.outcome(Counts(1, 2, 5)) == test.outcome(Counts()) == "cannot tell"
    assert test.n_needed(Counts(1, 2, 5)) is not None and test.n_needed(Counts(2, 0, 98)) is None


def test_few_items_pass_nobody_who_is_worse_and_say_how_many_would_tell():
    """75 items and a student 10 points worse."""
    rng, test, shares = np.random.default_rng(3), ExactTest(0.02, 0.05), [0.15, 0.05, 0.8]
    outcomes = [test.outcome(Counts(*rng.multinomial(75, shares).tolist())) for _ in range(30)]
    assert outcomes.count("no worse") <= 1 and outcomes.count("cannot tell") > 5
    expected = test.n_needed(Counts(15, 5, 80))
    assert expected is not None and expected > 100
    drawn = [Counts(*rng.multinomial(2 * expected, shares).tolist()) for _ in range(30)]
    outcomes = [test.outcome(counts) for counts in drawn]
    assert outcomes.count("worse") > 15, "twice as many as are said are mostly enough"


def test_the_docs_say_how_many_items_that_are_alike_are_enough():
    text = (Path(__file__).parents[3] / "docs" / "contrib" / "gate.md").read_text()
    n = int(" ".join(text.split()).partition(" items that both answer alike")[0].split()[-1])
    test = ExactTest(0.02, 0.05)
    assert test.outcome(Counts(alike=n)) == "no worse"
    assert test.outcome(Counts(alike=n - 1)) == "cannot tell"
