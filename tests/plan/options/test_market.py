"""Servers as arrays, quotas, egress, spot: what binds counts, what is dropped, what it costs."""

import random
from math import exp

import numpy as np
import pytest
from serving_points import serving
from test_choices import UNTRIED, plan
from world import ALIGNMENT, BLIND, LARGE, OBJECTIVES, SIGHTED, STUDENTS, Tiles, World, replace

from stratos.catalog import Catalog, Table, load_catalog
from stratos.config import CloudConfig, LimitsConfig
from stratos.estimate.cards import TrainingJob, Workload, card_of_student
from stratos.estimate.hours import generate, train
from stratos.plan.option import Caps, Egress, Quota, counts, list_prices
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.market import (
    CHECKPOINT_HOURS,
    INTERRUPTIONS_PER_HOUR,
    RESTART_HOURS,
    open_market,
    spot_factor,
)
from stratos.plan.stage import solve
from stratos.records import Offer

AWS = CloudConfig(name="aws", providers=("aws",))


def rented(cloud, region, name, usd, **changes):
    row = Offer(cloud, region, name, None, 0, 4, 16, 0, usd, price_date="2026-11-01")
    return replace(row, **changes)


def market(offers, spot=False, **cloud):
    catalog = Catalog(Table.of(offers), {}, ())
    found = open_market(catalog, CloudConfig(**cloud), spot)
    names = [catalog.offer(int(row)).name for row in found.row]
    return dict(zip(zip(names, found.spot.tolist(), strict=True), found.most.tolist(), strict=True))


def test_counts_are_powers_of_two_and_the_most():
    assert list(counts(8)) == [1, 2, 4, 8]
    assert list(counts(6)) == [1, 2, 4, 6]
    assert list(counts(1)) == [1] and list(counts(0)) == []


def test_quotas_and_dollars_an_hour_bind_the_count():
    offers = [rented("a", "r", "x", 2.0), rented("a", "s", "y", 1.0), rented("b", "r", "z", 3.0)]
    assert set(market(offers).values()) == {8}
    bound = market(offers, quotas={"a": 4, "a/s": 2, "*/*/z": 0}, max_usd_per_hour=7.0)
    assert bound == {("a/r x", False): 3, ("a/s y", False): 2}


def test_a_pattern_stands_for_any_text():
    assert Quota("*/*/g5.*", 1).matches("aws", "us-east-1", "g5.xlarge")
    assert not Quota("*/*/g5.*", 1).matches("aws", "us-east-1", "g55.xlarge")
    assert Quota("aws", 1).matches("aws", "anything", "at all")
    assert not Quota("aws/eu", 1).matches("aws", "eu-west-1", "x")
    caps = Caps.of({"aws": 8, "aws/r": 2, "aws/r/x": 1}, 8)
    assert caps.quotas == (Quota("aws/r", 2),) and caps.own == {("aws", "r", "x"): 1}
    assert caps.count(rented("aws", "r", "x", 1.0)) == 1


def test_a_server_with_less_for_more_is_dropped_in_its_place_alone():
    offers = [
        rented("a", "r", "good", 1.0),
        rented("a", "r", "dear", 1.5),
        rented("a", "r", "large", 2.0, memory_gib=64),
        rented("a", "s", "there", 1.5),
        rented("a", "r", "spot", 1.2, usd_per_hour_spot=0.3),
    ]
    assert {name for name, _ in market(offers)} == {"a/r good", "a/r large", "a/s there"}
    on_spot = market(offers, spot=True)
    assert ("a/r spot", True) in on_spot and ("a/r spot", False) not in on_spot


def test_a_server_under_another_quota_is_kept():
    offers = [rented("a", "r", "good", 1.0), rented("a", "r", "dear", 1.5)]
    assert len(market(offers)) == 1
    assert len(market(offers, quotas={"*/*/good": 1})) == 2


