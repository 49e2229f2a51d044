"""The interactive frontier plot."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stratos.core import formats
from stratos.core.conf import shipped_choices
from stratos.core.redact import redact_override
from stratos.records import Plan, PlanPoint
from stratos.report import charts, provenance
from stratos.report.sweep_jobs import read_job

# The commands that a run's page names: that repeat it, or take another plan.


def command_again(run_dir: Path, changed: Mapping[str, str] | None = None) -> str:
    """Return the command of a run, with some settings changed.

    Args:
        run_dir: its folder, where Hydra kept the overrides.
        changed: key to value. What the run gave of that key, or of keys below it, is left out.

    Raises:
        ValueError: what Hydra kept is corrupt.
    """
    changed = changed or {}
    words = ["python", "-m", "stratos"]
    for folder in provenance.user_config_dirs(run_dir):
        words += ["--config-dir", folder]
    words += _without(provenance.overrides(run_dir), changed)
    words += [f"{key}={value}" for key, value in changed.items()]
    return shlex.join(redact_override(word) if "=" in word else word for word in words)


def _without(overrides: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    """Return the overrides of all other keys."""
    kept = []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if not any(key == one or key.startswith((f"{one}.", f"{one}@")) for one in keys):
            kept.append(override)
    return kept


def command_of_point(point: PlanPoint, plan: Plan, run_dir: Path) -> str:
    """Return the command that has a point of the frontier carried out; "" if none can name it.

    Teacher, student and strategy are pinned, and the plan chooses servers for them. A model that
    was given by its path has no name to pin.

    Raises:
        ValueError: what Hydra kept is corrupt.
    """
    pinned = (
        ("teacher", point.teacher, plan.teacher),
        ("student", point.student, plan.student),
        ("strategy", point.strategy, plan.strategy),
    )
    if all(name == chosen for _, name, chosen in pinned):
        return command_again(run_dir)
    changed = {}
    for group, name, chosen in pinned:
        if name in shipped_choices(group):
            changed[group] = name
        elif name != chosen:
            return ""
    return command_again(run_dir, changed)


def chosen_point(plan: Plan) -> PlanPoint:
    """Return the chosen plan as the frontier has it, or, should it lack it, made from the plan."""
    point = PlanPoint(
        teacher=plan.teacher,
        student=plan.student,
        strategy=plan.strategy,
        accuracy=plan.accuracy.mean,
        usd=plan.usd,
        hours=plan.hours,
        latency_ms=plan.latency_ms,
        servers={
            role: " + ".join(one.offer.name for one in plan.roles_of(role) if one.offer is not None)
            for role in dict.fromkeys(one.role for one in plan.roles if one.offer is not None)
        },
        accuracy_known=plan.accuracy.is_known,
        accuracy_low=plan.accuracy.low,
        accuracy_high=plan.accuracy.high,
        net_usd=plan.net_usd,
        accuracy_tried=plan.accuracy.tried,
    )
    return next((known for known in plan.frontier if is_same(known, point)), point)


def frontier_plot(plan: Plan, run_dir: Path) -> charts.Plot:
    """Lay out the frontier, what other objectives would have chosen, and the choice.

    Args:
        plan: the plan.
        run_dir: folder of the run, whose command a point's own is made from.
    """

    def mark(point: PlanPoint, kind: str, what: str) -> charts.Mark:
        try:
            command = command_of_point(point, plan, run_dir)
        except ValueError:  # the overrides that Hydra kept are corrupt
            command = ""
        return replace(_mark(point, kind, what, chosen), command=command)

    chosen = chosen_point(plan)
    marks = [
        mark(point, "dot", "on the frontier")
        for point in plan.frontier
        if not is_same(point, chosen)
    ]
    marks += [
        mark(point, "alternative", name.replace("_", " "))
        for name, point in plan.alternatives.items()
        if not is_same(point, chosen)
    ]
    marks.append(mark(chosen, "chosen", "chosen"))
    quantities = [charts.USD, charts.HOURS, charts.LATENCY, charts.ACCURACY, charts.NET]
    # What is counted is drawn: a plan of unknown accuracy has no place on an axis of accuracies.
    known = all(point.accuracy_known for point in (*plan.frontier, chosen))
    vertical = charts.ACCURACY if known else charts.HOURS
    rest = tuple(quantity for quantity in quantities if quantity is not vertical)
    title = f"{formats.sentence(vertical.label.partition(',')[0])} against cost in dollars"
    return charts.plot(title, quantities, (vertical, *rest), marks)


def is_same(one: PlanPoint, other: PlanPoint) -> bool:
    """Tell whether two points are one plan: who, where and at what predicted cost."""
    return (
        (one.teacher, one.student, one.strategy) == (other.teacher, other.student, other.strategy)
        and abs(one.usd - other.usd) <= 1e-6 * max(1.0, abs(one.usd))
        and abs(one.hours - other.hours) <= 1e-6 * max(1.0, abs(one.hours))
        and abs(one.latency_ms - other.latency_ms) <= 1e-6 * max(1.0, abs(one.latency_ms))
    )


def _mark(point: PlanPoint, kind: str, what: str, chosen: PlanPoint) -> charts.Mark:
    return charts.Mark(
        label=f"{point.student} · {point.strategy}",
        values={
            "accuracy": point.accuracy if point.accuracy_known else None,
            "usd": point.usd,
            "hours": point.hours,
            "latency_ms": point.latency_ms,
            "net_usd": point.net_usd - chosen.net_usd,
        },
        kind=kind,
        rows=plan_rows(point, what, chosen),
    )


def plan_rows(
    point: PlanPoint, what: str, beside: PlanPoint | None = None
) -> tuple[tuple[str, ...], ...]:
    """Return what there is to say of a plan: name, value, and how it compares with another."""
    base = beside or point
    points = (point.accuracy - base.accuracy) * 100
    both_known = point.accuracy_known and base.accuracy_known
    return (
        ("plan", what, ""),
        ("teacher", point.teacher, ""),
        ("student", point.student, ""),
        ("strategy", point.strategy, ""),
        (
            "accuracy",
            formats.accuracy(point),
            f"{points:+.1f} points" if both_known and abs(points) >= 0.05 else "",
        ),
        ("cost", formats.usd(point.usd), _against(point.usd, base.usd)),
        ("until served", formats.hours(point.hours), _against(point.hours, base.hours)),
        (
            "p95 latency",
            formats.milliseconds(point.latency_ms),
            _against(point.latency_ms, base.latency_ms),
        ),
        ("net cost", *_net(point, base)),
        *((role, server, "") for role, server in point.servers.items()),
    )


def _net(point: PlanPoint, base: PlanPoint) -> tuple[str, str]:
    more = point.net_usd - base.net_usd
    return "", f"{'−' if more < 0 else '+'}{formats.usd(abs(more))}" if abs(more) >= 0.005 else ""


def _against(value: float, base: float) -> str:
    """Write a value against another in percent; nothing if they read the same."""
    share = value / base - 1 if base > 0 else 0.0
    return f"{share:+.1%}" if abs(share) >= 0.0005 else ""


# What jobs of a sweep are compared by, read from their records; test items choose nothing.

BETTER = {
    "accuracy": "maximize",
    "usd": "minimize",
    "hours": "minimize",
    "latency_ms": "minimize",
}
"""Accuracy on validation items, and the plan's dollars, hours and p95: which way is better."""


def objectives_of(folder: Path) -> dict[str, float]:
    """Return what is known of a job by its folder, as far as its stages have run."""
    records = read_job(folder.parent, folder).records
    found: dict[str, float] = {}
    if (student := records.get("distill")) is not None:
        found["accuracy"] = student.validation_exact
    if (plan := records.get("plan")) is not None:
        found |= {"usd": plan.usd, "hours": plan.hours, "latency_ms": chosen_point(plan).latency_ms}
    return found
