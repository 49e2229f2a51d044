"""Pairs worth a pilot: those in some plan within the limits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from stratos.plan.problem import Candidate, Problem
from stratos.plan.solve.frontier import frontier, within


@dataclass(frozen=True)
class Survivors:
    """The pairs of student and strategy that are left, and those that are not."""

    candidates: tuple[Candidate, ...]
    """One for each pair: with the teacher that promises most."""
    left_out: dict[str, str]
    """Pair to the reason why no plan can take it."""
    least_usd: float
    """Dollars that the cheapest plan needs that takes one of them."""
    least_hours: float = 0.0
    """Hours of the fastest."""


def survivors(problem: Problem) -> Survivors:
    """Return the pairs that a plan within the limits can take, whatever their accuracy is.

    The accuracy limit is left aside: what a pair may reach is what a pilot is to find out.
    """
    limits = problem.ahead(replace(problem.limits, accuracy=None))
    found: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    prices: list[float] = []
    hours: list[float] = []
    pairs: dict[tuple[str, str], str] = {}
    for candidate in problem.candidates:
        pair = (candidate.student, candidate.strategy)
        pairs[pair] = f"{candidate.student} by {candidate.strategy}"
        plans = frontier(replace(problem, candidates=(candidate,)))
        feasible = within(plans, limits, problem.spent_usd)
        if feasible:
            found[pair].append(candidate)
            prices.append(min(plan.held_usd for plan in feasible))
            hours.append(min(plan.hours for plan in feasible))
    return Survivors(
        candidates=tuple(min(found[pair], key=_promise) for pair in pairs if pair in found),
        left_out={
            name: "no plan with it meets the limits on money, time and latency"
            for pair, name in pairs.items()
            if pair not in found
        },
        least_usd=min(prices, default=0.0),
        least_hours=min(hours, default=0.0),
    )


def _promise(candidate: Candidate) -> tuple[float, float, str]:
    """Return what is small for the teacher of a pair that promises most."""
    return -candidate.counted_accuracy, -candidate.accuracy.high, candidate.teacher