def test_estimates_read_what_the_market_prunes_by():
    card = card_of_student(replace(STUDENTS[2], runs=()), Tiles())
    job = TrainingJob(20_000_000, 4096, 1024)
    work = Workload(64, 150)
    offers = load_catalog(CloudConfig()).offers
    for offer in random.Random(0).sample(list(offers), 40):
        more = replace(offer, vcpus=2 * offer.vcpus, memory_gib=2 * offer.memory_gib)
        for n in (1, 4):
            for estimate in (
                lambda o, n=n: train(card, o, job, n),
                lambda o, n=n: generate(LARGE, o, work, 5000, n),
            ):
                before, after = estimate(offer), estimate(more)
                if before is None:
                    continue
                assert after.mean <= before.mean * (1 + 1e-12)
                assert offer.accelerator is None or after == before
        if offer.accelerator:
            assert serving(card, offer, (work,)) == serving(card, more, (work,))


def test_egress_is_free_at_home_and_dear_to_the_internet():
    prices = list_prices()
    home, near, far = ("aws", "us-east-1"), ("aws", "us-west-2"), ("gcp", "us-east1")
    assert prices.price(home, home) == prices.price(None, home) == 0.0
    assert 0 < prices.price(home, near) < prices.price(home, far)
    assert prices.price(("lambda", "x"), far) == 0.0
    assert prices.price(("unheard-of", "x"), far) == prices.price(home, far)
    assert prices.most == max(prices.price((cloud, "x"), ("elsewhere", "y"))
                              for cloud in prices.usd_per_gb)  # fmt: skip


def test_a_heavy_bundle_is_served_where_it_was_trained():
    offers = [
        rented("a", "r", "train", 1.0, vcpus=64, memory_gib=256),
        rented("b", "r", "serve", 0.095),
        rented("a", "r", "serve", 0.1),
    ]
    world = World(cloud=CloudConfig(name="two"), objective=OBJECTIVES["cheapest"])
    catalog = Catalog(Table.of(offers), {}, ())
    problem = build_problem(world.config(), world.probe(), catalog)

    def served(gb):
        heavy = {key: gb if key.startswith("serve") else 0.0 for key in problem.gb}
        options = {
            key: tuple(o for o in found if key.startswith("serve") or o.offer.cloud == "a")
            for key, found in every.items()
        }
        egress = Egress({"a": (0.02, 0.09), "b": (0.02, 0.09)})
        return solve(replace(problem, gb=heavy, options=options, egress=egress))

    # As one place sees it, all options: the light bundle of the world prunes the dearer server.
    every = build_problem(
        world.config(), world.probe(), Catalog(Table.of([o for o in offers if o.cloud == "a"]),
                                               {}, ())
    ).options  # fmt: skip
    every = {k: (*every[k], *(o for o in v if o not in every[k])) for k, v in
             problem.options.items()}  # fmt: skip
    light, heavy = served(0.1), served(16.0)
    assert light.role("serve").offer.cloud == "b"
    assert light.egress_usd == pytest.approx(0.1 * 0.09)
    assert heavy.role("serve").offer.cloud == "a" and heavy.egress_usd == 0.0


def test_spot_overhead_is_what_a_simulation_gives():
    random_ = np.random.default_rng(0)
    for n in (1, 8):
        rate, work = n * INTERRUPTIONS_PER_HOUR, 20 * CHECKPOINT_HOURS
        took = []
        for _ in range(4000):
            hours, saved = 0.0, 0.0
            while saved < work - 1e-9:
                alive = random_.exponential(1 / rate)
                if alive >= CHECKPOINT_HOURS:
                    hours, saved = hours + CHECKPOINT_HOURS, saved + CHECKPOINT_HOURS
                    continue
                hours += alive
                while (alive := random_.exponential(1 / rate)) < RESTART_HOURS:
                    hours += alive
                hours += RESTART_HOURS
            took.append(hours)
        assert np.mean(took) / work == pytest.approx(spot_factor(n), rel=0.01)
    assert 1.0 < spot_factor(1) < spot_factor(8) < exp(1)


