"""What is chosen: each limit in turn changes what it should, on the builtin catalog."""

import re
from pathlib import Path

import pytest
from stub_executors import Queue, Rented
from world import ALIGNMENT, BLIND, INJECTION, OBJECTIVES, SIGHTED, STUDENTS, World, replace, runs

from stratos.catalog import Table, load_catalog
from stratos.config import CloudConfig, LimitsConfig, ObjectiveConfig
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


def test_a_tighter_budget_changes_servers_then_student():
    free, tight = plan(), plan(LimitsConfig(budget_usd=2.25))
    tightest = plan(LimitsConfig(budget_usd=2.185))
    assert tight.usd <= 2.25 < free.usd
    assert tight.role("train").offer.accelerator is None
    assert tight.hours > free.hours
    assert tightest.usd <= 2.185
    assert tightest.student == "stratos_300k"


def test_a_deadline_changes_servers():
    cheap = plan(objective=OBJECTIVES["cheapest"])
    fast = plan(LimitsConfig(deadline_hours=0.35), objective=OBJECTIVES["cheapest"])
    assert cheap.hours > 0.4
    assert fast.hours <= 0.35
    assert server(fast, "train") != server(cheap, "train")
    assert fast.usd > cheap.usd


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


def test_an_accuracy_limit_changes_the_student():
    strict = plan(LimitsConfig(accuracy=0.97))
    assert strict.student == "stratos_3m"
    assert strict.accuracy.mean == pytest.approx(0.985)


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


def test_a_better_teacher_changes_teacher_and_strategy():
    blind = plan(students=UNTRIED)
    sighted = plan(students=UNTRIED, teachers=(BLIND, SIGHTED))
    assert (blind.teacher, blind.strategy) == ("smollm2_135m", "injection")
    assert (sighted.teacher, sighted.strategy) == ("qwen2.5_7b", "alignment")
    assert sighted.role("teacher").usd > 10 * blind.role("teacher").usd
    poor = plan(LimitsConfig(budget_usd=2.5), students=UNTRIED, teachers=(BLIND, SIGHTED))
    assert (poor.teacher, poor.strategy) == ("smollm2_135m", "injection")


def test_two_teachers_that_cover_the_task_differ_by_accuracy_against_cost():
    aligned = runs(0.97, 300, 600, "alignment")
    students = (replace(STUDENTS[0], runs=(*STUDENTS[0].runs, *aligned)), *STUDENTS[1:])
    chosen = plan(students=students, teachers=(BLIND, SIGHTED))
    assert (chosen.student, chosen.strategy, chosen.teacher) == (
        "stratos_300k",
        "alignment",
        "qwen2.5_7b",
    )


@pytest.mark.parametrize(
    ("objective", "alternative", "value"),
    [
        ("cheapest", "cost_first", lambda p: p.usd),
        ("fastest", "fastest", lambda p: p.hours),
        ("lowest_latency", "lowest_latency", lambda p: p.latency_ms),
    ],
)
def test_each_objective_is_the_alternative_of_its_name(objective, alternative, value):
    balanced = plan(teachers=(BLIND, SIGHTED))
    single = plan(teachers=(BLIND, SIGHTED), objective=OBJECTIVES[objective])
    assert value(single) == pytest.approx(value(balanced.alternatives[alternative]))
    assert value(single) < value(balanced)
    assert min(value(point) for point in balanced.frontier) == pytest.approx(value(single))
    assert balanced.net_usd < single.net_usd
    assert single.objective == objective


def test_most_accurate():
    accurate = plan(objective=OBJECTIVES["most_accurate"])
    assert accurate.student == "stratos_3m"
    assert accurate.usd == pytest.approx(plan().alternatives["accuracy_first"].usd)


def test_exchange_rates_move_the_balanced_plan():
    exact = plan(objective=ObjectiveConfig(usd_per_accuracy_point=20))
    hasty = plan(objective=ObjectiveConfig(usd_per_100ms=50))
    assert (exact.student, hasty.student) == ("stratos_3m", "stratos_300k")


def test_the_chosen_plan_is_on_the_frontier_and_its_net_cost_is_lowest():
    chosen = plan(teachers=(BLIND, SIGHTED))
    assert len(chosen.frontier) <= chosen.n_frontier <= 250
    top = min(chosen.frontier, key=lambda point: point.net_usd)
    assert (top.usd, top.student) == (pytest.approx(chosen.usd), chosen.student)
    assert top.net_usd == pytest.approx(chosen.net_usd)


