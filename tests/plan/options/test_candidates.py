"""What is left of the market is all that a best plan can need: against no pruning at all."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_points import serving
from test_market import rented
from twin import mix_steps
from world import INJECTION, LARGE, STUDENTS, Tiles, World, replace

from stratos.catalog import Catalog, Table
from stratos.config import BucketConfig, CloudConfig, TrafficConfig
from stratos.estimate.cards import TrainingJob, Workload, card_of_student
from stratos.estimate.fleet import Fleet, device_of
from stratos.estimate.hours import generate, generate_all, train, train_all
from stratos.estimate.serving import serving_all
from stratos.plan.option import Egress, Option, counts
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.market import OfferGroups, open_market, spot_factor
from stratos.plan.options.role_options import Job, Service, job_options, service_options
from stratos.plan.pareto import Slack, lowest_as_fast, undominated
from stratos.plan.solve.frontier import frontier
from stratos.plan.solve.solver import Solver
from stratos.records import ServingSetting

PLACES = (("a", "r1"), ("a", "r2"), ("b", "r1"), ("c", "r1"))
PRICES = {"a": (0.25, 0.5), "b": (1.0, 0.75), "c": (0.0, 0.0)}  # b asks more within than without
EGRESS = Egress(PRICES)
CARD = card_of_student(replace(STUDENTS[2], runs=()), Tiles())


def dearer(p, q, gb_in, gb_out):
    """Most dollars that a work at q moves for beyond what it moves for at p, for all partners."""

    def most(price):
        return max(price(t, q) - price(t, p) for t in (*PLACES, None))

    return gb_in * most(EGRESS.price) + gb_out * most(lambda t, at: EGRESS.price(at, t))


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 4), st.sampled_from(range(len(PLACES)))),
        max_size=30,
    ),
    st.integers(0, 2),
    st.integers(0, 2),
)
@settings(max_examples=500)
def test_every_point_that_is_dropped_is_beaten_by_one_that_stays(points, gb_in, gb_out):
    usd, x, place = (np.array(column) for column in zip(*points, strict=True)) if points else (
        np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
    )  # fmt: skip
    usd, x = usd / 4, x / 4
    slack = Slack.of(PLACES, EGRESS).moving(gb_in, gb_out)
    left = undominated(usd, x, place, slack).tolist()
    for p, q in itertools.product(range(len(PLACES)), repeat=2):
        if p != q:
            bound = slack.near[p] if PLACES[p][0] == PLACES[q][0] else (
                slack.inward[p] + slack.outward[q]
            )  # fmt: skip
            assert dearer(PLACES[p], PLACES[q], gb_in, gb_out) <= bound <= slack.most
    for i in range(len(points)):
        beaten = [
            j
            for j in left
            if x[j] <= x[i]
            and usd[j] + dearer(PLACES[place[i]], PLACES[place[j]], gb_in, gb_out) <= usd[i]
        ]
        assert beaten  # at least by itself
        if i not in left:
            assert any((usd[j], x[j]) != (usd[i], x[i]) for j in beaten)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_least_dollars_of_all_that_is_as_fast(points):
    usd, x = np.array(points, dtype=float).T
    expected = [min(u for u, y in points if y <= at) for _, at in points]
    assert lowest_as_fast(usd, x).tolist() == expected


def catalog(seed, n=40):
    """Servers of eight kinds at random prices in four places, some on spot, some few."""
    rng = random.Random(seed)
    kinds = [
        {"vcpus": 4},
        {"vcpus": 16, "memory_gib": 64},
        {"vcpus": 16, "memory_gib": 32},
        {"accelerator": "T4", "accelerator_count": 1, "vram_gib": 16},
        {"accelerator": "T4", "accelerator_count": 4, "vram_gib": 16},
        {"accelerator": "A100", "accelerator_count": 1, "vram_gib": 40},
        {"accelerator": "A100", "accelerator_count": 8, "vram_gib": 40},
        {"accelerator": "H100", "accelerator_count": 8, "vram_gib": 80},
    ]
    base = (0.2, 0.8, 0.7, 0.4, 1.6, 2.0, 16.0, 28.0)
    rows = []
    for i in range(n):
        kind = rng.randrange(len(kinds))
        usd = round(base[kind] * rng.uniform(0.5, 2.0), 1 if kind > 2 else 2)
        spot = round(usd * 0.4, 2) if rng.random() < 0.5 else None
        row = rented(*rng.choice(PLACES), f"k{kind}-{i % 7}", usd, usd_per_hour_spot=spot)
        rows.append(replace(row, **kinds[kind]))
    table = Table.of(rows)
    few = np.array([rng.choice((1, 2, 3, 2**31 - 1)) for _ in rows])
    return Catalog(replace(table, max_count=few), {}, ())


def shelves_of(found, cloud):
    market = open_market(found, cloud, cloud.spot)
    return OfferGroups.of(market, Fleet.of([device_of(kind) for kind in market.kinds]))


def unpruned(found, cloud):
    """Every offer, on demand and on spot, with the most servers that may be had of it."""
    caps = open_market(found, cloud, cloud.spot).caps
    for row, offer in enumerate(found.offers):
        most = min(caps.count(offer), int(found.table.max_count[row]))
        for spot in (False, True):
            price = offer.usd_per_hour_spot if spot else offer.usd_per_hour
            if price is not None:
                yield offer, spot, price, most


def is_beaten(options, place, usd, x, gb_in, gb_out, of):
    return any(
        of(o) <= x * (1 + 1e-12)
        and o.usd + dearer(place, o.location, gb_in, gb_out) <= usd * (1 + 1e-12)
        for o in options
    )


@pytest.mark.parametrize("seed", range(6))
def test_options_of_a_job_beat_every_server_in_every_number(seed):
    found, cloud = catalog(seed), CloudConfig(name="all", spot=True, quotas={"a/r1": 4})
    offer_groups = shelves_of(found, cloud)
    slack = Slack.of(found.table.places, EGRESS)
    training, work = TrainingJob(20_000_000, 4096, 1024), Workload(400, 12)
    jobs = (
        (lambda f, n: train_all(CARD, f, training, n)[0], lambda o, n: train(CARD, o, training, n)),
        (lambda f, n: generate_all(LARGE, f, work, 9000, n)[0],
         lambda o, n: generate(LARGE, o, work, 9000, n)),
    )  # fmt: skip
    for (every, one), gb_in, gb_out in itertools.product(jobs, (0.0, 0.5), (0.0, 2.0)):
        options = job_options(offer_groups, Job(every, slack.moving(gb_in, gb_out), ""))
        for offer, spot, price, most in unpruned(found, cloud):
            for n in counts(most):
                hours = one(offer, n)
                if hours is not None:
                    took = hours.mean * (spot_factor(n) if spot else 1.0)
                    place = (offer.cloud, offer.region)
                    usd = n * price * took
                    assert is_beaten(options, place, usd, took, gb_in, gb_out, lambda o: o.hours)
        for option in options:
            hours = one(option.offer, option.count)
            factor = spot_factor(option.count) if option.spot else 1.0
            assert option.hours == pytest.approx(factor * hours.mean, rel=1e-12)
            assert option.usd == pytest.approx(option.usd_per_hour * option.hours, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_options_of_a_service_beat_every_server(seed):
    found, cloud = catalog(seed), CloudConfig(name="all")
    works = (Workload(64, 150), Workload(500, 20))
    for gb in (0.0, 2.0):
        service = Service(
            lambda fleet: serving_all(CARD, fleet, works, fastest=True),
            24.0,
            Slack.of(found.table.places, EGRESS).moving(gb_in=gb),
            "",
        )
        options = service_options(shelves_of(found, cloud), service)
        for offer, spot, price, _ in unpruned(found, cloud):
            points = () if spot else serving(CARD, offer, works, fastest=True)
            if points:
                ms = min(max(i.mean for i in point.latency_ms) for point in points)
                place = (offer.cloud, offer.region)
                assert is_beaten(options, place, 24 * price, ms, gb, 0.0, lambda o: o.latency_ms)


@pytest.mark.parametrize("seed", range(4))
def test_mixes_of_what_is_left_are_as_cheap_and_fast_as_those_of_all(seed):
    found = catalog(seed, n=14)
    cloud = CloudConfig(name="all", quotas={"a": 3}, max_usd_per_hour=(None, 20.0)[seed % 2])
    offer_groups, rates = shelves_of(found, cloud), (3.0, 1.0)
    works = (Workload(64, 150), Workload(500, 20))
    service = Service(
        lambda fleet: serving_all(CARD, fleet, works),
        24.0,
        Slack.of(found.table.places, EGRESS).moving(gb_in=2.0),
        "",
        rates,
    )
    caps = offer_groups.market.caps
    every = [
        Option(
            offer, False, 24.0, 24 * price, max(i.mean for i in point.latency_ms),
            latencies_ms=tuple(i.mean for i in point.latency_ms),
            requests_per_s=point.requests_per_s,
            run=ServingSetting(
                point.engine, point.batch, point.tensor_parallel, point.utilisation
            ),
        )
        for offer, spot, price, _ in unpruned(found, cloud)
        if not spot
        for point in serving(CARD, offer, works)
    ]  # fmt: skip
    left = service_options(offer_groups, service)
    assert len(left) < len(every)
    for source in PLACES:
        steps = [
            mix_steps(
                options,
                [2.0 * EGRESS.price(source, o.location) for o in options],
                rates,
                caps,
                Solver(),
            )
            for options in (left, every)
        ]
        a, b = ([(step.usd, step.latency_ms) for step in found] for found in steps)
        assert np.array(a) == pytest.approx(np.array(b), rel=1e-6)


def test_servers_of_one_name_at_two_prices_are_counted_apart():
    table = Table.of([rented("a", "r", "x", 1.0), rented("a", "r", "x", 1.5)])
    found = Catalog(replace(table, max_count=np.array([2, 3])), {}, ())
    market = open_market(found, CloudConfig(max_nodes=8), False)
    most = dict(zip(market.usd_per_hour.tolist(), market.most.tolist(), strict=True))
    assert most == {1.0: 2, 1.5: 3}
    cheap, dear = found.offers
    assert market.caps.count(cheap) == 2 and market.caps.count(dear) == 3
    assert not market.caps.binding(cheap) & market.caps.binding(dear)
    both = open_market(found, CloudConfig(max_nodes=8, quotas={"a/r/x": 1}), False).caps
    assert both.count(cheap) == both.count(dear) == 1
    assert len(both.binding(cheap) & both.binding(dear)) == 1


def test_a_rate_is_planned_with_the_few_servers_that_there_are():
    table = Table.of([rented("a", "r", "x", 0.1), rented("a", "r", "x", 0.2)])
    found = Catalog(replace(table, max_count=np.array([2, 3])), {}, ())
    point = max(serving(CARD, found.offers[0], (Workload(64, 150),)),
                key=lambda p: p.requests_per_s)  # fmt: skip
    rate = point.requests_per_s[0] * 4.5  # of five servers
    world = World(
        cloud=CloudConfig(name="a"),
        students=(replace(STUDENTS[2], runs=()),),
        strategies=(INJECTION,),
        traffic=TrafficConfig(rate, (BucketConfig(64, 150, 1.0),)),
    )
    problem = build_problem(world.config(), world.probe(), found)
    served = frontier(problem)[0].options[2]
    assert {p.offer.usd_per_hour: p.count for p in served.parts} == {0.1: 2, 0.2: 3}