def test_serving_is_never_on_spot():
    gcp = CloudConfig(name="gcp", providers=("gcp",), spot=True)
    chosen = plan(cloud=gcp, objective=OBJECTIVES["cheapest"])
    role = chosen.role("train")
    assert role.spot and not chosen.role("serve").spot
    assert role.usd == pytest.approx(role.count * role.hours * role.offer.usd_per_hour_spot)


def test_a_cap_of_a_dollar_never_returns_a_dearer_machine():
    shared = CloudConfig(name="gcp", providers=("gcp",), max_usd_per_hour=1.0, spot=True)
    for objective in ("fastest", "cheapest", "lowest_latency", "balanced"):
        chosen = plan(cloud=shared, objective=OBJECTIVES[objective])
        for role in chosen.roles:
            price = role.offer.usd_per_hour_spot if role.spot else role.offer.usd_per_hour
            assert role.count * price <= 1.0


def test_more_nodes_where_hours_count():
    catalog = Catalog(Table.of([rented("a", "r", "x", 1.0)]), {}, ())

    def solved(n_nodes):
        cloud = CloudConfig(name="a", max_nodes=n_nodes)
        world = World(cloud=cloud, objective=OBJECTIVES["fastest"])
        return solve(build_problem(world.config(), world.probe(), catalog))

    one, many = solved(1), solved(4)
    assert one.role("train").count == 1 and many.role("train").count == 4
    assert many.hours < one.hours and many.usd > one.usd
    assert many.role("serve").count == 1


def test_planned_dollars_and_hours_carry_ranges():
    chosen = plan(LimitsConfig(budget_usd=50))
    assert chosen.usd_range[0] < chosen.usd < chosen.usd_range[1]
    assert chosen.hours_range[0] < chosen.hours < chosen.hours_range[1]
    train_role = chosen.role("train")
    price = train_role.count * train_role.offer.usd_per_hour
    assert train_role.usd_range == pytest.approx([h * price for h in train_role.hours_range])


def test_a_hosted_teacher_asked_in_a_batch_is_cheaper_and_later():
    card = replace(
        SIGHTED.card,
        name="api",
        usd_per_million_input_tokens=2.0,
        usd_per_million_output_tokens=8.0,
        usd_per_million_batch_input_tokens=1.0,
        usd_per_million_batch_output_tokens=4.0,
        max_tokens_per_minute=100_000.0,
    )
    hosted = replace(SIGHTED, teacher="api", card=card, seconds=0.0)
    ask = {"students": UNTRIED, "teachers": (hosted,), "strategies": (ALIGNMENT,)}
    cheap = plan(objective=OBJECTIVES["cheapest"], **ask).role("teacher")
    quick = plan(objective=OBJECTIVES["fastest"], **ask).role("teacher")
    n_evaluated = 1000
    n_answers = n_evaluated + 20_000
    # What evaluates is asked behind the training, and at once.
    assert quick.usd / cheap.usd == pytest.approx(n_answers / (n_evaluated + 10_000))
    assert quick.hours == pytest.approx(n_answers * 412 / 100_000 / 60)
    assert cheap.hours == pytest.approx(24.0 + n_evaluated * 412 / 100_000 / 60)
    assert cheap.note.endswith("as a batch")
    assert (cheap.as_batch, quick.as_batch) == (True, False)


def test_the_same_problem_from_shuffled_rows():
    world = World(cloud=AWS, teachers=(BLIND, SIGHTED))
    offers = list(load_catalog(AWS).offers)
    problems = []
    for seed in range(2):
        random.Random(seed).shuffle(offers)
        catalog = Catalog(Table.of(offers), {}, ())
        problems.append(build_problem(world.config(), world.probe(), catalog))
    assert problems[0].options == problems[1].options
