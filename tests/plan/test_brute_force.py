"""The solver's plan and the frontier against an enumeration of everything, on random instances."""

import itertools
from dataclasses import replace

import pulp
import pytest
from twin import OBJECTIVES, everything, instance, meets, non_dominated, offer

from stratos.config import LimitsConfig, ObjectiveConfig
from stratos.errors import InfeasibleError
from stratos.plan.frontier import frontier
from stratos.plan.model import Model
from stratos.plan.objective import SINGLE, Linear, levels, score_loss
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solution import solve
from stratos.records import Interval

KINDS = {
    "alone": {"moved": False},
    "with_egress": {},
    "mixed": {"mixed": True},
    "mixed_in_one_place": {"mixed": True, "moved": False},
}
N_FRONTIERS = {"alone": 1000, "with_egress": 1400, "mixed": 300, "mixed_in_one_place": 100}
N_OPTIMA = {"alone": 40, "with_egress": 50, "mixed": 50, "mixed_in_one_place": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_the_frontier_is_exact(kind):
    for seed in range(N_FRONTIERS[kind]):
        problem = instance(seed, **KINDS[kind])
        found = [choice.costs for choice in frontier(problem)]
        assert len(found) == len(set(found)), seed
        assert set(found) == non_dominated(everything(problem)), seed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pruned", [True, False])
def test_the_solver_finds_the_optimum_of_the_enumeration(kind, pruned):
    n_feasible = 0
    for seed in range(N_OPTIMA[kind]):
        problem = instance(seed, **KINDS[kind])
        plans = everything(problem)
        points = frontier(problem)
        if not points:
            assert not plans, seed
            continue
        order = levels(problem.objective.name, score_loss(problem.objective, points))
        feasible = [costs for costs in plans if meets(costs, problem.limits)]
        found = Model(problem, pruned=pruned).solve(problem.limits, order)
        if found is None:
            assert not feasible, seed
            continue
        n_feasible += 1
        expected = min(
            tuple(round(value(level, costs), 9) for level in order) for costs in feasible
        )
        assert tuple(level(found) for level in order) == pytest.approx(expected, abs=1e-5), seed
        assert any(costs == pytest.approx(found.costs, abs=1e-6) for costs in feasible), seed
    assert n_feasible > N_OPTIMA[kind] / 4


def value(level, costs):
    return level.constant + sum(w * v for w, v in zip(level.weights, costs, strict=True))


def test_the_frontier_is_that_of_the_epsilon_constraint_method():
    """Solve with every combination of bounds that a plan of the enumeration takes."""
    for seed in range(12):
        problem = instance(seed, mixed=seed % 2 == 1)
        plans = everything(problem)
        model = Model(problem, pruned=False) if plans else None
        found = set()
        for accuracy, hours, ms in {(c[0], c[2], c[3]) for c in plans}:
            limits = LimitsConfig(None, hours, ms, -accuracy)
            choice = model.solve(limits, [Linear(SINGLE["cheapest"])])
            found.add((accuracy, round(choice.usd, 6), hours, ms))
        exact = {(a, round(usd, 6), h, ms) for a, usd, h, ms in non_dominated(plans)}
        assert non_dominated(found) == exact, seed
        assert {(c.costs[0], round(c.usd, 6), *c.costs[2:]) for c in frontier(problem)} == exact


def test_the_plan_counts_the_frontier_within_its_limits():
    n_plans = 0
    for seed in range(40):
        problem = instance(seed, mixed=seed % 2 == 1)
        best = {costs for costs in non_dominated(everything(problem)) if
                meets(costs, problem.limits)}  # fmt: skip
        if not best:
            with pytest.raises(InfeasibleError):
                solve(problem)
            continue
        n_plans += 1
        plan = solve(problem)
        assert plan.n_frontier == len(best)
        assert plan.usd == pytest.approx(sum(r.usd for r in plan.roles) + plan.egress_usd)
    assert n_plans > 10


@pytest.mark.skipif(
    not {"HiGHS", "PULP_CBC_CMD"} <= set(pulp.listSolvers(onlyAvailable=True)),
    reason="needs both solvers",
)
def test_highs_and_cbc_give_the_same_optimum():
    n_plans = 0
    for seed in range(24):
        problem = instance(seed, mixed=seed % 2 == 1)
        problem = replace(problem, objective=ObjectiveConfig(OBJECTIVES[seed % 5]))
        try:
            first = solve(problem, "HiGHS")
        except InfeasibleError as error:
            with pytest.raises(InfeasibleError) as caught:
                solve(problem, "PULP_CBC_CMD")
            assert str(caught.value) == str(error)
            continue
        second = solve(problem, "PULP_CBC_CMD")
        n_plans += 1
        assert (first.solver, second.solver) == ("HiGHS", "PULP_CBC_CMD")
        assert (first.teacher, first.student) == (second.teacher, second.student)
        for name in ("usd", "hours", "latency_ms", "score", "n_frontier"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-6)
        if not problem.rates:
            assert [r.offer for r in first.roles] == [r.offer for r in second.roles]
    assert n_plans > 10


def test_the_last_tie_is_broken_by_name():
    same = {"usd": 1.0, "hours": 1.0, "spot": False}
    works = {
        "teach": (Option(offer("b"), **same), Option(offer("a"), **same)),
        "train": (Option(offer("z"), **same), Option(offer("y"), **same)),
        "serve": (Option(offer("d"), latency_ms=9.0, **same),),
    }
    known = Interval(0.5, 0.4, 0.6, "measured")
    names = ["m", "k", "l"]
    for order in itertools.permutations(names):
        candidates = tuple(
            Candidate("t", name, "injection", known, ("teach", "train", "serve")) for name in order
        )
        plan = solve(Problem(candidates, works))
        assert plan.student == "k"
        assert [role.offer.instance_type for role in plan.roles] == ["a", "y", "d"]


def test_pruning_changes_no_optimum_when_ties_are_split_by_name():
    # Two cheap teachers and two cheap trainings that only together leave the sum unchanged.
    works = {
        "teach": tuple(Option(offer(f"t{i}"), False, hours=1.0 + i, usd=2.0 - i) for i in (0, 1)),
        "train": tuple(Option(offer(f"r{i}"), False, hours=2.0 - i, usd=1.0 + i) for i in (0, 1)),
        "serve": (Option(offer("s"), False, hours=1.0, usd=0.0, latency_ms=1.0),),
    }
    candidate = Candidate(
        "t", "s", "injection", Interval(1, 1, 1, "m"), ("teach", "train", "serve")
    )
    plan = solve(Problem((candidate,), works, objective=ObjectiveConfig("cheapest")))
    assert (plan.usd, plan.hours) == (2.0, 4.0)
