"""Dollars and hours of a hosted teacher: answers under way at once, and a range for both."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import stdev

import pytest
from world import SIGHTED

from stratos.core.intervals import wilson
from stratos.estimate.cards import Workload
from stratos.plan.option import Option
from stratos.plan.options.teacher import Load, hosted_options
from stratos.plan.stage import _hours_range, _usd_range
from stratos.records import AnswerSpread, TeacherProbe

N_PROBED, N_ASKED = 48, 400
IN, OUT = 10.0, 30.0
"""Dollars per million tokens."""


def probed(lengths: list[int], seconds: list[float], **more: object) -> TeacherProbe:
    n = len(lengths)
    card = replace(SIGHTED.card, usd_per_million_input_tokens=IN, usd_per_million_output_tokens=OUT)
    one = replace(
        SIGHTED,
        card=card,
        n_items=n,
        exact=wilson(n, n),
        input_tokens=50 * n,
        output_tokens=sum(lengths),
        seconds=sum(seconds),
        spread=AnswerSpread(0.0, stdev(lengths), stdev(seconds)),
        most_at_once=16,
        at_once=8.0,
    )
    return replace(one, **more)  # type: ignore[arg-type]


def option(teacher: TeacherProbe, n: int = N_ASKED) -> Option:
    mean = teacher.output_tokens / teacher.n_items
    [one] = hosted_options(teacher, Load(n, Workload(50, mean)))
    return one


def test_the_dollars_that_come_lie_in_the_range_as_often_as_it_says():
    draw = random.Random(3)
    inside, n_runs = 0, 400
    for _ in range(n_runs):
        lengths = [round(draw.lognormvariate(5, 0.6)) for _ in range(N_PROBED + N_ASKED)]
        low, high = option(probed(lengths[:N_PROBED], [1.0] * N_PROBED)).usd_range or (0, 0)
        paid = (50 * IN * N_ASKED + OUT * sum(lengths[N_PROBED:])) / 1e6
        inside += low <= paid <= high
    assert 0.91 <= inside / n_runs <= 0.99


def test_input_that_the_endpoint_has_read_before_has_its_own_price():
    teacher = probed([100] * 50, [1.0] * 50)
    half_cached = replace(
        teacher,
        card=replace(teacher.card, usd_per_million_cached_input_tokens=IN / 10),
        cached_input_tokens=25 * 50,
    )
    plain, cheaper = option(teacher), option(half_cached)
    saved = N_ASKED * 25 * (IN - IN / 10) / 1e6
    assert cheaper.usd == pytest.approx(plain.usd - saved)
    low, high = cheaper.usd_range or (0, 0)
    assert low < cheaper.usd < high < plain.usd
    texts = Load(100, Workload(50, 1))
    [scores] = hosted_options(half_cached, Load(N_ASKED, Workload(50, 100)), scored=texts)
    assert scores.usd - cheaper.usd == pytest.approx(100 * (50 * IN + OUT) / 1e6), "in full, too"
    assert cheaper.last_call_usd == pytest.approx(25 * (IN - IN / 10) / 1e6), "set aside in full"


def test_equal_answers_are_no_promise_of_equal_ones():
    one = option(probed([100] * 50, [1.0] * 50))
    assert one.usd_range == pytest.approx((0.98 * one.usd, 1.02 * one.usd))


def test_answers_are_under_way_at_once():
    teacher = probed([100] * N_PROBED, [0.9, 1.1] * (N_PROBED // 2))
    one = option(teacher)
    assert one.hours == pytest.approx(N_ASKED / 16 / 3600)
    low, high = one.hours_range or (0, 0)
    # The slow end has no more at once than the probe had.
    assert 0.9 * one.hours < low < one.hours and 2 * one.hours < high < 2.1 * one.hours
    assert option(teacher, n=3).hours == pytest.approx(1 / 3600), "one takes its own time"
    limited = replace(teacher, card=replace(teacher.card, max_requests_per_minute=60))
    assert option(limited).hours == pytest.approx(N_ASKED / 60 / 60)


def test_what_is_not_known_has_no_range():
    teacher = probed([100] * N_PROBED, [1.0] * N_PROBED)
    kept = option(replace(teacher, at_once=None))
    assert kept.hours_range is None and kept.usd_range is not None
    old = option(replace(teacher, spread=None))
    assert old.usd_range is None
    roles = kept.as_choices("teacher") + replace(kept, hours=0.0, usd=0.0).as_choices("train")
    assert _hours_range(roles) is None, "a sum has no range where a part has none"
    assert _usd_range(old.as_choices("teacher"), 1.0) is None
    low, high = _usd_range(kept.as_choices("teacher"), 1.0) or (0, 0)
    assert low < 1 + kept.usd < high
