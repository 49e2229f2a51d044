"""What is chosen: each limit in turn changes what it should, on the builtin catalog."""

import re
from pathlib import Path

import pytest
from stub_executors import Queue, Rented
from world import ALIGNMENT, BLIND, INJECTION, OBJECTIVES, SIGHTED, STUDENTS, World, replace

from stratos.catalog import Table, load_catalog
from stratos.config import CloudConfig, LimitsConfig
from stratos.core.errors import InfeasibleError
from stratos.executors.job import StageName, job_spec
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.records import ModelCard, Offer

AWS = CloudConfig(name="aws", providers=("aws",))
UNTRIED = tuple(replace(student, runs=()) for student in STUDENTS)


def plan(limits=None, **changes):
    world = World(**{"cloud": AWS, "limits": limits or LimitsConfig(), **changes})
    return solve(build_problem(world.config(), world.probe(), load_catalog(world.cloud)))


def server(plan, role):
    return plan.role(role).offer.instance_type


def test_without_limits_the_balanced_plan_is_the_middle_student():
    free = plan()
    assert (free.teacher, free.student, free.strategy) == (
        "smollm2_135m",
        "stratos_1m",
        "injection",
    )
    assert server(free, "serve") == "c7i.large"
    assert free.role("train").offer.accelerator == "T4"
    assert free.usd == pytest.approx(sum(role.usd for role in free.roles))
    assert free.hours == pytest.approx(free.role("teacher").hours + free.role("train").hours)
    assert free.role("serve").usd == pytest.approx(24 * 0.08925)


def test_a_latency_limit_changes_the_student_and_with_accuracy_the_server():
    assert plan().latency_ms == pytest.approx(630)
    quick = plan(LimitsConfig(latency_ms=500))
    assert quick.student == "stratos_300k"
    assert quick.latency_ms == pytest.approx(450)
    accurate = LimitsConfig(accuracy=0.97)
    assert plan(accurate).role("serve").offer.accelerator is None
    both = plan(replace(accurate, latency_ms=1000))
    assert both.student == "stratos_3m"
    assert both.role("serve").offer.accelerator == "T4"


def test_an_accuracy_limit_is_met_by_the_low_end_or_by_the_mean():
    sure = plan(LimitsConfig(accuracy=0.94))
    assert sure.student == "stratos_3m" and sure.accuracy.low >= 0.94
    likely = plan(LimitsConfig(accuracy=0.94, confidence="mean"))
    assert likely.student == "stratos_1m"
    assert likely.accuracy.low < 0.94 < likely.accuracy.mean
    with pytest.raises(InfeasibleError) as caught:
        plan(LimitsConfig(accuracy=0.98))
    told = re.search(
        r"counts: stratos_3m 0\.985 \((0\.97\d) to .*limits\.confidence=mean", str(caught.value)
    )
    assert f"(limits.accuracy={told[1]})" in str(caught.value)
    assert plan(LimitsConfig(accuracy=0.98, confidence="mean")).student == "stratos_3m"


def test_spot_is_taken_for_work_and_never_for_serving():
    gcp = CloudConfig(name="gcp", providers=("gcp",), spot=True)
    cheap = plan(cloud=gcp, objective=OBJECTIVES["cheapest"])
    dear = plan(cloud=replace(gcp, spot=False), objective=OBJECTIVES["cheapest"])
    assert cheap.role("train").spot and cheap.role("teacher").spot
    assert not cheap.role("serve").spot
    assert cheap.usd < dear.usd
    assert cheap.role("serve").usd == pytest.approx(dear.role("serve").usd)


def test_the_prompt_that_the_teacher_did_best_with_is_handed_on():
    assert plan(teachers=(replace(BLIND, prompt="terse"),)).prompt == "terse"


def test_reasons_say_the_numbers(snapshot):
    said = "\n".join(plan(LimitsConfig(accuracy=0.97)).reasons)
    assert said == snapshot
    assert "injection is the strategy that is left" in said
    assert "Of the limits, accuracy 0.97 binds." in said
    free = "\n".join(plan().reasons)
    assert free == snapshot
    assert "binds" not in free
    loose = "\n".join(plan(LimitsConfig(budget_usd=100)).reasons)
    assert "No limit binds" in loose


