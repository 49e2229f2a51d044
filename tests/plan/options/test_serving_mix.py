"""Mixes of servers for a rate of requests: published and own examples, caps, and pruning."""

import itertools
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from twin import instance, mix_steps

from stratos.config import BucketConfig, CloudConfig, LimitsConfig, TrafficConfig
from stratos.plan.option import Caps, Mix, Option
from stratos.plan.solve import mix_frontier
from stratos.plan.solve.frontier import Reduced, frontier
from stratos.plan.solve.mix import as_served
from stratos.plan.solve.mix_frontier import staircases
from stratos.plan.solve.model import Model
from stratos.plan.solve.solver import Solver
from stratos.records import Offer, ServingSetting


def server(name, usd_per_hour, capacity, ms=None, place=("c", "r")):
    offer = Offer(*place, name, None, 0, 2, 8, 0, usd_per_hour)
    ms = ms or (100.0,) * len(capacity)
    return Option(offer, False, 1.0, usd_per_hour, max(ms), latencies_ms=ms,
                  requests_per_s=capacity, run=ServingSetting(name))  # fmt: skip


def cheapest(servers, rates, caps=None):
    steps = mix_steps(servers, [0.0] * len(servers), rates, caps or Caps(max_nodes=64), Solver())
    return steps[0] if steps else None


A10G = server("A10G", 1.01, (2.0, 1.0, 5.0, 2.0))
A100 = server("A100-80GB", 3.67, (20.0, 20.0, 40.0, 20.0))


def test_the_published_example_of_melange():
    """30 requests/s spread as [[.2, .1], [.5, .2]]; its solver, without a split, answers $6.70."""
    rates = tuple(30 * share for share in (0.2, 0.1, 0.5, 0.2))
    step = cheapest([A10G, A100], rates)
    assert step.usd == pytest.approx(4.68)
    counts = {part.offer.instance_type: part.count for part in step.served.parts}
    assert counts == {"A10G": 1, "A100-80GB": 1}
    shares = np.array(step.served.shares)
    assert shares.sum(axis=0) == pytest.approx(1.0)
    loads = [sum(r * f / c for r, f, c in zip(rates, row, part.requests_per_s, strict=True))
             for part, row in zip(step.served.parts, step.served.shares, strict=True)]  # fmt: skip
    assert all(load <= part.count + 1e-6
               for load, part in zip(loads, step.served.parts, strict=True))  # fmt: skip


def test_a_server_that_has_the_long_requests_alone_has_their_queue():
    busy = [
        replace(one, run=ServingSetting("any", 1, 1, 0.7))
        for one in (server("short", 1.0, (10.0, 0.5)), server("long", 3.0, (10.0, 8.0)))
    ]
    step = cheapest(busy, (40.0, 16.0))
    short, long = sorted(step.served.parts, key=lambda part: part.offer.name, reverse=True)
    assert (short.offer.instance_type, short.count, long.count) == ("short", 4, 2)
    assert short.latency_ms < 100.0 < long.latency_ms == step.latency_ms
    alone = cheapest(busy[1:], (40.0, 16.0))
    assert alone.latency_ms == 100.0, "its queue is that of all requests"


def test_equal_servers_are_not_lost_to_a_mix_whose_queues_are_longer():
    """A cheaper mix was found first, and then it was slower than it was taken for."""
    run = ServingSetting("any", 1, 1, 0.7)
    small = replace(server("small", 1.0, (10.0, 0.9), (300.0, 900.0)), run=run)
    large = replace(server("large", 2.6, (26.0, 3.0), (250.0, 800.0)), run=run)
    for rates in ((40.0, 4.0), (10.0, 6.0), (90.0, 2.0)):
        steps = mix_steps([small, large], [0, 0], rates, Caps(max_nodes=64), Solver())
        for one in (small, large):
            for alone in mix_steps([one], [0], rates, Caps(max_nodes=64), Solver()):
                assert any(
                    step.usd <= alone.usd + 1e-9 and step.latency_ms <= alone.latency_ms + 1e-9
                    for step in steps
                )
        assert [s.usd for s in steps] == sorted(s.usd for s in steps)
        assert [s.latency_ms for s in steps] == sorted((s.latency_ms for s in steps), reverse=True)


