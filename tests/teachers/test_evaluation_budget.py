"""How many test items a teacher answers: what money and time allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stratos.config import EvaluateConfig, LimitsConfig
from stratos.core.intervals import wilson
from stratos.records import ModelCard, TeacherProbe
from stratos.teachers import cost_estimate
from stratos.teachers.cost_estimate import n_allowed, n_expected, parts_in_time
from tests.stub_task import StubTask

CARD = ModelCard("t", 135_000_000, 30, 576, 9, 3, 1536, 49152, 8192)
PAID = replace(CARD, usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=4.0)


def probed(card: ModelCard = CARD, seconds: float = 32.0) -> TeacherProbe:
    """64 items, half a second and 400 tokens in and 150 out each: a paid one takes $0.001."""
    return TeacherProbe(
        teacher="t", card=card, prompt="p", n_items=64, exact=wilson(0, 64), choice=wilson(0, 64),
        exact_by_slice={}, parsable=1.0, echoes=0.0, input_tokens=400 * 64, output_tokens=150 * 64,
        seconds=seconds, cpu_seconds=1.0, usd=0.0, n_cached=0,
    )  # fmt: skip


def config(budget_usd: float | None = None, probe_usd: float = 5.0, **evaluate: Any) -> Any:
    limits = LimitsConfig(budget_usd=budget_usd, probe_usd=probe_usd)
    return EvaluateConfig(**evaluate), limits, StubTask()


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        (config(), 1000),
        (config(n_items=200), 200),
        (config(n_teacher_items=64), 64),
        (config(budget_usd=5.0), 500),
        (config(budget_usd=0.5), 128),
        (config(probe_usd=0.3), 300),
        (config(budget_usd=0.5, teacher_usd=0.02), 20),
        (config(teacher_usd=0.0), 1),
    ],
)
def test_money_bounds_the_items_of_a_paid_teacher(now: Any, allowed: int) -> None:
    assert n_allowed(probed(PAID), *now) == n_expected(probed(PAID), *now) == allowed


def test_time_bounds_those_of_a_teacher_of_this_machine() -> None:
    assert n_allowed(probed(), *config(budget_usd=0.1)) == 1000
    assert n_expected(probed(), *config()) == 240, "two minutes of half a second each"
    assert n_expected(probed(), *config(teacher_minutes=60)) == 1000
    assert n_expected(probed(), *config(teacher_minutes=0.01)) == 32
    assert n_expected(probed(seconds=0.0), *config()) == 1000


@pytest.mark.parametrize(
    ("minutes", "pace", "seconds_each", "n_asked"),
    [
        (1.0, 0.5, 0.5, 120),
        (1.0, 0.01, 0.5, 128),  # a pace that was foretold too fast is found out
        (1.0, 5.0, 0.1, 600),  # or too slow
        (0.001, 5.0, 5.0, 32),
        (10.0, 0.0, 0.001, 1000),
        (0.2, 0.5, 0.0, 1000),  # what the cache knows takes no time
    ],
)
def test_parts_are_given_out_while_there_is_time(
    minutes: float, pace: float, seconds_each: float, n_asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(cost_estimate.time, "monotonic", lambda: clock[0])
    items: list[int] = []
    for part in parts_in_time(range(1000), minutes, pace):
        clock[0] += seconds_each * len(part)
        items += part
    assert items == list(range(len(items)))
    assert abs(len(items) - n_asked) <= 0.06 * n_asked
    if len(items) > 128:
        assert clock[0] <= 60 * minutes + 1e-6


def test_a_ratio_can_be_no_larger_than_the_items_let_it() -> None:
    from stratos.evaluate.scores import compare
    from stratos.tasks.base import Score

    right, wrong = Score(1.0, 1.0, True), Score(0.0, 0.0, True)
    for n in (16, 128, 1000):
        best = compare([right] * n, [wrong] * n)
        assert best.ratio_at_least == pytest.approx(best.ratio_bound, rel=1e-4)
    assert compare([right] * 128, [wrong] * 128).ratio_bound == pytest.approx(33.3, abs=0.05)
