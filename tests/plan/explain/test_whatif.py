"""What a limit is worth, against an enumeration of every plan under the other limit."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from test_infeasible import AWS, asked, tiny
from twin import everything, instance, meets
from world import OBJECTIVES, replace

from stratos.config import LimitsConfig
from stratos.plan.explain.show import left_out_by_limit
from stratos.plan.explain.whatif import nearest_student, whatif
from stratos.plan.objective import LIMITS, counted_by, levels, net_cost, with_limit
from stratos.plan.solve.frontier import frontier
from stratos.plan.solve.model import Model
from stratos.plan.stage import solve
from stratos.records import Interval, Plan, from_json, to_json


@dataclass(frozen=True)
class PlainConfig:
    task: SimpleNamespace
    students: tuple = ()


def test_rows_of_natural_language_are_not_offered_a_student_of_random_weights():
    [choice, *_] = asked_again(tiny(LimitsConfig(budget_usd=20)))[3]

    def offered(vocabulary):
        task = SimpleNamespace(has_rows=True, vocabulary=lambda: vocabulary)
        return nearest_student(SimpleNamespace(config=PlainConfig(task), plan=lambda _: choice))

    assert offered(None) == []
    assert "Type: student=stratos_" in offered("symbols")[1]


def asked_again(problem):
    everyone = frontier(problem)
    net = net_cost(problem.objective, problem.limits, everyone)
    model = Model(problem)
    order = levels(counted_by(problem.objective, net), net)
    chosen = model.solve(problem.limits, order)
    found = () if chosen is None else whatif(problem, model, chosen, everyone, net)
    return chosen, found, order, everyone


def texts(problem):
    return [one.text for one in asked_again(problem)[1]]


def test_golden_what_more_money_buys(snapshot):
    limits = LimitsConfig(budget_usd=20, deadline_hours=4)
    problem = tiny(limits, objective=OBJECTIVES["fastest"])
    assert texts(problem) == snapshot
    step, following, loose = asked_again(problem)[1]
    assert (step.limit, step.value, step.other_value) == ("limits.budget_usd", 20, 21)
    assert step.binds and step.point.usd == 16
    assert (following.other_value, following.point.usd) == (24, 24)
    assert (loose.limit, loose.other_value, loose.binds) == ("limits.deadline_hours", 1.25, False)


def test_a_floor_moves_down(snapshot):
    problem = tiny(LimitsConfig(accuracy=0.9), objective=OBJECTIVES["cheapest"])
    step, following = asked_again(problem)[1]
    assert step.text == snapshot
    assert (following.other_value, following.point.usd) == (0.8, 10.0)
    assert following.text == snapshot


def test_what_buys_no_more_is_said_of_the_move_that_gives_all():
    """One unit more may be beyond the next better plan."""
    problem = tiny(LimitsConfig(server_memory_gb=0.2), objective=OBJECTIVES["most_accurate"])
    sizes = {"big": 0.28, "small": 0.1, "middle": 0.22}
    big, small = problem.candidates
    middle = replace(big, student="middle", accuracy=Interval(0.9, 0.9, 0.9, "1 run"))
    sized = tuple(replace(c, memory_gb=sizes[c.student]) for c in (big, small, middle))
    step, following = asked_again(replace(problem, candidates=sized))[1]
    assert (step.point.student, following.point.student) == ("big", "middle")
    assert following.other_value == 0.22 and "Beyond that" not in following.text
    assert step.text.endswith("Beyond that it buys nothing.")


@pytest.mark.parametrize(("mixed", "n_seeds", "least"), [(False, 60, 6), (True, 20, 1)])
def test_each_is_the_optimum_under_the_other_limit(mixed, n_seeds, least):
    n_bound = n_loose = 0
    for seed in range(n_seeds):
        problem = instance(seed, mixed=mixed)
        if not (plans := everything(problem)):
            continue
        chosen, found, order, _ = asked_again(problem)
        if chosen is None:
            continue
        given = [f"limits.{limit.key}" for limit in LIMITS if limit.of(problem.limits) is not None]
        assert list(dict.fromkeys(one.limit for one in found)) == given

        def optimum(limits, plans=plans, order=order):
            return min(
                tuple(
                    round(level.constant + sum(map(float.__mul__, level.weights, costs)), 6)
                    for level in order
                )
                for costs in plans
                if meets(costs, limits)
            )

        now = optimum(problem.limits)
        for one in found:
            limit = next(x for x in LIMITS if f"limits.{x.key}" == one.limit)
            free = optimum(with_limit(problem.limits, limit, None))
            assert one.binds == (free != now)
            n_bound += one.binds
            n_loose += not one.binds
            moved = with_limit(problem.limits, limit, one.other_value)
            point = one.point
            costs = (-point.accuracy, point.usd, point.hours, point.latency_ms)
            assert meets(costs, moved)
            value = tuple(
                level.constant + sum(w * c for w, c in zip(level.weights, costs, strict=True))
                for level in order
            )
            assert value == pytest.approx(optimum(moved), abs=2e-6)
            if one.text.startswith("The next better plan needs"):
                # Half of the way there, nothing is better yet.
                half = limit.of(problem.limits) * 0.02 + one.other_value * 0.98
                assert optimum(with_limit(problem.limits, limit, half)) == now
    assert n_bound >= least and n_loose >= least // 2


def test_the_clouds_own_limits_are_told_where_they_can_be_asked_about(snapshot):
    cloud = replace(AWS, regions=("us-east-1",), max_usd_per_hour=0.15)
    fast = {"limits": LimitsConfig(budget_usd=90), "objective": OBJECTIVES["fastest"]}
    problem, variants = asked(cloud=cloud, **fast)
    problem = replace(problem, settings=replace(problem.settings, explain=True))
    plan = solve(problem, variants=variants)
    told = {one.limit: one for one in plan.what_if}
    assert set(told) == {
        "limits.budget_usd", "cloud.max_usd_per_hour", "cloud.regions", "cloud.spot",
        "cloud.residency",
    }  # fmt: skip
    cap = told["cloud.max_usd_per_hour"]
    assert cap.text == snapshot
    free = solve(asked(cloud=replace(cloud, max_usd_per_hour=None), **fast)[0])
    assert cap.binds and cap.value == 0.15 and cap.other_value is None
    assert cap.point.hours == pytest.approx(free.hours) and free.hours < plan.hours
    assert not told["cloud.regions"].binds
    assert from_json(to_json(plan), Plan).what_if == plan.what_if


def test_a_limit_that_leaves_a_better_student_out_is_named():
    limits = LimitsConfig(budget_usd=90, latency_ms=600)
    best = OBJECTIVES["most_accurate"]
    plan = solve(asked(cloud=AWS, limits=limits, objective=best)[0])
    assert plan.student == "stratos_1m"
    assert left_out_by_limit(plan) == (
        "limits.latency_ms=600 leaves stratos_3m out, expected at 98.5%"
    )
    moves = tuple(replace(m, point=replace(m.point, student=plan.student)) for m in plan.what_if)
    assert left_out_by_limit(replace(plan, what_if=moves)) == "", "the same student is not left out"
    free = solve(asked(cloud=AWS, limits=replace(limits, latency_ms=None), objective=best)[0])
    assert free.student == "stratos_3m" and left_out_by_limit(free) == ""
