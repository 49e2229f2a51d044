"""Show a plan in the terminal: frontier, other objectives, reasons."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stratos.catalog.table import LOCAL
from stratos.core.formats import (
    by_reason,
    cents,
    most,
    percent,
    right_shortly,
    taken_before,
    visible,
)
from stratos.plan.objective import ACCURACY, COSTS
from stratos.plan.words import free_servers
from stratos.records import Assumption, Interval, Plan, PlanPoint, Price, RoleChoice

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

ROWS = 12
"""Rows that a terminal is asked to show; the record and the report have more."""

SMALLEST_USD = 0.005
"""Dollars that are written as cents at least."""

MARK = "➤"
"""Stands before the plan that was chosen."""

SERVER = re.compile(
    r"(?P<times>\d+ × )?(?P<cloud>[^/]+)/.* (?P<type>(?!spot$)[^\s()]+)"
    r"(?: \((?P<gpu>\S+)\))?(?P<spot> spot)?"
)
"""The parts of a server's name: "2 × aws/us-east-1 g4dn.xlarge (1xT4) spot"."""

BEST_IN = {cost.alternative: cost.name for cost in COSTS}
"""Alternative to what it is the best in."""


def frontier_table(plan: Plan, rows: int = ROWS) -> Table:
    """Return the frontier with the chosen plan marked and 'n shown of m' under it.

    The chosen plan and the alternatives are always shown; the others are thinned evenly. Plans that
    read the same are one row. Teacher and strategy have a column only where the rows differ in
    them.
    """
    from rich.table import Table

    shown = _thin(_distinct(plan), rows)
    differs = [
        name
        for name in ("teacher", "strategy")
        if len({getattr(row.point, name) for row in shown}) > 1
    ]
    caption = "\n".join(
        [
            f"{len(shown)} shown of {plan.n_frontier}; {MARK} is chosen ({plan.objective})",
            *_asides(plan),
        ]
    )
    table = Table(
        title="Plans that no other plan dominates",
        caption=caption,
        title_justify="left",
        caption_justify="left",
        header_style="bold",
    )
    table.add_column("", no_wrap=True)
    for title in ("student", *differs):
        table.add_column(title, overflow="fold", min_width=12)
    for title in ("accuracy", "cost", "hours", "p95 ms", "net cost"):
        table.add_column(title, justify="right", no_wrap=True)
    # Names of instance types are as long as their owners like: they give way first.
    for title in ("train on", "serve on"):
        table.add_column(title, overflow="fold", min_width=10)
    table.add_column("best in", overflow="fold", min_width=8)
    for row in shown:
        table.add_row(
            MARK if row.is_chosen else "",
            row.point.student,
            *(getattr(row.point, name) for name in differs),
            *row.cells,
            ", ".join(row.best_in),
            style="bold" if row.is_chosen else None,
        )
    return table


def only_plan(plan: Plan) -> list[str]:
    """Return the lines of a plan that is the only one, in place of tables of one row; else none."""
    points = plan.alternatives.values()
    if len(_distinct(plan)) > 1 or not all(_is(point, plan) for point in points):
        return []
    return ["No other plan: every objective chooses the same.", *_asides(plan)]


def why_shortly(plan: Plan) -> str:
    """Return in a few words why a plan was chosen among those of the frontier."""
    if plan.n_frontier <= 1:
        return "the only plan within the limits"
    best_in = [BEST_IN.get(name, name) for name, p in plan.alternatives.items() if _is(p, plan)]
    of = f"of {plan.n_frontier:,} plans"
    if not best_in:
        return f"lowest net cost {of} ({plan.objective})"
    return f"best {of} in {', '.join(word.replace('_', ' ') for word in best_in)}"


_BETTER = 0.01
"""Accuracy that a student must have more, for a limit to be named that leaves it out."""


def left_out_by_limit(plan: Plan) -> str:
    """Return which limit leaves the most accurate student out; "" where none does."""
    better = [
        move
        for move in plan.what_if
        if move.binds
        and move.point.student != plan.student
        and move.point.accuracy >= plan.accuracy.mean + _BETTER
    ]
    if not better:
        return ""
    move = max(better, key=lambda move: move.point.accuracy)
    limit = move.limit if move.value is None else f"{move.limit}={move.value:g}"
    return f"{limit} leaves {move.point.student} out, expected at {percent(move.point.accuracy)}"


