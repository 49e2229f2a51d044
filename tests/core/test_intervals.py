"""Wilson intervals against published numbers, and at the edges."""

import random

import numpy as np
import pytest

from stratos.core.intervals import by_shares, n_independent, wilson

# Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("k", "n", "low", "high"), NEWCOMBE)
def test_published_values(k, n, low, high):
    interval = wilson(k, n)
    assert interval.mean == k / n
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_solves_the_score_equation():
    # Both ends p satisfy |k/n - p| = z * sqrt(p * (1 - p) / n): the definition of the interval.
    z = 1.959963984540054
    interval = wilson(7, 64)
    for end in (interval.low, interval.high):
        assert abs(7 / 64 - end) == pytest.approx(z * (end * (1 - end) / 64) ** 0.5, rel=1e-12)


def test_is_symmetric_and_narrows():
    few, many = wilson(3, 10), wilson(300, 1000)
    mirrored = wilson(7, 10)
    assert few.low == pytest.approx(1 - mirrored.high)
    assert many.high - many.low < few.high - few.low
    assert wilson(3, 10, confidence=0.8).low > few.low


def test_edges():
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert wilson(1, 2).source == "2 items, Wilson"
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=1.0)


def test_slices_by_their_shares():
    parts = {"rare": wilson(50, 100), "usual": wilson(90, 100)}
    found = by_shares(parts, {"rare": 0.1, "usual": 0.9})
    assert found is not None and found.mean == pytest.approx(0.86)
    alone = by_shares(parts, {"usual": 1.0})
    assert alone is not None
    assert (alone.low, alone.high) == pytest.approx((parts["usual"].low, parts["usual"].high))
    assert by_shares(parts, {}) is None, "shares that are not known"
    assert by_shares(parts, {"usual": 0.9, "other": 0.1}) is None, "a slice that nobody measured"


def test_the_interval_over_slices_holds_as_often_as_it_says():
    rng = random.Random(4)
    shares, truth = {"a": 0.05, "b": 0.35, "c": 0.6}, {"a": 0.3, "b": 0.99, "c": 0.9}
    expected = sum(share * truth[name] for name, share in shares.items())
    n_inside = 0
    for _ in range(2000):
        parts = {
            name: wilson(sum(rng.random() < p for _ in range(60)), 60) for name, p in truth.items()
        }
        found = by_shares(parts, shares)
        assert found is not None and 0 <= found.low <= found.high <= 1
        n_inside += found.low <= expected <= found.high
    assert 0.94 <= n_inside / 2000 <= 0.985


def test_values_of_no_group_are_worth_their_number_and_copies_are_worth_one():
    values = [1, 0, 1, 1, 0, 1] * 5
    assert n_independent(values, range(30)) == 30
    copies = [value for value in values for _ in range(4)]
    assert n_independent(copies, [k // 4 for k in range(120)]) == pytest.approx(30)
    sizes = [1, 2, 5]  # all copies: (sum of sizes)² over the sum of squares, the index of Simpson
    groups = [k for k, size in enumerate(sizes) for _ in range(size)]
    assert n_independent([1] * 8, groups) == pytest.approx(64 / 30), "nothing tells them apart"
    assert n_independent([1, 0] * 4, [0] * 8) == 1
    mixed = [1, 0] * 60  # every group has one of each: less alike than by chance
    assert n_independent(mixed, [k // 2 for k in range(120)]) == 120


@pytest.mark.parametrize("share", [0.7, 0.93])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("n_groups", [15, 60])
def test_the_interval_of_groups_covers_as_often_as_it_says(share, correlation, n_groups):
    rng = np.random.default_rng(round(1000 * correlation) + n_groups)
    n_hits = n_hits_of_rows = 0
    for _ in range(300):
        sizes = 1 + (rng.pareto(1.2, n_groups) * 3).astype(int).clip(max=29)
        shares = np.full(n_groups, share)
        if correlation == 1:
            shares = (rng.random(n_groups) < share).astype(float)
        elif correlation:  # a beta-binomial distribution has this correlation within groups
            concentration = (1 - correlation) / correlation
            shares = rng.beta(share * concentration, (1 - share) * concentration, n_groups)
        groups = np.repeat(np.arange(n_groups), sizes)
        values = (rng.random(len(groups)) < shares[groups]).astype(float)
        n = n_independent(values.tolist(), groups.tolist())
        mean = float(values.mean())
        interval, of_rows = wilson(mean * n, n), wilson(mean * len(values), len(values))
        n_hits += interval.low <= share <= interval.high
        n_hits_of_rows += of_rows.low <= share <= of_rows.high
    assert n_hits >= 0.88 * 300
    assert correlation == 0 or n_hits_of_rows < 0.8 * 300, "rows are not independent"
