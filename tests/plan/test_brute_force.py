"""The solver's plan and the frontier against an enumeration of everything, on random instances."""

import itertools
import random

import pulp
import pytest

from stratos.config import LimitsConfig, ObjectiveConfig
from stratos.errors import InfeasibleError
from stratos.plan.frontier import frontier, meets
from stratos.plan.objective import best, score_loss
from stratos.plan.problem import Candidate, Choice, Option, Problem
from stratos.plan.solution import solve
from stratos.records import Interval, Offer

OBJECTIVES = ("balanced", "cheapest", "fastest", "most_accurate", "lowest_latency")


def offer(name):
    return Offer("c", "r", name, None, 0, 2, 8, 0, 1.0)


def instance(seed):
    """A small problem on a coarse grid, so that ties are frequent and exact."""
    rng = random.Random(seed)

    def options(role):
        return tuple(
            Option(
                offer(f"{role}{i}"),
                spot=False,
                hours=24.0 if role == "serve" else rng.randint(1, 6) / 4,
                usd=rng.randint(0, 8) / 4,
                latency_ms=rng.randint(1, 6) * 50.0 if role == "serve" else 0.0,
            )
            for i in range(rng.randint(1, 5))
        )

    n_works = rng.randint(1, 2)
    works = {f"{role}-{i}": options(role) for role in ("teacher", "train", "serve") for i in
             range(n_works)}  # fmt: skip
    candidates = []
    for i in range(rng.randint(1, 4)):
        mean = rng.randint(0, 4) / 4
        source = "unknown: nothing" if rng.random() < 0.2 else "measured"
        work = tuple(f"{r}-{rng.randrange(n_works)}" for r in ("teacher", "train", "serve"))
        accuracy = Interval(mean, 0.0, 1.0, source)
        candidates.append(Candidate(f"t{i % 2}", f"s{i}", "injection", accuracy, work))

    def limit(low, high, step):
        return rng.randint(low, high) * step if rng.random() < 0.4 else None

    weights = [rng.choice((0.0, 0.1, 0.3, 0.6)) for _ in range(4)]
    if not any(weights):
        weights[rng.randrange(4)] = 1.0
    return Problem(
        candidates=tuple(candidates),
        options=works,
        limits=LimitsConfig(
            budget_usd=limit(1, 20, 0.25),
            deadline_hours=limit(1, 10, 0.25),
            latency_ms=limit(1, 6, 50.0),
            accuracy=limit(0, 4, 0.25),
        ),
        objective=ObjectiveConfig(rng.choice(OBJECTIVES), *weights),
    )


def everything(problem):
    """Every plan there is, dominated or not."""
    return [
        Choice(candidate, servers)
        for candidate in problem.candidates
        for servers in itertools.product(*(problem.options[work] for work in candidate.work))
    ]


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def non_dominated(choices):
    costs = {choice.costs for choice in choices}
    return {cost for cost in costs if not any(dominates(other, cost) for other in costs)}


@pytest.mark.parametrize("block", range(8))
def test_the_frontier_is_exact(block):
    for seed in range(block * 250, (block + 1) * 250):
        problem = instance(seed)
        found = [choice.costs for choice in frontier(problem)]
        assert len(found) == len(set(found)), seed
        assert set(found) == non_dominated(everything(problem)), seed


@pytest.mark.parametrize("block", range(4))
def test_the_solver_finds_the_optimum_of_the_enumeration(block):
    n_feasible = 0
    for seed in range(block * 50, (block + 1) * 50):
        problem = instance(seed)
        loss = score_loss(problem.objective, frontier(problem))
        feasible = [choice for choice in everything(problem) if meets(choice, problem.limits)]
        if not feasible:
            with pytest.raises(InfeasibleError):
                solve(problem)
            continue
        n_feasible += 1
        expected = best(feasible, problem.objective.name, loss)
        plan = solve(problem)
        found = (-plan_accuracy(problem, plan), plan.usd, plan.hours, plan.latency_ms)
        assert found in non_dominated(everything(problem)), seed
        value = {
            "balanced": plan.score,
            "cheapest": -plan.usd,
            "fastest": -plan.hours,
            "most_accurate": -found[0],
            "lowest_latency": -plan.latency_ms,
        }
        wanted = {
            "balanced": 1 - loss(expected),
            "cheapest": -expected.usd,
            "fastest": -expected.hours,
            "most_accurate": expected.accuracy,
            "lowest_latency": -expected.latency_ms,
        }
        name = problem.objective.name
        assert value[name] == pytest.approx(wanted[name], abs=1e-6), seed
        assert plan.usd == pytest.approx(expected.usd, abs=1e-5), seed
        assert plan.n_frontier == len(non_dominated(everything(problem)) & {
            choice.costs for choice in feasible
        }), seed  # fmt: skip
    assert n_feasible > 15


def plan_accuracy(problem, plan):
    return next(
        c.counted_accuracy
        for c in problem.candidates
        if (c.teacher, c.student, c.strategy) == (plan.teacher, plan.student, plan.strategy)
    )


@pytest.mark.skipif(
    not {"HiGHS", "PULP_CBC_CMD"} <= set(pulp.listSolvers(onlyAvailable=True)),
    reason="needs both solvers",
)
def test_highs_and_cbc_give_the_same_plan():
    n_plans = 0
    for seed in range(20):
        problem = instance(seed)
        try:
            first = solve(problem, "HiGHS")
        except InfeasibleError as error:
            with pytest.raises(InfeasibleError, match="No plan meets") as caught:
                solve(problem, "PULP_CBC_CMD")
            assert str(caught.value) == str(error)
            continue
        second = solve(problem, "PULP_CBC_CMD")
        n_plans += 1
        assert (first.solver, second.solver) == ("HiGHS", "PULP_CBC_CMD")
        assert [(r.offer, r.usd) for r in first.roles] == [(r.offer, r.usd) for r in second.roles]
        assert (first.teacher, first.student) == (second.teacher, second.student)
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
