"""Whether distilling pays: against a simulation of every hour, and in words."""

from __future__ import annotations

import datetime
import random

import numpy as np
import pytest
from world import BLIND, LARGE, World, replace, teacher

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, LimitsConfig, TrafficConfig
from stratos.plan.horizon import DAYS_A_MONTH, Horizon, with_horizon
from stratos.plan.options.candidates import build_problem
from stratos.plan.solution import solve
from stratos.plan.worth import Ends, Money, _outcome, worth_of
from stratos.records import AnswerSpread, Interval, LoggedProof

AWS = CloudConfig(name="aws", providers=("aws",))
N_CASES = 10_000
TODAY = datetime.date(2026, 11, 27)
HOSTED = replace(
    LARGE, name="large", usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=8.0
)
PAID = replace(teacher(HOSTED, right=60), spread=AnswerSpread(40.0, 4.0, 0.5))


def cases():
    rng = random.Random(0)
    for _ in range(N_CASES):
        horizon = Horizon(rng.uniform(0.1, 36), rng.choice((0.0, rng.uniform(-0.3, 0.4))))
        once, per_day = 10 ** rng.uniform(-1, 4), rng.choice((0.0, 10 ** rng.uniform(-1, 3)))
        yield Money(once, per_day, 10 ** rng.uniform(-6, -1)), 10 ** rng.uniform(0, 6), horizon


def simulated(money, rate, horizon, n=4000):
    """The dollars by which the student is ahead, at n equal steps, by adding up."""
    days = np.linspace(0.0, horizon.days, n + 1)
    # Requests of each step, by Simpson's rule on the rate of that moment.
    middle = (days[1:] + days[:-1]) / 2
    rates = [rate * (1 + horizon.growth_per_month) ** (one / DAYS_A_MONTH)
             for one in (days[:-1], middle, days[1:])]  # fmt: skip
    requests = (rates[0] + 4 * rates[1] + rates[2]) / 6 * np.diff(days)
    earned = money.per_answer * np.concatenate([[0.0], np.cumsum(requests)])
    return days, earned - money.per_day * days - money.once


def test_payback_is_that_of_a_simulation_of_every_step():
    for money, rate, horizon in cases():
        days, ahead = simulated(money, rate, horizon)
        found = money.payback_days(rate, horizon)
        scale = 1e-6 * (money.once + money.per_day * horizon.days)
        if abs(ahead[-1]) <= scale:
            continue  # on the edge, where rounding decides
        if ahead[-1] < 0:
            assert found is None
            continue
        behind = np.flatnonzero(ahead < -scale)
        last = days[behind[-1]] if len(behind) else 0.0
        step = days[1]
        assert found is not None and last - step <= found <= last + 3 * step
        even = money.break_even_per_day(horizon)
        assert even <= rate * (1 + 1e-9)
        assert abs(money.ahead(horizon.days, even, horizon)) <= 10 * scale


def test_distil_is_never_said_where_the_end_against_it_loses():
    rng, said = random.Random(1), {"distil": 0, "stay": 0, "open": 0}
    for mean, rate, horizon in cases():
        spread = rng.uniform(1.0, 3.0)
        against = Money(mean.once * spread, mean.per_day, mean.per_answer / spread)
        favour = Money(mean.once / spread, mean.per_day, mean.per_answer * spread)
        outcome = _outcome(Ends(mean, against, favour), rate, horizon)
        said[outcome] += 1
        worst, best = (simulated(one, rate, horizon, 300)[1][-1] for one in (against, favour))
        slack = 1e-6 * (against.once + mean.per_day * horizon.days)
        assert outcome != "distil" or worst > -slack
        assert outcome != "stay" or best < slack
        assert worst <= slack or outcome == "distil"
        assert best >= -slack or outcome == "stay"
    assert min(said.values()) > 500, "each is tried often"


def planned(traffic, limits=None, teachers=(BLIND, PAID)):
    world = World(cloud=AWS, teachers=teachers, limits=limits or LimitsConfig(), traffic=traffic)
    config, probe = with_horizon(world.config()), world.probe()
    plan = solve(build_problem(config, probe, load_catalog(AWS)))
    return config, plan, worth_of(config, probe, plan, TODAY)