def _asides(plan: Plan) -> list[str]:
    """Say what the hours and dollars of plans hold."""
    notes = []
    if plan.spent_hours:
        notes.append(f"hours: from here until trained; {taken_before(plan.spent_hours)}")
    before = [role for role in plan.roles if role.role != "serve"]
    if any(role.offer is not None and role.offer.is_rented for role in before):
        from stratos.estimate.constants import STARTUP_HOURS  # not before there is a plan

        minutes = 60 * STARTUP_HOURS
        notes.append(f"hours: about {minutes:.0f} min of them for each rented server to start")
    notes += [f"hours: {wait}" for wait in _waits(before)]
    free = free_servers(plan.roles)
    return notes if free is None else [*notes, str(free)]


def _waits(roles: Sequence[RoleChoice]) -> Iterator[str]:
    """Say how long a plan waits for nodes of a cluster before its student serves."""
    for role in roles:
        offer = role.offer
        if offer is None or offer.is_rented or offer.cloud == LOCAL:
            continue
        name = {"teacher": "the teacher", "train": "the training"}[role.role]
        nodes = f"for nodes of {offer.cloud}/{offer.region}"
        if role.wait_hours is None:
            yield f"how long {name} waits {nodes} is not known, and not counted"
        elif role.wait_hours:
            yield f"{name} waits about {role.wait_hours:.1f} h of them {nodes}"


@dataclass
class _Row:
    """Plans that read the same in every column."""

    point: PlanPoint
    """The first of them."""
    cells: tuple[str, ...]
    is_chosen: bool = False
    best_in: list[str] = field(default_factory=list)


def _distinct(plan: Plan) -> list[_Row]:
    """Return the rows of the frontier; plans that only differ in what no column shows are one."""
    rows: dict[tuple[str, ...], _Row] = {}
    for point in plan.frontier:
        cells = (
            _accuracy(point),
            cents(point.usd),
            f"{point.hours:.3f}",
            f"{point.latency_ms:,.0f}",
            net_text(point, plan),
            _short(point.servers["train"]),
            _short(point.servers["serve"]),
        )
        who = (point.teacher, point.student, point.strategy)
        row = rows.setdefault((*who, *cells), _Row(point, cells))
        row.is_chosen |= _is(point, plan)
        row.best_in += [name for name in _names(point, plan) if name not in row.best_in]
    return list(rows.values())


