"""What a plan rests on: prices with their sources, assumptions, and a teacher that may end."""

import datetime

import pytest
from test_objective import plans
from test_teacher_load import task_of
from world import ALIGNMENT, INJECTION, OBJECTIVES, SIGHTED, STUDENTS, World, replace

from stratos.catalog import load_catalog
from stratos.config import BucketConfig, CloudConfig, LimitsConfig, TrafficConfig
from stratos.plan.explain.reasons import stale
from stratos.plan.explain.show import explanation
from stratos.plan.option import Egress, list_prices
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.records import ModelCard, Plan, Price, from_json, to_json
from stratos.synthesize.injection import Injection

AWS = CloudConfig(name="aws", providers=("aws",))
TODAY = datetime.date(2026, 11, 26)
API = ModelCard(
    "api", 0, 0, 0, 0, 0, 0, 0, 0,
    usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=8.0,
    usd_per_million_batch_input_tokens=1.0, usd_per_million_batch_output_tokens=4.0,
    price_date="2026-11-25", price_source="a price list", retires="2027-01-14",
    retires_source="a list of ends",
)  # fmt: skip
HOSTED = replace(SIGHTED, teacher="api", card=API)
UNTRIED = tuple(replace(student, runs=()) for student in STUDENTS)


def planned(today=TODAY, **changes):
    world = World(**{"cloud": AWS, **changes})
    problem = build_problem(world.config(), world.probe(), load_catalog(world.cloud))
    return solve(problem, today=today)


def test_every_price_that_is_used_has_its_day_and_source():
    plan = planned(students=UNTRIED, strategies=(ALIGNMENT,), teachers=(HOSTED,))
    assert {price.kind for price in plan.prices} == {"server", "teacher"}
    by_unit = {price.unit: price for price in plan.prices if price.kind == "teacher"}
    as_batch = plan.role("teacher").as_batch
    suffix = " in a batch" if as_batch else ""
    asked = by_unit[f"a million tokens in{suffix}"]
    assert asked == Price(
        "teacher", "api", 1.0 if as_batch else 2.0, asked.unit, "2026-11-25", "a price list"
    )
    for role in plan.roles:
        if role.offer is not None:
            price = next(price for price in plan.prices if price.what == role.offer.name)
            assert (price.usd, price.date) == (role.offer.usd_per_hour, role.offer.price_date)
            assert price.source == role.offer.source
    dates = sorted(price.date for price in plan.prices)
    assert plan.price_dates == (dates[0], dates[-1])
    assert from_json(to_json(plan), Plan) == plan


def test_stale_prices_to_the_letter(snapshot):
    new = Price("server", "a", 1.0, "an hour", "2026-10-27", "x")
    old = Price("server", "b", 1.0, "an hour", "2026-10-26", "x")
    way = Price("egress", "egress of c", 0.09, "a GB to the internet", "2025-01-01", "x")
    undated = Price("teacher", "d", 1.0, "a million tokens in", "", "x")
    typed = Price("teacher", "endpoint", 1.0, "a million tokens in")
    free = Price("teacher", "e", 0.0, "a million tokens in")
    assert stale([new, free, typed], TODAY) == ()
    assert stale([new, old, old, way, undated], TODAY) == snapshot


def test_egress_that_is_paid_is_a_price_with_its_day():
    problem = plans((0.9, 1.0, 1.0, 300.0))
    moved = {"serve0": 5.0, "teach0": 2.0}
    placed = {
        work: tuple(
            replace(o, offer=replace(o.offer, region="r2" if "serve" in work else "r"))
            for o in options
        )
        for work, options in problem.options.items()
    }
    egress = Egress({"c": (0.02, 0.09)}, {"c": ("2025-01-01", "as b")}, frozenset({"c"}))
    plan = solve(replace(problem, options=placed, gb=moved, egress=egress), today=TODAY)
    assert plan.egress_usd == pytest.approx(5 * 0.02)
    prices = [price for price in plan.prices if price.kind == "egress"]
    assert prices == [
        Price("egress", "egress of c", 0.02, "a GB between its regions", "2025-01-01",
              "as b")
    ]  # fmt: skip
    assert any("egress of c 2025-01-01" in text for text in plan.warnings)
    names = {one.name for one in plan.assumptions}
    assert {"size of answers on their way", "size of the bundle on its way", "egress of c"} <= names


