"""Tiny problems and every plan that they have, without solver, pruning or merging."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from math import inf

import numpy as np
from world import OBJECTIVES, STRATEGIES, replace

from stratos.config import LimitsConfig, PlanConfig
from stratos.plan.option import Caps, Egress
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.solve.mix import Step
from stratos.plan.solve.mix_frontier import staircases
from stratos.plan.solve.solver import Solver
from stratos.records import Interval, Offer, ServingSetting

PLACES = (("a", "r1"), ("a", "r2"), ("b", "r1"))
HORIZON = 4.0

Costs = tuple[float, float, float, float]


def offer(name, place=("c", "r"), usd_per_hour=1.0):
    return Offer(*place, name, None, 0, 2, 8, 0, usd_per_hour)


def instance(seed, mixed=False, moved=True, confidence="mean"):
    """A small problem on a grid of binary fractions, so that ties are frequent and exact."""
    rng = random.Random(seed)
    n_buckets = rng.randint(1, 2)

    def place():
        return rng.choice(PLACES) if moved else ("c", "r")

    def job(role, i):
        return Option(
            offer(f"{role}{i}", place()),
            spot=False,
            hours=rng.randint(1, 6) / 4,
            usd=rng.randint(0, 8) / 4,
        )

    def served(i):
        usd_per_hour = rng.randint(0, 8) / 16
        ms = tuple(rng.randint(1, 4) * 50.0 for _ in range(n_buckets))
        return Option(
            offer(f"s{i % 3}", place(), usd_per_hour),
            spot=False,
            hours=HORIZON,
            usd=HORIZON * usd_per_hour,
            latency_ms=max(ms),
            latencies_ms=ms if mixed else (),
            requests_per_s=tuple(rng.choice((1.0, 2.0, 4.0, 8.0)) for _ in ms) if mixed else (),
            run=ServingSetting(f"{i}"),
        )

    def options(role):
        n = rng.randint(1, 4 if mixed and role == "serve" else 5)
        return tuple(served(i) if role == "serve" else job(role, i) for i in range(n))

    n_works = rng.randint(1, 2)
    roles = ("teacher", "train", "serve")
    works = {f"{role}-{i}": options(role) for role in roles for i in range(n_works)}
    candidates = []
    for i in range(rng.randint(1, 4)):
        mean = rng.randint(0, 4) / 4
        low = mean * random.Random(f"{seed} {i}").randint(0, 2) / 2
        is_known = rng.random() >= 0.2
        work = tuple(f"{role}-{rng.randrange(n_works)}" for role in roles)
        accuracy = Interval(mean, low, 1.0, is_known=is_known)
        pair = Candidate(f"t{i % 2}", f"s{i}", "injection", accuracy, work, confidence=confidence)
        candidates.append(pair)

    def limit(low, high, step):
        return rng.randint(low, high) * step if rng.random() < 0.4 else None

    rates = [rng.choice((None, 0.0, 0.125, 1.0)) for _ in range(3)]
    patterns = [p for p in ("a", "a/r1", "*/*/s0", "b/r1/s1") if rng.random() < 0.3]
    keys = [key for key in works if not key.startswith("train")]
    return Problem(
        strategies=STRATEGIES,
        candidates=tuple(candidates),
        options=works,
        limits=LimitsConfig(
            budget_usd=limit(1, 24, 0.25),
            deadline_hours=limit(1, 10, 0.25),
            latency_ms=limit(1, 5, 50.0),
            accuracy=limit(0, 4, 0.25),
        ),
        objective=replace(
            rng.choice(list(OBJECTIVES.values())),
            usd_per_accuracy_point=rates[0],
            usd_per_hour_of_waiting=rates[1],
            usd_per_100ms=rates[2],
        ),
        rates={
            key: tuple(rng.choice((1.0, 3.0, 5.0)) for _ in range(n_buckets))
            for key in works
            if mixed and key.startswith("serve")
        },
        gb={key: float(rng.choice((0, 1, 2))) for key in keys} if moved else {},
        egress=Egress({"a": (0.25, 0.5), "b": (0.25, 1.0)}) if moved else Egress(),
        settings=PlanConfig(max_kinds=None),
        caps=Caps.of(
            {pattern: rng.randint(0, 2) for pattern in patterns},
            max_nodes=rng.randint(1, 3),
            max_usd_per_hour=rng.choice((None, None, 0.75)),
        ) if mixed else Caps(),
    )  # fmt: skip


def everything(problem) -> set[Costs]:
    """The four costs of every plan there is, dominated or not."""
    found: set[Costs] = set()
    for candidate in problem.candidates:
        teacher, train, serve = candidate.work
        servings = (mixes if serve in problem.rates else singles)(problem, serve)
        for one, two in itertools.product(problem.options[teacher], problem.options[train]):
            moved = problem.gb.get(teacher, 0.0) * problem.egress.price(one.location, two.location)
            for counted, ms in servings:
                usd = one.usd + two.usd + moved
                for option, n in counted:
                    bundle = problem.gb.get(serve, 0.0) * problem.egress.price(
                        two.location, option.location
                    )
                    usd += n * (option.usd + bundle)
                found.add((-candidate.counted_accuracy, usd, one.hours + two.hours, ms))
    return found


def sized(problem, seed):
    """The problem with a size of each candidate, and limits on some of them."""
    rng = random.Random(f"sizes {seed}")
    candidates = tuple(
        replace(c, model_mb=50.0 * rng.randint(1, 3), memory_gb=rng.randint(1, 3) / 4)
        for c in problem.candidates
    )
    limits = replace(
        problem.limits,
        model_mb=rng.choice((None, 50.0, 100.0)),
        server_memory_gb=rng.choice((None, 0.25, 0.5)),
    )
    return replace(problem, candidates=candidates, limits=limits)


def everything_sized(problem):
    """The four costs of every plan there is, with megabytes and gigabytes."""
    return {
        (*costs, candidate.model_mb, candidate.memory_gb)
        for candidate in problem.candidates
        for costs in everything(replace(problem, candidates=(candidate,)))
    }


def singles(problem, work):
    return [([(option, 1)], option.latency_ms) for option in problem.options[work]]


def mixes(problem, work):
    """Every multiset of servers within the caps, at every latency at which it keeps up."""
    options, rates, caps = problem.options[work], problem.rates[work], problem.caps
    latencies = sorted({ms for option in options for ms in option.latencies_ms})
    found = []
    for counts in itertools.product(range(caps.max_nodes + 1), repeat=len(options)):
        counted = [(o, n) for o, n in zip(options, counts, strict=True) if n]
        if not 1 <= sum(counts) <= caps.max_nodes or not allowed(counted, caps):
            continue
        for ms in latencies:
            if keeps_up(counted, rates, ms):
                found.append((counted, ms))
                break
    return found


def allowed(counted, caps):
    price = sum(n * option.usd_per_hour for option, n in counted)
    if caps.max_usd_per_hour is not None and price > caps.max_usd_per_hour:
        return False
    quotas = {quota for option, _ in counted for quota in caps.binding(option.offer)}
    return all(
        sum(n for option, n in counted if quota in caps.binding(option.offer)) <= quota.limit
        for quota in quotas
    )


def keeps_up(counted, rates, ms):
    """Whether servers answer one or two buckets in time, by exchange instead of a program.

    Capacity goes to the first bucket where it is worth least for the second; what is left of each
    server goes to the second.
    """
    works = [
        [
            rate / capacity if latency <= ms else inf
            for rate, capacity, latency in zip(
                rates, option.requests_per_s, option.latencies_ms, strict=True
            )
        ]
        for option, _ in counted
    ]
    if len(rates) == 1:
        return sum(n / work[0] for (_, n), work in zip(counted, works, strict=True)) >= 1 - 1e-9
    servers = [[work[0], work[1], float(n)] for (_, n), work in zip(counted, works, strict=True)]
    # How much of the second bucket is lost for each unit of the first.
    servers.sort(key=lambda s: inf if s[0] == inf else 0.0 if s[1] == inf else s[0] / s[1])
    need = 1.0
    for server in servers:
        if need <= 1e-12 or server[0] == inf:
            continue
        taken = min(need, server[2] / server[0])
        need -= taken
        server[2] -= taken * server[0]
    rest = sum(left / second for _, second, left in servers if second < inf)
    return need <= 1e-9 and rest >= 1 - 1e-9


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def non_dominated(costs) -> set[Costs]:
    return {cost for cost in costs if not any(dominates(other, cost) for other in costs)}


def meets(costs, limits) -> bool:
    accuracy, usd, hours, ms, *sizes = costs
    mb, gb = sizes or (0.0, 0.0)
    return (
        (limits.budget_usd is None or usd <= limits.budget_usd)
        and (limits.deadline_hours is None or hours <= limits.deadline_hours)
        and (limits.latency_ms is None or ms <= limits.latency_ms)
        and (limits.accuracy is None or -accuracy >= limits.accuracy)
        and (limits.model_mb is None or mb <= limits.model_mb)
        and (limits.server_memory_gb is None or gb <= limits.server_memory_gb)
    )


def mix_steps(
    options: Sequence[Option],
    egress_usd: Sequence[float],
    rates: Sequence[float],
    caps: Caps,
    solver: Solver,
) -> list[Step]:
    """Return the staircase of a place to which each server's egress is the one given."""
    return staircases(options, np.array([egress_usd], dtype=float), rates, caps, solver)[0]
