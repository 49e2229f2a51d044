"""Plans in words: one in a line, two compared."""

from __future__ import annotations

from collections.abc import Callable

from stratos.config import ObjectiveConfig
from stratos.core.intervals import predicted
from stratos.plan.objective import ACCURACY, COSTS, Linear, money, weighted
from stratos.plan.problem import Choice

LEAST_USD = 0.005
"""Dollars below which a difference is not worth a word."""

SAME = 1e-6
"""Relative difference below which two values are the same."""


def describe(choice: Choice) -> str:
    """Return a plan in one line: who, and its four values."""
    return (
        f"{choice.candidate.name}: {money(choice.usd)}, {choice.hours:.3g} h, "
        f"{choice.latency_ms:,.0f} ms, accuracy {predicted(choice.candidate.accuracy)}"
    )


def servers(choice: Choice) -> str:
    """Return the servers of a plan in one line, role by role."""
    return "; ".join(f"{role} {' + '.join(names)}" for role, names in by_role(choice).items())


def by_role(choice: Choice) -> dict[str, list[str]]:
    """Return each role's servers by name; serving may mix several."""
    found: dict[str, list[str]] = {}
    for role in choice.roles():
        times = f"{role.count} × " if role.count > 1 else ""
        spot = " spot" if role.spot else ""
        name = role.offer.name if role.offer is not None else role.note or "no server"
        found.setdefault(role.role, []).append(f"{times}{name}{spot}")
    return found


def is_same(one: Choice, other: Choice) -> bool:
    """Tell whether two plans have the same values."""
    return all(
        abs(a - b) <= SAME * max(1.0, abs(a)) for a, b in zip(one.costs, other.costs, strict=True)
    )


def difference(before: Choice, after: Choice, net: Linear, objective: ObjectiveConfig) -> str:
    """Say what one plan gains and loses on another: "net cost −$0.21, cost +$1.20".

    Args:
        before: the plan that is compared with.
        after: the other plan.
        net: the net cost.
        objective: what the plans are chosen by; it is said first.
    """
    parts = {
        cost.name: _signed(cost.label, cost.value(after) - cost.value(before), cost.write)
        for cost in COSTS
    }
    if before.candidate.is_known != after.candidate.is_known:
        parts[ACCURACY.name] = f"accuracy {_state(after)}"
    elif not before.candidate.is_known:
        parts[ACCURACY.name] = ""
    first = [parts.pop(cost.name) for cost in weighted(objective)]
    net_change = _signed("net cost", net(after) - net(before), money)
    ordered = [*first, net_change, *parts.values()]
    return ", ".join(filter(None, ordered)) or "less than what would show"


def _signed(label: str, change: float, write: Callable[[float], str]) -> str:
    """Write a difference with its sign, nothing where it is rounding or all its digits are 0."""
    if abs(change) < 1e-9:
        return ""
    written = write(abs(change))
    sign = "−" if change < 0 else "+"
    return f"{label} {sign}{written}" if any(d in written for d in "123456789") else ""


def in_dollars(chosen: Choice, other: Choice, net: Linear) -> str:
    """Say what another plan's net cost is beyond the chosen one's, value by value.

    Each value that is not dollars is said with what it counts: "+0.22 h for +$0.22".
    """
    point, _, hour, millisecond = net.weights
    parts = []
    usd = other.usd - chosen.usd
    if abs(usd) >= LEAST_USD:
        parts.append(f"{_plus(usd)} to pay")
    for written, counts in (
        (_points(chosen, other), -point * (other.accuracy - chosen.accuracy)),
        (f"{other.hours - chosen.hours:+.3g} h", hour * (other.hours - chosen.hours)),
        (f"{other.latency_ms - chosen.latency_ms:+,.0f} ms",
         millisecond * (other.latency_ms - chosen.latency_ms)),
    ):  # fmt: skip
        if abs(counts) >= LEAST_USD:
            parts.append(f"{written} for {_plus(counts)}")
    return ", ".join(parts).replace("-", "−") or "a tie in dollars"


def _state(choice: Choice) -> str:
    """Say whether an accuracy is known, or at least measured."""
    if choice.candidate.is_known:
        return "known"
    return "unknown" if choice.candidate.accuracy.tried is None else "not predicted"


def _points(chosen: Choice, other: Choice) -> str:
    if chosen.candidate.is_known != other.candidate.is_known:
        return f"an accuracy that is {_state(other)}"
    points = f"{100 * (other.accuracy - chosen.accuracy):+.1f} points"
    return points if chosen.candidate.is_known else f"{points} of what the teacher knows"


def _plus(usd: float) -> str:
    return f"{'-' if usd < 0 else '+'}{money(abs(usd))}"
