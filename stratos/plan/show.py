"""The plan in the terminal: the frontier, other objectives beside it, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stratos.records import Plan, PlanPoint

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

ROWS = 12
"""Rows that a terminal is asked to show; the record and the report have more."""

MARK = "➤"
"""Stands before the plan that was chosen."""

SERVER = re.compile(
    r"(?P<times>\d+ × )?(?P<cloud>[^/]+)/.* (?P<type>(?!spot$)[^\s()]+)"
    r"(?: \((?P<gpu>\S+)\))?(?P<spot> spot)?"
)
"""The parts of a server's name: "2 × aws/us-east-1 g4dn.xlarge (1xT4) spot"."""

LABELS = {
    "accuracy_first": "accuracy",
    "cost_first": "cost",
    "fastest": "time",
    "lowest_latency": "latency",
}
"""Alternative to what it is the best in."""


def frontier_table(plan: Plan, rows: int = ROWS) -> Table:
    """Return the frontier with the chosen plan marked and 'n shown of m' under it.

    The chosen plan and the alternatives are always shown; the others are thinned evenly. Teacher
    and strategy have a column only where the rows differ in them.
    """
    from rich.table import Table
    from rich.text import Text

    points = _thin(plan, rows)
    differs = [
        name for name in ("teacher", "strategy") if len({getattr(p, name) for p in points}) > 1
    ]
    table = Table(
        title="Plans that no other plan beats in everything",
        caption=f"{len(points)} shown of {plan.n_frontier}; {MARK} is chosen ({plan.objective})",
        title_justify="left",
        caption_justify="left",
        header_style="bold",
    )
    table.add_column("", no_wrap=True)
    for title in ("student", *differs):
        table.add_column(title, overflow="fold", min_width=12)
    for title in ("accuracy", "cost", "hours", "p95 ms", "score"):
        table.add_column(title, justify="right", no_wrap=True)
    # Names of instance types are as long as their owners like: they give way first.
    for title in ("train on", "serve on"):
        table.add_column(title, overflow="fold", min_width=10)
    table.add_column("best in", overflow="fold", min_width=8)
    for point in points:
        chosen = _is(point, plan)
        table.add_row(
            MARK if chosen else "",
            Text(point.student),
            *(Text(getattr(point, name)) for name in differs),
            f"{point.accuracy:.3f}" if point.accuracy_known else "unknown",
            f"${point.usd:,.2f}",
            f"{point.hours:.3f}",
            f"{point.latency_ms:,.0f}",
            f"{point.score:.3f}",
            Text(_short(point.servers["train"])),
            Text(_short(point.servers["serve"])),
            ", ".join(_names(point, plan)),
            style="bold" if chosen else None,
        )
    return table


def alternatives_table(plan: Plan) -> Table:
    """Return what each other objective would have chosen, in percent of the chosen plan.

    The last column is the gain that the chosen plan has on it in deployment score.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{plan.objective} beside other objectives (percentages: against the chosen plan)",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("objective", no_wrap=True)
    table.add_column("student", overflow="fold")
    for title in ("accuracy", "cost", "hours", "p95 ms", "score", "chosen gains"):
        table.add_column(title, justify="right", no_wrap=True)
    known = not plan.accuracy.source.startswith("unknown")
    table.add_row(
        f"{plan.objective} {MARK}",
        Text(plan.student),
        f"{plan.accuracy.mean:.3f}" if known else "unknown",
        f"${plan.usd:,.2f}",
        f"{plan.hours:.3f}",
        f"{plan.latency_ms:,.0f}",
        f"{plan.score:.3f}",
        "",
        style="bold",
    )
    for name, point in plan.alternatives.items():
        table.add_row(
            name.replace("_", "-", 1) if name.endswith("_first") else name.replace("_", " "),
            Text(point.student),
            f"{point.accuracy:.3f}{_percent(point.accuracy, plan.accuracy.mean if known else 0.0)}"
            if point.accuracy_known
            else "unknown",
            f"${point.usd:,.2f}{_percent(point.usd, plan.usd)}",
            f"{point.hours:.3f}{_percent(point.hours, plan.hours)}",
            f"{point.latency_ms:,.0f}{_percent(point.latency_ms, plan.latency_ms)}",
            f"{point.score:.3f}",
            "same plan" if _is(point, plan) else gain_text(plan.score, point.score),
        )
    return table


def gain(score: float, other: float) -> float | None:
    """Return by what share a deployment score is above another; None above one of 0."""
    return score / other - 1 if other > 1e-9 else None


def gain_text(score: float, other: float) -> str:
    """Write the gain of a deployment score on another."""
    share = gain(score, other)
    return "its score is 0" if share is None else f"{share:+.1%}"


def explanation(plan: Plan) -> Text:
    """Return why the plan is as it is, what each limit is worth, and what was left out."""
    from rich.text import Text

    text = Text()
    sections = (
        ("Why this plan", plan.reasons),
        ("What if", [one.text for one in plan.what_if] or ["No limit was given."]),
        ("Left out", [f"{who}: {why}" for who, why in plan.left_out.items()]),
    )
    for title, sentences in sections:
        if sentences:
            text.append(f"{title}\n", style="bold")
            for sentence in sentences:
                text.append(f"  • {sentence}\n")
    text.rstrip()
    return text


def _percent(value: float, base: float) -> str:
    """Write by what share a value is above or below another, nothing if it is the same."""
    share = value / base - 1 if base > 0 else 0.0
    return f" ({share:+.0%})" if abs(share) >= 0.005 else ""


def _short(server: str) -> str:
    """Return cloud and GPU, or instance type where there is none; the region is in the record."""
    return " + ".join(map(_short_one, server.split(" + ")))


def _short_one(server: str) -> str:
    parts = SERVER.fullmatch(server)
    if parts is None:
        return server
    kind = parts["gpu"] or parts["type"].removeprefix("Standard_")  # which is all of Azure
    name = f"{parts['cloud']} {kind}{parts['spot'] or ''}"
    return f"{parts['times'] or ''}{name}"


def _names(point: PlanPoint, plan: Plan) -> list[str]:
    return [
        LABELS.get(name, name)
        for name, other in plan.alternatives.items()
        if point.accuracy == other.accuracy
        and _close(point, other)
        and (other.accuracy_known or name != "accuracy_first")
    ]


def _is(point: PlanPoint, plan: Plan) -> bool:
    pair = (plan.teacher, plan.student, plan.strategy)
    return (point.teacher, point.student, point.strategy) == pair and _close(point, plan)


def _close(point: PlanPoint, other: PlanPoint | Plan) -> bool:
    return all(
        abs(getattr(point, name) - getattr(other, name)) <= 1e-6 * max(1.0, getattr(other, name))
        for name in ("usd", "hours", "latency_ms")
    )


def _thin(plan: Plan, rows: int) -> Sequence[PlanPoint]:
    points = plan.frontier
    if len(points) <= rows:
        return points
    kept = {i for i, point in enumerate(points) if _is(point, plan) or _names(point, plan)}
    n_more = rows - len(kept)
    others = [i for i in range(len(points)) if i not in kept]
    if n_more > 0:
        kept |= {others[round((i + 0.5) * len(others) / n_more - 0.5)] for i in range(n_more)}
    return [points[i] for i in sorted(kept)]
