"""A cascade before its student is trained: the share that goes to the teacher, at both ends."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import CallbacksConfig, EvaluateConfig
from stratos.contrib.cascade.choosing_items import cascade_way, escalated, too_few_items
from stratos.contrib.cascade.config import GROUP, CascadeConfig
from stratos.records import Interval


def test_the_ends_are_those_of_a_perfect_and_of_a_useless_confidence():
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


def test_doubt_about_student_and_teacher_widens_it():
    sure = escalated(0.9, exactly(0.8), exactly(0.95))
    found = escalated(0.9, Interval(0.8, 0.7, 0.92), Interval(0.95, 0.91, 0.98))
    assert sure is not None and found is not None
    assert found.low == 0.0 and found.high > sure.high and found.mean == sure.mean


def of_rows(n_validation: int, n_test: int, accuracy: float | None = 0.95) -> Any:
    task = SimpleNamespace(
        has_rows=True, n_test=n_test, items=lambda split, n: [None] * min(n, n_validation)
    )
    return SimpleNamespace(
        task=task, callbacks=CallbacksConfig(n_validation_items=10), evaluate=EvaluateConfig(),
        rooms={GROUP: CascadeConfig(accuracy=accuracy)},
    )  # fmt: skip


def test_a_cascade_is_no_way_where_the_rows_cannot_promise_it():
    too_few = too_few_items(of_rows(46, 75))
    assert too_few is not None and too_few.n_items == 37
    assert too_few.least is not None and 37 < too_few.least < 200
    for enough in (
        of_rows(50 + too_few.least, 75), of_rows(46, 2 * too_few.least), of_rows(46, 75, 0.8),
        of_rows(46, 75, None),
    ):  # fmt: skip
        assert too_few_items(enough) is None
    teacher: Any = SimpleNamespace(name="large", usd_per_answer=exactly(1.0), retires=None)
    plan: Any = SimpleNamespace(teacher="large", student="small", accuracy=exactly(0.9))
    way = cascade_way(0.95, plan, [teacher], too_few)
    assert way is not None and way.why_not == str(too_few) and way.usd_per_answer is None
