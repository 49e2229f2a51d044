"""The balanced plan: the lowest net cost in dollars, against an enumeration by hand."""

import itertools

import pytest
from twin import everything, instance, meets
from world import STRATEGIES, replace

from stratos.config import LimitsConfig, ObjectiveConfig
from stratos.core.errors import InfeasibleError
from stratos.plan.objective import exchange_rates
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solve.frontier import frontier
from stratos.plan.stage import solve
from stratos.records import Interval, Offer

RATES = ObjectiveConfig("balanced", 0.5, 2.0, 0.25)


def by_hand(costs, config):
    accuracy, usd, hours, ms = costs
    return (
        usd
        + config.usd_per_hour_of_waiting * hours
        + config.usd_per_100ms * ms / 100
        + config.usd_per_accuracy_point * 100 * accuracy
    )


def test_the_plan_has_the_lowest_net_cost_of_all_that_there_are():
    n_plans = 0
    for seed in range(60):
        problem = replace(instance(seed, mixed=seed % 3 == 1), objective=RATES)
        feasible = [c for c in everything(problem) if meets(c, problem.limits)]
        if not feasible:
            with pytest.raises(InfeasibleError):
                solve(problem)
            continue
        n_plans += 1
        plan = solve(problem)
        assert plan.net_usd == pytest.approx(min(by_hand(c, RATES) for c in feasible)), seed
        for point in (*plan.frontier, *plan.alternatives.values()):
            costs = (-point.accuracy, point.usd, point.hours, point.latency_ms)
            assert point.net_usd == pytest.approx(by_hand(costs, RATES))
    assert n_plans > 20


def plans(*rows):
    """A problem whose plans are these: (accuracy, dollars, hours, milliseconds)."""
    candidates, options = [], {}
    for i, (accuracy, usd, hours, ms) in enumerate(rows):

        def option(role, usd, hours=0.0, ms=0.0, i=i):
            offer = Offer("c", "r", f"{role}{i}", None, 0, 2, 8, 0, 1.0)
            return (Option(offer, False, hours, usd, ms),)

        options |= {
            f"teach{i}": option("a", 0.0),
            f"train{i}": option("b", usd, hours),
            f"serve{i}": option("c", 0.0, 24.0, ms),
        }
        known = Interval(accuracy, accuracy, accuracy, "measured")
        work = (f"teach{i}", f"train{i}", f"serve{i}")
        candidates.append(Candidate("t", f"s{i}", "injection", known, work))
    return Problem(tuple(candidates), options, strategies=STRATEGIES)


def test_plans_that_cost_nothing_differ_in_dollars_all_the_same():
    plan = solve(plans((0.90, 0.0, 1.0, 300.0), (0.96, 0.0, 2.0, 400.0), (0.96, 0.0, 9.0, 390.0)))
    assert plan.student == "s1"
    nets = sorted(point.net_usd - plan.net_usd for point in plan.frontier)
    # A point is worth $0.50, an hour $1, 100 ms $0.20 where less than $10 is at stake.
    assert nets == pytest.approx([0.0, 1.8, 6.98])
    assert plan.exchange == {
        "usd_per_accuracy_point": 0.5,
        "usd_per_hour_of_waiting": 1.0,
        "usd_per_100ms": 0.2,
    }


@pytest.mark.parametrize(
    ("limits", "cheapest", "expected"),
    [
        (LimitsConfig(), 3.0, (0.5, 1.0, 0.2)),
        (LimitsConfig(), 400.0, (20.0, 40.0, 8.0)),
        (LimitsConfig(budget_usd=100), 3.0, (5.0, 10.0, 2.0)),
        (LimitsConfig(budget_usd=2), 1.0, (0.5, 1.0, 0.2)),
        (LimitsConfig(deadline_hours=5, latency_ms=500), 3.0, (0.5, 0.5, 0.5)),
        (LimitsConfig(budget_usd=100, deadline_hours=50, latency_ms=1000), 3.0, (5.0, 0.5, 2.5)),
        (LimitsConfig(accuracy=0.9), 3.0, (0.5, 1.0, 0.2)),
    ],
)
def test_rates_that_nobody_gives_follow_from_the_money_and_the_limits(limits, cheapest, expected):
    reference = frontier(plans((0.9, cheapest, 1.0, 300.0), (0.95, 2 * cheapest, 1.0, 300.0)))
    rates = exchange_rates(ObjectiveConfig(), limits, reference)
    assert tuple(rates.usd.values()) == pytest.approx(expected)
    assert all(rates.why.values())
    given = exchange_rates(RATES, limits, reference)
    assert tuple(given.usd.values()) == (0.5, 2.0, 0.25)
    assert not any(given.why.values())


def test_the_reasons_say_gains_in_dollars(snapshot):
    problem = plans((0.90, 2.0, 1.0, 300.0), (0.96, 3.0, 2.0, 400.0), (0.961, 30.0, 2.0, 400.0))
    said = solve(problem).reasons
    assert said == snapshot


def test_an_unknown_accuracy_is_no_gain_of_points():
    problem = plans((0.5, 2.0, 1.0, 300.0), (0.0, 1.0, 1.0, 300.0))
    one, other = problem.candidates
    unknown = replace(other, accuracy=Interval(0.5, 0.0, 1.0, "unknown: nothing", is_known=False))
    said = solve(replace(problem, candidates=(one, unknown))).reasons
    assert any("an accuracy that is unknown for +$25.00" in sentence for sentence in said)


def test_a_rate_of_0_leaves_no_plan_that_another_one_dominates():
    rows = [(0.9, 1.0, 1.0, 300.0), (0.9, 1.0, 1.0, 200.0)]
    for order in itertools.permutations(rows):
        nothing = ObjectiveConfig("balanced", 0.0, 0.0, 0.0)
        assert solve(replace(plans(*order), objective=nothing)).latency_ms == 200.0