@pytest.mark.parametrize("num_nodes", [1, 3])
def test_a_training_that_runs_as_a_job_has_the_servers_of_that_job(num_nodes):
    """`executor=here` carries no plan out: there the plan shares the work as it likes."""
    world = World(cloud=AWS, objective=OBJECTIVES["fastest"], strategies=(ALIGNMENT,))
    config, probe = world.config(), replace(world, teachers=(SIGHTED,)).probe()

    def counts(one):
        found = solve(build_problem(one, probe, load_catalog(AWS)))
        return found.role("teacher").count, found.role("train").count

    assert all(count > 3 for count in counts(config))
    executor = Queue(stages=("synthesize", "distill"))
    trainer = replace(config.trainer, num_nodes=num_nodes)
    assert counts(replace(config, executor=executor, trainer=trainer)) == (1, num_nodes)
    assert counts(replace(config, executor=Queue()))[0] > 3, "its answers are not made by a job"


def test_a_job_is_planned_at_the_price_that_it_pays():
    """What the ledger sets aside for the job is the high end of the plan's dollars."""
    world = World(cloud=AWS, strategies=(ALIGNMENT,))
    config, probe = world.config(), replace(world, teachers=(SIGHTED,)).probe()
    stages: tuple[StageName, ...] = ("synthesize", "distill")

    def found(price, kind=Queue, cloud=AWS):
        there = replace(config, cloud=cloud, executor=kind(stages=stages, usd_per_hour=price))
        return solve(build_problem(there, probe, load_catalog(cloud)))

    for kind in (Queue, Rented):
        dear = found(50.0, kind)
        for role, stage in (("teacher", "synthesize"), ("train", "distill")):
            choice = dear.role(role)
            assert choice.offer.usd_per_hour == 50.0 and choice.usd == 50.0 * choice.hours
            job = job_spec(dear, stage, Path("run"), kind(stages=stages, usd_per_hour=50.0))
            assert job.usd_per_hour * job.planned_hours == pytest.approx(choice.usd_range[1])
        free = found(0.0, kind)
        assert free.role("teacher").usd == free.role("train").usd == 0
        as_listed = found(None, kind)
        assert [one.role("serve").offer for one in (dear, free)] == 2 * [
            as_listed.role("serve").offer
        ], "no executor runs the service"
        assert free.role("train").offer.accelerator_count <= 1, "the cheapest that does it"
    on_spot = CloudConfig(name="gcp", providers=("gcp",), spot=True, max_usd_per_hour=2.0)
    assert not found(50.0, cloud=on_spot).role("train").spot
    assert found(50.0, Rented, on_spot).role("train").usd > 0


def test_the_nodes_of_a_cluster_are_those_of_its_jobs():
    """Servers of other clouds serve, and run no job."""
    world = World(cloud=AWS)
    config, probe = world.config(), world.probe()
    catalog = load_catalog(AWS)
    node = Offer("queue", "gpu", "a100:1", "A100-80GB", 1, 8.0, 64.0, 80.0, 0.0)
    both = replace(catalog, table=Table.of([*catalog.offers, node]))
    there = replace(config, executor=Queue(usd_per_hour=2.0))
    train = solve(build_problem(there, probe, both)).role("train")
    assert train.offer.name == node.name and train.usd == 2.0 * train.hours


def test_nobody_waits_until_the_node_of_a_cluster_is_booted():
    world = World(cloud=AWS)
    config, probe = world.config(), world.probe()

    def started(executor):
        found = solve(build_problem(replace(config, executor=executor), probe, load_catalog(AWS)))
        return found.role("train").hours, {one.name for one in found.assumptions}

    stages: tuple[StageName, ...] = ("synthesize", "distill")
    rented, assumed = started(Rented(stages=stages))
    assert "start-up of a rented server" in assumed
    hours, assumed = started(Queue(stages=stages))
    assert hours < rented - 0.1 and "start-up of a rented server" not in assumed


def test_a_hosted_teacher_whose_size_nobody_knows_is_planned():
    card = ModelCard("api", 0, 0, 0, 0, 0, 0, 0, 0, usd_per_million_input_tokens=0.0)
    secret = replace(SIGHTED, teacher="api", card=card)
    for strategy in (ALIGNMENT, INJECTION):
        role = plan(students=UNTRIED, teachers=(secret,), strategies=(strategy,)).role("teacher")
        assert (role.offer, role.usd) == (None, 0.0)


def test_serving_hours_count_in_the_budget():
    month = plan(LimitsConfig(serve_hours=720))
    assert month.role("serve").hours == 720
    assert month.role("serve").usd == pytest.approx(720 * 0.08925)
    assert plan(LimitsConfig(serve_hours=0)).role("serve").usd == 0.0
