"""Servers as arrays, quotas, egress, spot: what binds counts, what is dropped, what it costs."""

import random
from datetime import date
from math import exp

import numpy as np
import pytest
from serving_points import serving
from world import BLIND, LARGE, SIGHTED, STUDENTS, Tiles, World, replace

from stratos.catalog import Catalog, Table, load_catalog
from stratos.config import CloudConfig
from stratos.estimate.cards import TrainingJob, Workload, card_of_student
from stratos.estimate.hours import generate, train
from stratos.plan.option import Caps, Quota, counts, list_prices
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.market import (
    CHECKPOINT_HOURS,
    INTERRUPTIONS_PER_HOUR,
    RESTART_HOURS,
    open_market,
    spot_factor,
)
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


def test_egress_is_at_the_list_prices_of_the_clouds():
    """As their price pages have them: between regions, and to the internet, dollars a GB."""
    prices = list_prices()
    listed = {"aws": (0.02, 0.09), "azure": (0.02, 0.087), "gcp": (0.02, 0.12)}
    free = dict.fromkeys(("lambda", "runpod", "local"), (0.0, 0.0))
    assert prices.usd_per_gb.items() >= {**listed, **free, "*": listed["aws"]}.items()
    for cloud in prices.usd_per_gb:
        day, source = prices.provenance_of(cloud)
        assert date.fromisoformat(day) <= date.today() and source


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


def test_the_same_problem_from_shuffled_rows():
    world = World(cloud=AWS, teachers=(BLIND, SIGHTED))
    offers = list(load_catalog(AWS).offers)
    problems = []
    for seed in range(2):
        random.Random(seed).shuffle(offers)
        catalog = Catalog(Table.of(offers), {}, ())
        problems.append(build_problem(world.config(), world.probe(), catalog))
    assert problems[0].options == problems[1].options