def test_the_queue_counts_requests_and_not_shares():
    """All short requests and half of the long ones: most of what comes is short."""
    option = replace(
        server("a", 1.0, (10.0, 1.0), (500.0, 1500.0)), run=ServingSetting("x", 1, 1, 0.7)
    )
    mix = as_served([(option, 1, (1.0, 0.5)), (option, 1, (0.0, 0.5))], (9.0, 1.0))
    first, second = mix.parts
    assert first.latency_ms < 1.2 * 1500.0 < second.latency_ms


def test_a_mix_names_its_dearest_servers_first_and_their_traffic():
    step = cheapest([A10G, A100], tuple(30 * s for s in (0.2, 0.1, 0.5, 0.2)))
    assert isinstance(step.served, Mix)
    first, second = step.served.as_choices("serve")
    assert first.offer.instance_type == "A100-80GB" and second.offer.instance_type == "A10G"
    assert [a + b for a, b in zip(first.traffic, second.traffic, strict=True)] == pytest.approx(
        [1.0] * 4
    )


def test_traffic_of_a_run_reaches_its_plan():
    from test_choices import plan

    buckets = (BucketConfig(64, 100, 3.0), BucketConfig(512, 200, 1.0))
    aws = CloudConfig(name="aws", providers=("aws",))
    quiet = plan(cloud=aws, traffic=TrafficConfig(None, buckets))
    busy = plan(cloud=aws, traffic=TrafficConfig(200.0, buckets))
    assert len(quiet.roles_of("serve")) == 1 and quiet.role("serve").traffic == ()
    served = busy.roles_of("serve")
    assert sum(role.usd for role in served) > quiet.role("serve").usd
    assert [sum(column) for column in zip(*(r.traffic for r in served), strict=True)] == (
        pytest.approx([1.0, 1.0])
    )
    assert sum(role.count for role in served) <= 8
    capped = plan(LimitsConfig(latency_ms=busy.latency_ms * 0.85), cloud=aws,
                  traffic=TrafficConfig(200.0, buckets))  # fmt: skip
    assert capped.latency_ms <= busy.latency_ms * 0.85


def test_a_rate_that_no_servers_keep_up_with_is_an_answer():
    from test_choices import plan

    from stratos.core.errors import InfeasibleError

    with pytest.raises(InfeasibleError, match=r"1e\+09 requests a second are more than its serv"):
        plan(cloud=CloudConfig(name="aws", providers=("aws",)), traffic=TrafficConfig(1e9))


def drawn(seed, n_servers=12, n_places=5):
    """Servers of three buckets, and what they cost from several places."""
    rng = np.random.default_rng(seed)
    servers = [
        server(f"s{i:02}", float(usd), tuple(float(rate) for rate in rng.uniform(1, 6, 3)),
               tuple(float(ms) for ms in rng.integers(1, 6, 3) * 100))
        for i, usd in enumerate(rng.uniform(1, 5, n_servers))
    ]  # fmt: skip
    return servers, rng.uniform(0, 0.4, (n_places, n_servers))


def dollars(found):
    return [[(pytest.approx(step.usd), step.latency_ms) for step in steps] for steps in found]


@pytest.mark.parametrize("n_servers", [8, 64])
def test_pairs_priced_at_once_are_those_found_by_their_bounds(n_servers, monkeypatch):
    rates, caps = (7.0, 5.0, 3.0), Caps(max_nodes=n_servers)
    for seed in range(6):
        servers, egress = drawn(seed)
        monkeypatch.setattr(mix_frontier, "MAX_LISTED", 10**6)
        listed = staircases(servers, egress, rates, caps, Solver(), max_kinds=2)
        monkeypatch.setattr(mix_frontier, "MAX_LISTED", 1)
        assert dollars(staircases(servers, egress, rates, caps, Solver(), max_kinds=2)) == dollars(
            listed
        )


def keeps_up(counts, work):
    """Whether so many servers of each kind answer all of every bucket: a linear program."""
    from scipy.optimize import linprog

    n_kinds, n_buckets = work.shape
    busy = np.where(np.isinf(work), 0.0, work)
    loads = np.zeros((n_kinds, n_kinds * n_buckets))
    whole = np.zeros((n_buckets, n_kinds * n_buckets))
    for kind in range(n_kinds):
        for bucket in range(n_buckets):
            loads[kind, kind * n_buckets + bucket] = busy[kind, bucket]
            whole[bucket, kind * n_buckets + bucket] = 1.0
    bounds = [(0, 0 if np.isinf(share) else 1) for share in work.ravel()]
    found = linprog(
        np.zeros(work.size), loads, np.array(counts) + 1e-9, whole, np.ones(n_buckets), bounds
    )
    return found.status == 0


