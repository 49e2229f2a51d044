"""No plan meets the limits: what is the least that has to change, verified by solving again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from stratos.config import LimitsConfig
from stratos.errors import InfeasibleError
from stratos.plan.model import Model
from stratos.plan.objective import SINGLE, Linear
from stratos.plan.problem import Choice, Problem


@dataclass(frozen=True)
class Limit:
    """One limit: its key, the objective that is its best value, and how it is written."""

    key: str
    objective: str
    value: Callable[[Choice], float]
    decimals: int
    is_floor: bool = False

    def typed(self, value: float, not_as: float | None = None) -> str:
        """Write a value as one would type it, rounded to the side that stays feasible.

        Args:
            value: what to write.
            not_as: a value that it must not read like; digits are added until it does not.
        """
        for decimals in range(self.decimals, 12):
            scale = 10.0**decimals
            # A hair's breadth beside a whole number is that number, not the next one.
            if self.is_floor:
                rounded = math.floor(value * scale + 1e-6) / scale
            else:
                rounded = math.ceil(value * scale - 1e-6) / scale
            if not_as is None or abs(rounded - not_as) > 1e-12:
                break
        return f"{rounded:.{decimals}f}"


def with_limit(limits: LimitsConfig, limit: Limit, value: float | None) -> LimitsConfig:
    """Return the limits with one of them set to another value; None lifts it."""
    changes: dict[str, Any] = {limit.key: value}
    return replace(limits, **changes)


LIMITS = (
    Limit("budget_usd", "cheapest", lambda c: c.usd, 2),
    Limit("deadline_hours", "fastest", lambda c: c.hours, 2),
    Limit("latency_ms", "lowest_latency", lambda c: c.latency_ms, 0),
    Limit("accuracy", "most_accurate", lambda c: c.accuracy, 3, is_floor=True),
)


def no_candidates(problem: Problem) -> InfeasibleError:
    """Return the error of a problem in which no pair is left to choose from."""
    lines = ["No teacher, student and strategy can be taken together:"]
    lines += [f"  {who}: {why}" for who, why in sorted(problem.left_out.items())]
    lines += [f"  {sentence}" for sentence in problem.evidence]
    lines.append(
        "Type strategy=auto, teacher=auto and student=auto to consider more of them, or allow "
        "larger servers (cloud=multi, without cloud.max_usd_per_hour and cloud.regions)."
    )
    return InfeasibleError("\n".join(lines))


def explain(problem: Problem, model: Model) -> InfeasibleError:
    """Return the error that says which limit to change alone, to what, and what that gives."""
    limits = problem.limits
    given = [limit for limit in LIMITS if getattr(limits, limit.key) is not None]
    named = [f"limits.{limit.key}={getattr(limits, limit.key):g}" for limit in given]
    lines = [f"No plan meets {' and '.join(named)}."]
    changes = {limit: _least_change(model, limits, limit) for limit in given}
    possible = {limit: found for limit, found in changes.items() if found is not None}
    if possible:
        lines.append("One change is enough, with the other limits kept:")
        for limit, (text, choice) in possible.items():
            before = f"{getattr(limits, limit.key):g}"
            lines.append(f"  limits.{limit.key} {before} -> {text}   {_describe(choice)}")
        first = next(iter(possible))
        lines.append(f"Type: limits.{first.key}={possible[first][0]}")
    else:
        lines.append("To change one of them is not enough. Without the others:")
        lines += [_reach(model, limit) for limit in given]
        overrides, choice = _way_out(model, limits, given)
        lines.append(f"Together these are enough: {_describe(choice)}")
        lines.append(f"Type: {overrides}")
    if problem.spent_usd and limits.budget_usd is not None:
        lines.append(f"Of the budget ${problem.spent_usd:.2f} is spent already.")
    unknown = [c.student for c in problem.candidates if not c.is_known]
    if limits.accuracy is not None and unknown:
        lines.append(
            "An accuracy that is unknown meets no accuracy limit: "
            f"{', '.join(sorted(set(unknown)))}."
        )
    lines += [f"Left out: {who}: {why}." for who, why in sorted(problem.left_out.items())]
    return InfeasibleError("\n".join(lines))


def _least_change(model: Model, limits: LimitsConfig, limit: Limit) -> tuple[str, Choice] | None:
    """Return the value of one limit that makes a plan possible, and the plan; None if none does."""
    without = with_limit(limits, limit, None)
    nearest = model.solve(without, [Linear(SINGLE[limit.objective]), Linear(SINGLE["cheapest"])])
    if nearest is None:
        return None
    text, value = _needs(limit, nearest, model, getattr(limits, limit.key))
    proof = model.solve(with_limit(limits, limit, value), [Linear(SINGLE["cheapest"])])
    return None if proof is None else (text, proof)


def _needs(
    limit: Limit, choice: Choice, model: Model, not_as: float | None = None
) -> tuple[str, float | None]:
    """Return what a limit must be for a plan to meet it, as it is typed and as a number.

    An accuracy that nobody measured meets no number: such a limit has to be lifted.
    """
    if limit.is_floor and not choice.candidate.is_known:
        return "null", None
    spent = model.spent_usd if limit.key == "budget_usd" else 0.0
    text = limit.typed(limit.value(choice) + spent, not_as)
    return text, float(text)


def _reach(model: Model, limit: Limit) -> str:
    """Say what the best value is that any plan has when no limit is set."""
    best = model.solve(LimitsConfig(), [Linear(SINGLE[limit.objective])])
    assert best is not None, "without limits every candidate is a plan"
    text, value = _needs(limit, best, model)
    return f"  the best {limit.key} of any plan is {text if value is not None else 'unknown'}"


def _way_out(model: Model, limits: LimitsConfig, given: list[Limit]) -> tuple[str, Choice]:
    """Return the fewest limits that together admit a plan, as overrides, and the plan.

    Of several sets of one size the one with the cheapest plan is taken, and verified by solving
    again with the values as they are written.
    """
    for size in range(2, len(given) + 1):
        found: list[tuple[float, list[str], Choice]] = []
        for lifted in combinations(given, size):
            open_limits = limits
            for limit in lifted:
                open_limits = with_limit(open_limits, limit, None)
            cheapest = model.solve(open_limits, [Linear(SINGLE["cheapest"])])
            if cheapest is None:
                continue
            new_limits, overrides = limits, []
            for limit in lifted:
                text, value = _needs(limit, cheapest, model, getattr(limits, limit.key))
                new_limits = with_limit(new_limits, limit, value)
                overrides.append(f"limits.{limit.key}={text}")
            proof = model.solve(new_limits, [Linear(SINGLE["cheapest"])])
            if proof is not None:
                found.append((proof.usd, overrides, proof))
        if found:
            _, overrides, choice = min(found, key=lambda item: (item[0], item[1]))
            return " ".join(overrides), choice
    raise AssertionError("without limits every candidate is a plan")


def _describe(choice: Choice) -> str:
    known = choice.candidate.is_known
    accuracy = f"{choice.accuracy:.3f}" if known else "unknown"
    return (
        f"{choice.candidate.name}: ${choice.usd:.2f}, {choice.hours:.2f} h, "
        f"{choice.latency_ms:.0f} ms, accuracy {accuracy}"
    )