def alternatives_table(plan: Plan) -> Table:
    """Return what each other objective would have chosen, in percent of the chosen plan.

    The last column is its net cost beyond that of the chosen plan, in dollars.
    """
    from rich.table import Table

    table = Table(
        title=f"{plan.objective} and other objectives (percentages: against the chosen plan)",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("objective", no_wrap=True)
    table.add_column("student", overflow="fold")
    for title in ("accuracy", "cost", "hours", "p95 ms", "net cost"):
        table.add_column(title, justify="right", no_wrap=True)
    if plan.exchange:
        worth = plan.exchange["usd_per_accuracy_point"]
        hour, tenth = plan.exchange["usd_per_hour_of_waiting"], plan.exchange["usd_per_100ms"]
        table.caption = (
            f"net cost: dollars, less {cents(worth)} a point of accuracy, with {cents(hour)} an "
            f"hour and {cents(tenth)} for 100 ms of p95"
        )
        table.caption_justify = "left"
    accuracy = plan.accuracy
    table.add_row(
        f"{plan.objective} {MARK}",
        plan.student,
        _shown(accuracy),
        cents(plan.usd),
        f"{plan.hours:.3f}",
        f"{plan.latency_ms:,.0f}",
        "",
        style="bold",
    )
    for name, point in plan.alternatives.items():
        table.add_row(
            name.replace("_", "-", 1) if name.endswith("_first") else name.replace("_", " "),
            point.student,
            _accuracy(point),
            f"{cents(point.usd)}{_percent(point.usd, plan.usd)}",
            f"{point.hours:.3f}{_percent(point.hours, plan.hours)}",
            f"{point.latency_ms:,.0f}{_percent(point.latency_ms, plan.latency_ms)}",
            "same plan" if _is(point, plan) else net_text(point, plan),
        )
    return table


def net_text(point: PlanPoint, plan: Plan) -> str:
    """Write a plan's net cost beyond that of the chosen one."""
    more = point.net_usd - plan.net_usd
    return f"{'−' if more < -SMALLEST_USD else '+'}{cents(abs(more))}"


def explanation(plan: Plan) -> Text:
    """Return why the plan is as it is, what each limit is worth, and what it rests on."""
    from rich.text import Text

    text = Text()
    sections = (
        ("Why this plan", plan.reasons),
        ("What if", [move.text for move in plan.what_if]),
        ("Prices", [price_text(price) for price in plan.prices]),
        ("Assumptions", [assumption_text(number) for number in plan.assumptions]),
        ("Left out", [f"{who}: {why}" for who, why in by_reason(plan.left_out)]),
    )
    for title, sentences in sections:
        if sentences:
            text.append(f"{title}\n", style="bold")
            for sentence in sentences:
                text.append(f"  • {visible(sentence)}\n")
    text.rstrip()
    return text


def price_text(price: Price) -> str:
    """Write a price with its day and source."""
    origin = ", ".join(filter(None, (price.date or "without a date", price.source)))
    return f"{price.what}: ${price.usd:,.6g} {price.unit} ({origin})"


def assumption_text(number: Assumption) -> str:
    """Write an assumption: what it is, why, and what would take its place."""
    value = f"{number.value:,.4g} {number.unit}"
    return f"{number.name}: {value} ({number.why}). To replace it: {number.replaced_by}."


def _accuracy(point: PlanPoint) -> str:
    return _shown(
        Interval(
            point.accuracy,
            point.accuracy_low,
            point.accuracy_high,
            is_known=point.accuracy_known,
            tried=point.accuracy_tried,
        )
    )


def _shown(accuracy: Interval) -> str:
    """Write a predicted accuracy with its interval; of another one, what was measured of it.

    Where nothing was, the most that it may be.
    """
    if accuracy.is_known:
        return f"{accuracy.mean:.3f} ({accuracy.low:.2f}–{accuracy.high:.2f})"
    if accuracy.tried is not None:
        return right_shortly(accuracy.tried)
    return "unknown" if accuracy.high >= 1 else f"≤ {most(accuracy.high)}, not measured"


def _percent(value: float, base: float) -> str:
    """Write by what share a value is above or below another, nothing if it is the same."""
    share = value / base - 1 if base > 0 else 0.0
    return f" ({share:+.0%})" if abs(share) >= 0.005 else ""


def _short(servers: str) -> str:
    """Return cloud and GPU, or instance type where there is none; the region is in the record."""
    names = []
    for server in servers.split(" + "):
        parts = SERVER.fullmatch(server)
        if parts is None:
            names.append(server)
            continue
        kind = parts["gpu"] or parts["type"].removeprefix("Standard_")  # which is all of Azure
        names.append(f"{parts['times'] or ''}{parts['cloud']} {kind}{parts['spot'] or ''}")
    return " + ".join(names)


def _names(point: PlanPoint, plan: Plan) -> list[str]:
    return [
        BEST_IN.get(name, name)
        for name, best in plan.alternatives.items()
        if point.accuracy == best.accuracy
        and _close(point, best)
        and (best.accuracy_known or name != ACCURACY.alternative)
    ]


def _is(point: PlanPoint, plan: Plan) -> bool:
    pair = (plan.teacher, plan.student, plan.strategy)
    return (point.teacher, point.student, point.strategy) == pair and _close(point, plan)


def _close(point: PlanPoint, plan: PlanPoint | Plan) -> bool:
    return all(
        abs(getattr(point, name) - getattr(plan, name)) <= 1e-6 * max(1.0, getattr(plan, name))
        for name in ("usd", "hours", "latency_ms")
    )


def _thin(rows: Sequence[_Row], n: int) -> Sequence[_Row]:
    """Return so many of the rows: those that are always shown, and others evenly."""
    if len(rows) <= n:
        return rows
    always = {i for i, row in enumerate(rows) if row.is_chosen or row.best_in}
    rest = [i for i in range(len(rows)) if i not in always]
    n_more = max(0, n - len(always))
    some = {rest[round((i + 0.5) * len(rest) / n_more - 0.5)] for i in range(n_more)}
    return [rows[i] for i in sorted(always | some)]