@pytest.mark.parametrize("listed", [1, 10**6])
def test_the_cheapest_mix_of_two_kinds_is_that_of_all_counts_there_are(listed, monkeypatch):
    """Quotas and dollars an hour bind, and some kinds may not take every bucket."""
    monkeypatch.setattr(mix_frontier, "MAX_LISTED", listed)
    n_bound = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        work = rng.uniform(0.2, 2.5, (3, 2))
        work[rng.integers(3), rng.integers(2)] = np.inf
        usd = rng.uniform(1, 4, (2, 3))
        member, limits = np.array([[1.0, 0], [1, 1], [0, 1]]), np.array([3.0, 2])
        room = mix_frontier.Room(5, member, limits, usd[0], float(rng.choice([np.inf, 9.0])))
        counts = [c for c in itertools.product(range(6), repeat=3) if sum(n > 0 for n in c) <= 2]
        able = [c for c in counts if keeps_up(c, work)]
        possible = np.array(
            [c for c, held in zip(able, room.holds(np.array(able)), strict=True) if held]
        )
        n_bound += len(possible) < len(able)
        for row, pair in zip(usd, mix_frontier.Pairs(work, room).cheapest(usd), strict=True):
            if not len(possible):
                assert pair is None
                continue
            first, n_first, second, n_second = pair
            found = np.zeros(3)
            found[[first, second]] = n_first, n_second
            assert room.holds(found[None]).all() and keeps_up(found, work)
            assert found @ row == pytest.approx((possible @ row).min())
            both = [first, second]
            shares, busy = mix_frontier.split(work[both], found[both]), np.isfinite(work[both])
            assert shares.sum(axis=0) == pytest.approx(1.0) and not shares[~busy].any()
            load = (shares * np.where(busy, work[both], 0.0)).sum(axis=1)
            assert (shares >= 0).all() and (load <= found[both] + 1e-8).all()
    assert n_bound > 4


def test_mixes_of_more_kinds_are_sought_only_where_they_can_save_enough(monkeypatch):
    """Where nothing that they save is enough, no solver is needed."""
    monkeypatch.setattr(mix_frontier, "FEWER_KINDS", inf)
    solver = Solver()
    servers, egress = drawn(0)
    for max_nodes in (16, 400):
        rates = tuple(0.3 * max_nodes for _ in range(3))
        found = staircases(servers, egress, rates, Caps(max_nodes=max_nodes), solver, max_kinds=2)
        assert all(found)
    assert not solver.n_runs


def test_places_that_see_about_the_same_dollars_share_what_the_solver_proves():
    """One program for all, and more only for places that it leaves open."""
    servers, egress = drawn(1, n_places=8)
    rates, caps = (7.0, 5.0, 3.0), Caps(max_nodes=16)
    apart, together = Solver(), Solver()
    exact = staircases(servers, egress / 100, rates, caps, apart)
    near = staircases(servers, egress / 100, rates, caps, together, gap=0.01)
    assert 2 * together.n_runs < apart.n_runs
    for ours, theirs in zip(near, exact, strict=True):
        assert ours[0].usd <= theirs[0].usd * 1.01


def test_a_gap_is_kept_and_told():
    for seed in range(20):
        problem = instance(seed, mixed=True)
        exact = {c.costs for c in frontier(problem)}
        loose = replace(problem, mix_gap=0.01)
        found = [c.costs for c in frontier(loose)]
        for costs in exact:
            assert any(
                a <= costs[0] and h <= costs[2] and ms <= costs[3] and usd <= 1.01 * costs[1] + 1e-9
                for a, usd, h, ms in found
            ), seed
        if found:
            gap = loose.once(Reduced).solver.shared_gap
            assert gap <= 0.01
            told = "optimal" if gap < 5e-5 else f"optimal within a gap of {gap:.2%}"
            assert Model(loose).status == told