def test_much_traffic_pays_and_little_does_not():
    config, plan, much = planned(TrafficConfig(requests_per_day=50_000, months=12))
    assert config.traffic.requests_per_s == pytest.approx(2 * 50_000 / 86_400)
    assert config.limits.serve_hours == pytest.approx(12 * 730.5)
    assert much is not None and much.outcome == "distil"
    price = (2.0 * 400 + 8.0 * 12) / 1e6
    assert much.ways[1].usd_per_answer.mean == pytest.approx(price)
    serve = sum(role.usd for role in plan.roles_of("serve"))
    once, per_day = plan.usd - serve, serve / (365.25)
    assert much.servers_usd_per_day == pytest.approx(per_day)
    assert much.payback_days.mean == pytest.approx(once / (price * 50_000 - per_day), rel=1e-6)
    assert much.payback_days.low <= much.payback_days.mean <= much.payback_days.high
    assert much.text.startswith("Distil: pays back after")
    assert "against large ($0.90 for 1,000 answers, 93.8% [85.0–97.5%] right); below" in much.text
    assert much.text.endswith("requests a day stay with large.")
    _, _, little = planned(TrafficConfig(requests_per_day=100, months=12))
    assert little.outcome == "stay" and little.payback_days is None
    assert little.text.startswith("Don't distil: at 100 requests a day within 12 months large")
    even = little.break_even_per_day
    assert 100 < even.low <= even.mean <= even.high


def test_without_traffic_the_volume_is_told():
    _, _, found = planned(TrafficConfig())
    assert found.outcome == "open" and found.payback_days is None
    assert found.text.startswith("Against large (") and "traffic.requests_per_day=" in found.text


def test_what_needs_no_verdict_has_none():
    assert planned(TrafficConfig(), teachers=(BLIND,))[2] is None


def test_a_model_that_is_surely_worse_is_no_alternative():
    poor = replace(PAID, exact=replace(PAID.exact, mean=0.1, low=0.05, high=0.2))
    _, _, found = planned(TrafficConfig(requests_per_day=10), teachers=(BLIND, poor))
    assert found.outcome == "distil" and found.reference == ""
    assert "surely less accurate" in found.text


def test_a_limit_of_accuracy_decides_who_is_an_alternative():
    limits = LimitsConfig(accuracy=0.9, confidence="mean")
    _, plan, found = planned(TrafficConfig(requests_per_day=10), limits)
    assert plan.accuracy.mean >= 0.9 and found.reference == "large"
    limits = LimitsConfig(accuracy=0.94, confidence="mean")
    assert "below limits.accuracy" in planned(TrafficConfig(requests_per_day=10), limits)[2].text


def test_an_end_within_the_horizon_is_told():
    ending = replace(PAID, card=replace(HOSTED, retires="2027-03-01"))
    for months, is_told in ((12, True), (1, False)):
        traffic = TrafficConfig(requests_per_day=1000, months=months)
        text = planned(traffic, teachers=(BLIND, ending))[2].text
        assert ("large ends on 2027-03-01" in text) is is_told


def test_an_endpoint_of_ones_own_has_no_price_to_compare_with():
    card = replace(HOSTED, usd_per_million_input_tokens=0.0, usd_per_million_output_tokens=0.0)
    own = replace(PAID, card=card)
    assert planned(TrafficConfig(requests_per_day=1e5), teachers=(BLIND, own))[2] is None


def logged(right, n=200, *, is_checked=True, **changes):
    proof = LoggedProof("gpt-large", is_checked, {}, True)
    card = replace(HOSTED, name="gpt-large")
    found = teacher(card, right=right, n=n, logged=proof, seconds=0.0, **changes)
    return replace(found, teacher="logged_model")


def test_the_logged_model_is_the_way_to_stay():
    rate = TrafficConfig(requests_per_day=50_000)
    _, _, found = planned(rate, teachers=(BLIND, logged(194)))
    assert found.reference == "gpt-large (logged)"
    assert "at most 97.0% [93.6–98.6%] right by what the log can prove" in found.text
    # That the student agrees with it is all that is known: the user says what is enough.
    assert found.outcome == "open" and "limits.accuracy=" in found.text
    limits = LimitsConfig(accuracy=0.5, confidence="mean")
    enough = planned(rate, limits, teachers=(BLIND, logged(194)))[2]
    assert enough.outcome == "distil" and "97.0%" in enough.text
    little = planned(TrafficConfig(requests_per_day=10), limits, teachers=(BLIND, logged(194)))[2]
    assert little.outcome == "stay" and "with gpt-large (logged)" not in little.text.split(":")[0]


def test_of_a_log_that_proves_nothing_that_is_said():
    unknown = logged(1, is_checked=False)
    unknown = replace(unknown, exact=Interval(0.5, 0.0, 1.0, is_known=False))
    found = planned(TrafficConfig(requests_per_day=50_000), teachers=(BLIND, unknown))[2]
    assert "of which the log proves nothing" in found.text


def test_a_log_asks_for_nothing_and_costs_nothing():
    _, plan, _ = planned(TrafficConfig(requests_per_day=50_000), teachers=(logged(194),))
    assert plan.teacher == "logged_model" and plan.strategy == "injection"
    assert sum(role.usd for role in plan.roles_of("teacher")) == 0
