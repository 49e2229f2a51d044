"""The smallest changes of `limits` that make a plan feasible, verified by solving again.

One limit alone: the model is solved without it for the best value that it can have; that value,
rounded to the side that stays feasible, is the least change. Several at once: a plan breaks some
of the limits, each by a share of its value. All four values of a plan are to be small (accuracy
counts negatively), so the plan that breaks a set of limits by the least sum of shares is on the
frontier, which is gone through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stratos.config import LimitsConfig
from stratos.plan.limits import LIMITS, Limit, with_limit
from stratos.plan.objective import USD, Linear
from stratos.plan.problem import Choice, Problem
from stratos.plan.solve.frontier import merged, within
from stratos.plan.solve.model import Model

SLACK = 1e-9
"""A limit that is passed by less than this share is met, as `frontier.meets` has it."""


@dataclass(frozen=True)
class Change:
    """One limit set to another value."""

    limit: Limit
    typed: str
    value: float | None
    """None lifts it: an accuracy that nobody measured meets no number."""
    share: float
    """Size of the change as a share of the limit."""

    @property
    def override(self) -> str:
        """What to type."""
        return f"limits.{self.limit.key}={self.typed}"

    def said(self, limits: LimitsConfig) -> str:
        """Return the change as a reader would say it: "budget $40 → $52.10"."""
        return f"{self.limit.now(limits)} → {self.limit.said(self.typed)}"


@dataclass(frozen=True)
class WayOut:
    """Changes that together are enough, and the plan that they give."""

    changes: tuple[Change, ...]
    choice: Choice

    @property
    def share(self) -> float:
        """Sum of the changes, each as a share of its limit."""
        return sum(change.share for change in self.changes)


def alone(
    model: Model, limits: LimitsConfig, limit: Limit, order: Sequence[Linear]
) -> WayOut | None:
    """Return the least change of one limit that is enough with the others kept, None if none is.

    Args:
        model: what is solved.
        limits: limits that no plan meets.
        limit: the one to move.
        order: what the plan under the changed limit is chosen by.
    """
    wanted = [limit.cost.alone, USD.alone]
    free = with_limit(limits, limit, None)
    if limit.is_floor:
        free = with_limit(limits, limit, _best_floor(model, free, limit))
    nearest = model.solve(model.problem.ahead(free), wanted)
    if nearest is None:
        return None
    return _verified(model, limits, [limit], nearest, order)


def _best_floor(model: Model, limits: LimitsConfig, limit: Limit) -> float | None:
    """Return the highest value that a floor may have under the other limits; None if none."""
    problem = model.problem
    plans = within(problem.once(merged), problem.ahead(limits), model.spent_usd)
    known = [limit.value(choice) for choice in plans if choice.candidate.is_known]
    return max(known, default=None)


def together(
    model: Model,
    limits: LimitsConfig,
    everything: Sequence[Choice],
    size: int,
    order: Sequence[Linear],
    singles: Mapping[Limit, WayOut],
) -> WayOut | None:
    """Return the cheapest change of `size` limits at once: the least sum of shares.

    Ties go to the plan that costs fewer dollars. A set is left out if one of its changes is no
    smaller than that limit's change alone, which would be enough by itself.

    Args:
        model: what is solved.
        limits: limits that no plan meets.
        everything: the frontier before the limits.
        size: how many limits are to be changed.
        order: what the plan under the changed limits is chosen by.
        singles: the limits that can be changed alone, with their least changes.
    """
    found: list[tuple[float, float, tuple[str, ...], list[Limit], Choice]] = []
    for choice in everything:
        broken = {
            limit: share
            for limit in LIMITS
            if (share := _share(limit, limits, choice, model.problem)) > SLACK
        }
        if len(broken) != size or any(
            limit in singles and share >= singles[limit].share - SLACK
            for limit, share in broken.items()
        ):
            continue
        found.append((sum(broken.values()), choice.usd, choice.sort_name, list(broken), choice))
    for *_, broken_limits, choice in sorted(found, key=lambda row: row[:3]):
        way = _verified(model, limits, broken_limits, choice, order)
        if way is not None:
            return way
    return None


def _share(limit: Limit, limits: LimitsConfig, choice: Choice, problem: Problem) -> float:
    """Return by what share of a limit a plan passes it, 0 if it keeps it."""
    given = limit.of(limits)
    if given is None:
        return 0.0
    if limit.is_floor:
        if not choice.candidate.is_known:
            return 1.0 if given > 0 else 0.0
        return max(0.0, given - limit.value(choice)) / (given or 1.0)
    value = needed(limit, choice, problem)
    return max(0.0, value - given) / (given or value or 1.0)


def needed(limit: Limit, choice: Choice, problem: Problem) -> float:
    """Return the value that a limit must have for a plan to meet it: what to type."""
    value = limit.value(choice)
    if limit.cost is USD:
        value = max(value, problem.set_aside_usd(choice))
    return value + problem.spent_of(limit.key)


def _verified(
    model: Model,
    limits: LimitsConfig,
    broken: Sequence[Limit],
    choice: Choice,
    order: Sequence[Linear],
) -> WayOut | None:
    """Set the limits to what a plan needs, as it is typed, and solve again."""
    proof, changes = _solved(model, limits, broken, choice, order)
    # Of a larger budget the plan may be another one, whose jobs set more aside.
    while proof is not None and _lacks_reserve(changes, proof, model.problem):
        proof, changes = _solved(model, limits, broken, proof, order)
    return None if proof is None else WayOut(tuple(changes), proof)


def _lacks_reserve(changes: Sequence[Change], choice: Choice, problem: Problem) -> bool:
    """Return whether a plan's jobs set more aside than a changed budget has."""
    return any(
        one.limit.cost is USD
        and one.value is not None
        and needed(one.limit, choice, problem) > one.value + SLACK
        for one in changes
    )


def _solved(
    model: Model,
    limits: LimitsConfig,
    broken: Sequence[Limit],
    choice: Choice,
    order: Sequence[Linear],
) -> tuple[Choice | None, list[Change]]:
    """Return the plan under the limits that another plan needs, and how they are changed."""
    changes = []
    for limit in broken:
        share = _share(limit, limits, choice, model.problem)
        typed, value = "null", None
        if not limit.is_floor or choice.candidate.is_known:
            typed = limit.typed(needed(limit, choice, model.problem), limit.of(limits))
            value = float(typed)
        limits_now = getattr(limits, limit.key)
        assert limits_now is not None, "a limit that is not set is not broken"
        changes.append(Change(limit, typed, value, share))
    moved = limits
    for change in changes:
        moved = with_limit(moved, change.limit, change.value)
    return model.solve(model.problem.ahead(moved), order), changes
