"""What is ahead of a plan is told as one total, and where plan and this machine differ, both."""

from dataclasses import replace

from world import BLIND, World

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, DeployConfig, EvaluateConfig
from stratos.estimate.fleet import Calibration
from stratos.plan.explain.show import only_plan
from stratos.plan.options.candidates import build_problem
from stratos.plan.schedule import AFTER, schedule_text, stage_times
from stratos.plan.stage import solve

MACHINE = Calibration("one, 2 cores", 50e9, 14e9, 1.2e-6, "2026-11-27")
AWS = CloudConfig(name="aws", providers=("aws",))
LOCAL = CloudConfig(name="local", providers=("local",))


def planned(cloud, machine=MACHINE, **changes):
    world = replace(World(cloud=cloud), teachers=(BLIND,))
    config = replace(world.config(), **{"stages": ("plan", *AFTER), **changes})
    probe = world.probe()
    problem = build_problem(config, probe, load_catalog(cloud), calibration=machine)
    plan = solve(problem)
    return replace(plan, ahead=stage_times(config, probe, plan, machine))


def test_a_rented_server_and_this_machine_are_told_side_by_side():
    plan = planned(AWS)
    stages = {one.stage: one for one in plan.ahead}
    assert [*stages] == [*AFTER]
    train = stages["distill"]
    assert train.planned_hours == plan.role("train").hours and train.hours > 0
    told = schedule_text(plan)
    assert told.startswith("From the plan to the report: about ") and "this machine (" in told
    assert f"planned on {plan.role('train').offer.name}" in told
    assert schedule_text(replace(plan, ahead=())) == ""


def test_answers_to_test_items_are_part_of_the_comparison():
    """A teacher that injection asks nothing else has no time of its own, where there is no test."""
    stages = {one.stage: one for one in planned(AWS).ahead}
    asked = planned(AWS, evaluate=EvaluateConfig(n_teacher_items=1000))
    more = {one.stage: one for one in asked.ahead}
    assert stages["synthesize"].hours == more["synthesize"].hours == 0
    untested = planned(AWS, stages=("plan", "synthesize", "distill"))
    assert [one.stage for one in untested.ahead] == ["synthesize", "distill"]
    told = schedule_text(untested)
    assert told.startswith("From the plan on: about ") and "answers of the teacher" not in told
    fewer = planned(AWS, evaluate=EvaluateConfig(n_teacher_items=1))
    assert {one.stage: one for one in fewer.ahead}["evaluate"].hours < stages["evaluate"].hours


def test_on_this_machine_plan_and_total_are_one_estimate_and_its_other_work_counts():
    plan = planned(LOCAL)
    train = next(one for one in plan.ahead if one.stage == "distill")
    assert (train.hours, train.planned_hours) == (plan.role("train").hours, None)
    slow = planned(LOCAL, replace(MACHINE, slowness=3.0))
    role, busy = plan.role("train"), slow.role("train")
    if plan.student == slow.student:
        assert 2.5 < busy.hours / role.hours <= 3.01
        assert busy.hours_range[0] == role.hours_range[0], "the other work may end"
    fewer = planned(LOCAL, deploy=DeployConfig(name="none"))
    assert [one.stage for one in fewer.ahead] == ["synthesize", "distill", "evaluate"]


def test_the_only_plan_has_no_tables(snapshot):
    plan = planned(AWS)
    assert only_plan(plan) == [], "plans differ"
    one = replace(
        plan, frontier=plan.frontier[:1], n_frontier=1,
        alternatives={"cheapest": plan.frontier[0]},
    )  # fmt: skip
    point = plan.frontier[0]
    same = replace(
        one, teacher=point.teacher, student=point.student, strategy=point.strategy, usd=point.usd,
        hours=point.hours, latency_ms=point.latency_ms,
    )  # fmt: skip
    assert only_plan(same)[0] == snapshot
    assert any("server to start" in line for line in only_plan(same))
