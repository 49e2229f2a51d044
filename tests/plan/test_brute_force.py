"""The solver's plan and the frontier against an enumeration of everything, on random instances."""

import itertools
from dataclasses import replace

import pytest
from twin import (
    everything,
    everything_sized,
    instance,
    meets,
    mixes,
    non_dominated,
    offer,
    sized,
)
from world import OBJECTIVES, STRATEGIES

from stratos.config import LimitsConfig
from stratos.core.errors import InfeasibleError
from stratos.plan.objective import USD, counted_by, levels, net_cost
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solve import mix_frontier
from stratos.plan.solve.frontier import frontier
from stratos.plan.solve.mix_frontier import FEWER_KINDS
from stratos.plan.solve.model import Model
from stratos.plan.stage import solve
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


def test_what_is_made_of_a_problem_is_made_once_and_not_carried_over():
    problem = instance(1)
    made = []

    def n_candidates(of):
        made.append(of)
        return len(of.candidates)

    assert problem.once(n_candidates) == problem.once(n_candidates) == len(problem.candidates)
    other = replace(problem, candidates=problem.candidates[:1])
    assert other.once(n_candidates) == 1
    assert made == [problem, other] and "_made" not in repr(problem)
    assert frontier(problem) is not frontier(problem)  # whoever asks may change the list
    assert {choice.candidate for choice in frontier(other)} <= set(problem.candidates[:1])


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
        net = net_cost(problem.objective, problem.limits, points)
        order = levels(counted_by(problem.objective, net), net)
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


@pytest.mark.parametrize("kind", ["with_egress", "mixed"])
def test_a_limit_on_the_low_end_of_accuracy_loses_no_plan(kind):
    """Of two plans the better one on average may be the worse one at least."""
    n_feasible = n_other = 0
    for seed in range(120 if kind == "with_egress" else 30):
        problem = instance(seed, **KINDS[kind], confidence="low")
        points = frontier(problem)
        if not points:
            continue
        net = net_cost(problem.objective, problem.limits, points)
        order = levels(counted_by(problem.objective, net), net)
        model, free = Model(problem), replace(problem.limits, accuracy=None)
        for least in (0.25, 0.5, 1.0):
            sure = tuple(c for c in problem.candidates if c.is_known and c.accuracy.low >= least)
            plans = everything(replace(problem, candidates=sure)) if sure else ()
            feasible = [costs for costs in plans if meets(costs, free)]
            limits = replace(problem.limits, accuracy=least)
            found = model.solve(limits, order)
            assert (found is None) == (not feasible), seed
            if found is None:
                continue
            n_feasible += 1
            n_other += found.accuracy > found.limit_accuracy
            expected = min(
                tuple(round(value(level, costs), 9) for level in order) for costs in feasible
            )
            assert tuple(level(found) for level in order) == pytest.approx(expected, abs=1e-5)
    assert n_feasible > 15 and n_other > 3


@pytest.mark.parametrize("kind", ["with_egress", "mixed"])
def test_limits_on_bytes_are_exact(kind):
    """No plan that is smaller is lost, and the optimum is that of the enumeration."""
    n_feasible = n_other = 0
    for seed in range(400 if kind == "with_egress" else 60):
        problem = sized(instance(seed, **KINDS[kind]), seed)
        plans, points = everything_sized(problem), frontier(problem)
        with_sizes = {(*c.costs, c.candidate.model_mb, c.candidate.memory_gb) for c in points}
        assert len(points) == len(with_sizes) and with_sizes == non_dominated(plans), seed
        if not points or seed % (8 if kind == "with_egress" else 2):
            continue
        net = net_cost(problem.objective, problem.limits, points)
        order = levels(counted_by(problem.objective, net), net)
        feasible = [costs for costs in plans if meets(costs, problem.limits)]
        for pruned in (True, False):
            found = Model(problem, pruned=pruned).solve(problem.limits, order)
            assert (found is None) == (not feasible), seed
            if found is None:
                continue
            expected = min(
                tuple(round(value(level, costs[:4]), 9) for level in order) for costs in feasible
            )
            assert tuple(level(found) for level in order) == pytest.approx(expected, abs=1e-5)
            n_feasible += 1
            n_other += len(feasible) < len(plans)
    assert n_feasible > 4 and n_other > 3


def of_few_kinds(problem, max_kinds, slack):
    """The four costs of every plan whose mix has few kinds, or saves enough by having more.

    A mix of many kinds is left only if the best one of few kinds that is as fast, from the same
    place of training, costs more than `slack` more.
    """
    found = set()
    for candidate in problem.candidates:
        teacher, train, serve = candidate.work
        for one, two in itertools.product(problem.options[teacher], problem.options[train]):
            moved = problem.gb.get(teacher, 0.0) * problem.egress.price(one.location, two.location)

            def dollars(counted, two=two, serve=serve):
                gb = problem.gb.get(serve, 0.0)
                return sum(
                    n * (o.usd + gb * problem.egress.price(two.location, o.location))
                    for o, n in counted
                )

            priced = [(dollars(counted), ms, len(counted)) for counted, ms in mixes(problem, serve)]
            for usd, ms, n_kinds in priced:
                few = [u for u, m, n in priced if n <= max_kinds and m <= ms]
                if n_kinds > max_kinds and few and min(few) <= (1 + slack) * usd:
                    continue
                hours = one.hours + two.hours
                total = one.usd + two.usd + moved + usd
                found.add((-candidate.counted_accuracy, total, hours, ms))
    return found


@pytest.mark.parametrize(("max_kinds", "slack", "least"), [(1, 0.05, 0), (1, 0.5, 2), (2, 0.5, 0)])
def test_fleets_are_of_few_kinds_unless_that_costs_too_much(max_kinds, slack, least, monkeypatch):
    assert FEWER_KINDS == 0.05
    monkeypatch.setattr(mix_frontier, "FEWER_KINDS", slack)
    n_changed = 0
    for seed in range(100):
        problem = instance(seed, mixed=True)
        few = replace(problem, settings=replace(problem.settings, max_kinds=max_kinds))
        expected = non_dominated(of_few_kinds(problem, max_kinds, slack))
        assert {choice.costs for choice in frontier(few)} == expected, seed
        n_changed += expected != non_dominated(everything(problem))
    assert n_changed >= least


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
            limits = LimitsConfig(deadline_hours=hours, latency_ms=ms, accuracy=-accuracy)
            choice = model.solve(limits, [USD.alone])
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
        plan = solve(Problem(candidates, works, strategies=STRATEGIES))
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
    plan = solve(
        Problem((candidate,), works, objective=OBJECTIVES["cheapest"], strategies=STRATEGIES)
    )
    assert (plan.usd, plan.hours) == (2.0, 4.0)
