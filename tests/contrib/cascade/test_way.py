"""A cascade before its student is trained: the share that goes to the teacher, at both ends."""

from __future__ import annotations

import random

import pytest

from stratos.contrib.cascade.choosing_items import escalated
from stratos.records import Interval


def test_the_ends_are_those_of_a_perfect_and_of_a_useless_confidence() -> None:
    rng = random.Random(0)
    for _ in range(200):
        n, s, t = 2000, rng.uniform(0.3, 0.95), rng.uniform(0.5, 1.0)
        goal = rng.uniform(0.4, 0.99)
        found = escalated(goal, exactly(s), exactly(t))
        right = round(s * n)
        # Perfect: what the student has wrong goes first. Useless: any of them.
        least = next((k for k in range(n - right + 1) if right + k * t >= goal * n - 1e-9), None)
        if least is None:
            assert found is None or found.low > 1 - s - 2 / n
            continue
        assert found is not None and found.low == pytest.approx(least / n, abs=2 / n)
        any_of = next((k for k in range(n + 1) if s * (n - k) + k * t >= goal * n - 1e-9), n)
        assert found.high == pytest.approx(any_of / n, abs=2 / n)
        assert found.low <= found.mean <= found.high


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


def test_doubt_about_student_and_teacher_widens_it() -> None:
    sure = escalated(0.9, exactly(0.8), exactly(0.95))
    found = escalated(0.9, Interval(0.8, 0.7, 0.92), Interval(0.95, 0.91, 0.98))
    assert sure is not None and found is not None
    assert found.low == 0.0 and found.high > sure.high and found.mean == sure.mean
