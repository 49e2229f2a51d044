"""Wilson intervals against published numbers, and at the edges."""

import pytest

from stratos.core.intervals import wilson

# Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("k", "n", "low", "high"), NEWCOMBE)
def test_published_values(k: int, n: int, low: float, high: float) -> None:
    interval = wilson(k, n)
    assert interval.mean == k / n
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_solves_the_score_equation() -> None:
    # Both ends p satisfy |k/n - p| = z * sqrt(p * (1 - p) / n): the definition of the interval.
    z = 1.959963984540054
    interval = wilson(7, 64)
    for end in (interval.low, interval.high):
        assert abs(7 / 64 - end) == pytest.approx(z * (end * (1 - end) / 64) ** 0.5, rel=1e-12)


def test_is_symmetric_and_narrows() -> None:
    few, many = wilson(3, 10), wilson(300, 1000)
    mirrored = wilson(7, 10)
    assert few.low == pytest.approx(1 - mirrored.high)
    assert many.high - many.low < few.high - few.low
    assert wilson(3, 10, confidence=0.8).low > few.low


def test_edges() -> None:
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert wilson(1, 2).source == "2 items, Wilson"
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=1.0)
