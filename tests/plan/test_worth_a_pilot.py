"""Which pairs a pilot trains: what the limits leave, whatever its accuracy may be."""

import pytest
from world import BLIND, SIGHTED, World, replace

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, LimitsConfig
from stratos.plan.options.candidates import build_problem
from stratos.plan.solve.frontier import survivors

AWS = CloudConfig(name="aws", providers=("aws",))


def left(world, **changes):
    problem = build_problem(world.config(), world.probe(), load_catalog(world.cloud))
    return survivors(replace(problem, **changes))


def pairs(found):
    return {(one.student, one.strategy) for one in found.candidates}


def test_without_limits_every_pair_is_left_with_its_best_teacher():
    weaker = replace(SIGHTED, teacher="qwen2.5_a", exact=replace(SIGHTED.exact, mean=0.5))
    found = left(World(cloud=AWS, teachers=(BLIND, weaker, SIGHTED)))
    assert len(found.candidates) == len(pairs(found)) == 6
    assert found.left_out == {}
    for one in found.candidates:
        if one.strategy == "alignment":
            assert one.teacher == SIGHTED.teacher


def test_who_no_plan_can_take_is_left_out_with_the_reason():
    everyone = left(World(cloud=AWS))
    budget = everyone.least_usd * 1.001
    found = left(World(cloud=AWS, limits=LimitsConfig(budget_usd=budget)))
    assert found.least_usd == pytest.approx(everyone.least_usd)
    gone = {f"{student} by {strategy}" for student, strategy in pairs(everyone) - pairs(found)}
    assert gone and set(found.left_out) == gone
    assert set(found.left_out.values()) == {
        "no plan with it meets the limits on money, time and latency"
    }
    nobody = left(World(cloud=AWS, limits=LimitsConfig(budget_usd=0.001)))
    assert nobody.candidates == () and len(nobody.left_out) == len(pairs(everyone))
    spent = left(World(cloud=AWS, limits=LimitsConfig(budget_usd=budget)), spent_usd=budget)
    assert spent.candidates == ()


def test_the_accuracy_limit_leaves_out_nobody():
    everyone = left(World(cloud=AWS))
    limited = left(World(cloud=AWS, limits=LimitsConfig(accuracy=0.99)))
    assert pairs(limited) == pairs(everyone)