def test_spot_is_taken_for_work_and_never_for_serving():
    gcp = CloudConfig(name="gcp", providers=("gcp",), spot=True)
    cheap = plan(cloud=gcp, objective=OBJECTIVES["cheapest"])
    dear = plan(cloud=replace(gcp, spot=False), objective=OBJECTIVES["cheapest"])
    assert cheap.role("train").spot and cheap.role("teacher").spot
    assert not cheap.role("serve").spot
    assert cheap.usd < dear.usd
    assert cheap.role("serve").usd == pytest.approx(dear.role("serve").usd)


def test_a_cap_on_the_price_holds_for_every_role():
    capped = plan(cloud=replace(AWS, max_usd_per_hour=0.2), objective=OBJECTIVES["fastest"])
    assert max(role.offer.usd_per_hour for role in capped.roles) <= 0.2
    on_spot = CloudConfig(name="gcp", providers=("gcp",), spot=True, max_usd_per_hour=0.4)
    capped = plan(cloud=on_spot, objective=OBJECTIVES["fastest"])
    for role in capped.roles:
        price = role.offer.usd_per_hour_spot if role.spot else role.offer.usd_per_hour
        assert price <= 0.4


def test_local_is_free_and_starts_at_once():
    here = plan(cloud=CloudConfig(name="local", providers=("local",)))
    assert here.usd == 0.0
    assert {role.offer.cloud for role in here.roles} == {"local"}
    assert here.student == "stratos_1m"


def test_serving_hours_count_in_the_budget():
    month = plan(LimitsConfig(serve_hours=720))
    assert month.role("serve").hours == 720
    assert month.role("serve").usd == pytest.approx(720 * 0.08925)
    assert plan(LimitsConfig(serve_hours=0)).role("serve").usd == 0.0


def test_a_hosted_teacher_whose_size_nobody_knows_is_planned():
    card = ModelCard("api", 0, 0, 0, 0, 0, 0, 0, 0, usd_per_million_input_tokens=0.0)
    secret = replace(SIGHTED, teacher="api", card=card)
    for strategy in (ALIGNMENT, INJECTION):
        role = plan(students=UNTRIED, teachers=(secret,), strategies=(strategy,)).role("teacher")
        assert (role.offer, role.usd) == (None, 0.0)


def test_a_hosted_teacher_costs_by_the_token_and_needs_no_server():
    card = replace(
        SIGHTED.card,
        name="api",
        usd_per_million_input_tokens=2.0,
        usd_per_million_output_tokens=8.0,
        max_requests_per_minute=60.0,
    )
    hosted = replace(SIGHTED, teacher="api", card=card)
    chosen = plan(students=UNTRIED, teachers=(hosted,), strategies=(ALIGNMENT,))
    role = chosen.role("teacher")
    n_answers = 1000 + 20_000
    assert role.offer is None
    assert role.usd == pytest.approx(n_answers * (400 * 2 + 12 * 8) / 1e6)
    assert role.hours == pytest.approx(n_answers / 60 / 60)
    only_asked = plan(teachers=(hosted,), strategies=(INJECTION,)).role("teacher")
    assert only_asked.usd == pytest.approx(1000 * (400 * 2 + 12 * 8) / 1e6)


def test_max_tokens_of_the_trainer_decide_the_training():
    world = World(cloud=AWS)
    config = replace(world.config(), objective=OBJECTIVES["fastest"])
    few = replace(config, trainer=replace(config.trainer, max_tokens=1_000_000))
    hours = []
    for one in (config, few):
        problem = build_problem(one, world.probe(), load_catalog(AWS))
        hours.append(solve(problem).role("train").hours)
    assert hours[1] < hours[0]


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


def test_prices_and_candidates_left_out_are_recorded():
    world = World(cloud=AWS)
    probe = world.probe({"gpt-x": "no key in OPENAI_API_KEY"})
    chosen = solve(build_problem(world.config(), probe, load_catalog(AWS)))
    catalog = load_catalog(AWS)
    assert chosen.left_out == {
        "gpt-x": "no key in OPENAI_API_KEY",
        "alignment from smollm2_135m": "coverage 0.016 is below min_coverage 0.3",
        **catalog.left_out,
    }
    assert chosen.n_offers == len(catalog.offers)
    assert chosen.status == "optimal"


def test_a_dearer_region_changes_nothing():
    world = World(cloud=CloudConfig(name="mine", providers=("aws",)))
    catalog = load_catalog(world.cloud)
    dear = replace(catalog.offers[0], region="far", usd_per_hour=900.0)
    wide = replace(catalog, table=Table.of([*catalog.offers, dear]))
    problems = [build_problem(world.config(), world.probe(), c) for c in (catalog, wide)]
    assert problems[0].options == problems[1].options
    names = {o.name for options in problems[0].options.values() for o in options}
    assert "aws/us-east-1 g4dn.xlarge (1xT4)" in names
    assert not any("/far " in name for name in names)


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
    on_spot = replace(AWS, spot=True, max_usd_per_hour=2.0)
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