def test_the_list_of_egress_has_a_day_and_a_source_for_every_cloud():
    prices = list_prices()
    for cloud in prices.usd_per_gb:
        day, source = prices.provenance_of(cloud)
        assert datetime.date.fromisoformat(day) and source
    assert prices.provenance_of("unheard of")[1].startswith("assumption")


# --- assumptions ---------------------------------------------------------------------------------


def names(plan):
    return {one.name for one in plan.assumptions}


def test_assumptions_are_those_that_the_plan_rests_on():
    plan = planned()
    assert {
        "p95 latency over the mean",
        "tokens of a question",
        "start-up of a rented server",
        "worth of one percentage point of accuracy",
        "worth of one hour until the student serves",
        "worth of 100 ms of p95 latency",
    } <= names(plan)
    assert not {"utilisation of servers", "spot interruptions"} & names(plan)
    assert "tokens of a student's answer" not in names(plan)  # recorded runs have shown them
    assert "tokens of a student's answer" in names(planned(students=UNTRIED))
    for one in plan.assumptions:
        assert one.unit and one.why and one.replaced_by
    here = planned(cloud=CloudConfig(name="local", providers=("local",)))
    assert not {"start-up of a rented server", "training speed of a vCPU"} & names(here)


def test_what_the_user_says_is_no_assumption():
    traffic = TrafficConfig(5.0, (BucketConfig(64, 128, 1.0),))
    plan = planned(traffic=traffic)
    assert "utilisation of servers" in names(plan)
    assert "tokens of a question" not in names(plan)
    objective = replace(World().objective, usd_per_accuracy_point=2.0)
    assert "worth of one percentage point of accuracy" not in names(planned(objective=objective))
    cheapest = planned(objective=OBJECTIVES["cheapest"])
    assert not any(name.startswith("worth") for name in names(cheapest))


def test_the_explanation_lists_prices_and_assumptions(snapshot):
    text = explanation(planned()).plain
    assert text == snapshot
    assert "\nAssumptions\n" in text
    assert text == snapshot


# --- teachers that end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "serve_hours", "is_said"),
    [
        (TODAY, 24, False),
        (TODAY, 24 * 60, True),
        (datetime.date(2027, 1, 13), 24, True),
    ],
)
def test_a_teacher_that_ends_before_the_serving_does_is_named(
    today, serve_hours, is_said, snapshot
):
    plan = planned(today, students=UNTRIED, strategies=(INJECTION,), teachers=(HOSTED,),
                   limits=LimitsConfig(serve_hours=serve_hours))  # fmt: skip
    assert plan.teacher_retires == "2027-01-14"
    said = [text for text in plan.warnings if text.startswith("The teacher api ends on 2027-01-14")]
    assert bool(said) == is_said
    if said:
        assert "(a list of ends), within the" in said[0]
        assert said[0] == snapshot


def test_what_a_teacher_is_taken_to_be_refused(tmp_path):
    writing = Injection(rationale="teacher")
    task = task_of(tmp_path)
    plan = planned(strategies=(writing,), teachers=(HOSTED,), task=task, students=UNTRIED)
    refused = next(one for one in plan.assumptions if one.name == "reasonings that are refused")
    assert refused.value == writing.refused_share
    assert refused.replaced_by.startswith("strategy.refused_share=")


def test_spot_and_gpus_that_were_not_measured():
    gcp = CloudConfig(name="gcp", providers=("gcp",), spot=True)
    fastest = OBJECTIVES["fastest"]
    plan = planned(cloud=gcp, objective=fastest)
    trained = plan.role("train")
    assert ("spot interruptions" in names(plan)) == any(role.spot for role in plan.roles)
    scaled = [one for one in plan.assumptions if one.name.endswith("in training")]
    measured = trained.offer.accelerator in ("A100-80GB", "H100")
    assert bool(scaled) == (trained.offer.accelerator is not None and not measured)
