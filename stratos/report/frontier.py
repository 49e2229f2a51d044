"""The interactive frontier plot."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stratos.core import formats
from stratos.core.extensions import shipped_choices
from stratos.core.formats import duration, percent, usd
from stratos.core.redact import redact_override
from stratos.deploy.card import TESTED, TESTED_BESIDE, TriedSize, tried_sizes
from stratos.plan.accuracy.learning_curve import Measured, extrapolate, on_same_items
from stratos.plan.accuracy.predict import LEAST_SHOWN
from stratos.records import Deployment, Pilot, Plan, PlanPoint, Probe, Scorecard, Student
from stratos.report import charts
from stratos.report.sweep_jobs import overrides_of, read_job, user_config_dirs

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
    for folder in user_config_dirs(run_dir):
        words += ["--config-dir", folder]
    words += _without(overrides_of(run_dir), changed)
    words += [f"{key}={value}" for key, value in changed.items()]
    return shlex.join(redact_override(word) if "=" in word else word for word in words)


def _without(overrides: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    """Return the overrides of all other keys."""
    retained = []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if not any(
            key == prefix or key.startswith((f"{prefix}.", f"{prefix}@")) for prefix in keys
        ):
            retained.append(override)
    return retained


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
            role: " + ".join(
                option.offer.name for option in plan.roles_of(role) if option.offer is not None
            )
            for role in dict.fromkeys(
                role_plan.role for role_plan in plan.roles if role_plan.offer is not None
            )
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


def is_same(first: PlanPoint, second: PlanPoint) -> bool:
    """Tell whether two points are one plan: who, where and at what predicted cost."""
    return (
        (first.teacher, first.student, first.strategy)
        == (second.teacher, second.student, second.strategy)
        and abs(first.usd - second.usd) <= 1e-6 * max(1.0, abs(first.usd))
        and abs(first.hours - second.hours) <= 1e-6 * max(1.0, abs(first.hours))
        and abs(first.latency_ms - second.latency_ms) <= 1e-6 * max(1.0, abs(first.latency_ms))
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
        ("until trained", formats.hours(point.hours), _against(point.hours, base.hours)),
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


def sizes_plot(
    probe: Probe | None,
    plan: Plan | None,
    scorecard: Scorecard | None,
    deployment: Deployment | None,
) -> charts.Plot | None:
    """Lay out accuracy against size and time of what was tried; None where it is one thing alone.

    Kinds of student are cross-validated on rows, what is served is measured on test items; of other
    students of the plan, such as the whole of one that was cut, all is predicted.

    Args:
        probe: has the kinds of student.
        plan: names the chosen one, and predicts others.
        scorecard: has the accuracy of what is served.
        deployment: has its size and time, and those of its formats.
    """
    if deployment is None:
        return None
    score = scorecard.score("student") if scorecard else None
    tried = tried_sizes(probe, plan, plan.student if plan else "", score, deployment)
    if len({size.name for size in tried}) < 2:
        return None
    marks = [_tried(size) for size in tried]
    return charts.plot(
        "Accuracy against size", [charts.BYTES, charts.ANSWER], [charts.ACCURACY], marks
    )


def _tried(size: TriedSize) -> charts.Mark:
    exact = size.interval
    accuracy = percent(size.accuracy)
    if exact is not None:
        accuracy += f" ({100 * exact.low:.1f}–{100 * exact.high:.1f})"
    is_tested = size.how in (TESTED, TESTED_BESIDE)
    rows = (
        ("accuracy", f"{accuracy} of {size.how}" if is_tested else f"{accuracy} {size.how}"),
        ("size", formats.n_bytes(size.n_bytes)),
        ("one answer", formats.milliseconds(size.ms)),
    )
    kind = "chosen" if size.is_served else "alternative" if is_tested else "dot"
    values = {"accuracy": size.accuracy, "n_bytes": size.n_bytes, "answer_ms": size.ms}
    return charts.Mark(label=size.name, values=values, kind=kind, rows=rows)


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
    values: dict[str, float] = {}
    if (student := records.get("distill")) is not None:
        values["accuracy"] = student.validation_exact
    if (plan := records.get("plan")) is not None:
        values |= {
            "usd": plan.usd,
            "hours": plan.hours,
            "latency_ms": chosen_point(plan).latency_ms,
        }
    return values


# What would help next: a longer training, another student, another teacher, and their prices.

LONGER = (2, 4)
"""How many times as long the trainings are that are asked about."""
_MOST_EPOCHS = 4
"""How often a row may be read for a prediction: up to there it is worth about as much as new ones
(Muennighoff et al. 2023, Scaling Data-Constrained Language Models)."""
_APART, _MOST_POINTS = 1.5, 5
"""Points of a curve that are taken: each this many times as long as the one before, at most."""


@dataclass(frozen=True)
class Step:
    """One thing that may be done, what it may gain, and what to type."""

    what: str
    predicted: str
    """Accuracy on validation items with its interval, or why nobody knows."""
    price: str
    command: str = ""


def next_steps(
    run_dir: Path,
    probe: Probe | None,
    pilot: Pilot | None,
    plan: Plan | None,
    student: Student | None,
    *,
    is_taught: bool,
) -> tuple[Step, ...]:
    """Return what may raise the accuracy of a student that was trained.

    Everything rests on validation items, as a plan does: a choice by test items would spoil them.

    Args:
        run_dir: whose command is typed again with other settings.
        probe: what the teachers showed.
        pilot: the trainings before the plan.
        plan: what was chosen.
        student: that was trained.
        is_taught: whether it learnt what a teacher answered, so that a better one teaches more.

    Raises:
        ValueError: what Hydra kept of the run is corrupt.
    """
    if plan is None or student is None:
        return ()
    return (
        *_longer(run_dir, pilot, plan, student),
        *_larger(run_dir, plan, student),
        *(_teachers(probe, plan) if is_taught else ()),
    )


def _longer(run_dir: Path, pilot: Pilot | None, plan: Plan, student: Student) -> Iterator[Step]:
    """A longer training, along the learning curve of this one and of the pilot's."""
    is_open = LEAST_SHOWN <= student.validation_exact < 1
    if not is_open or not student.train_tokens or _overfits(student):
        return
    points = _measured(student)
    points += [
        Measured(run_point.train_tokens, run_point.accuracy * run_point.n_items, run_point.n_items)
        for run in (pilot.runs if pilot else ())
        if (run.student, run.strategy) == (plan.student, plan.strategy)
        for run_point in run.points
    ]
    train_usd = sum(role.usd for role in plan.roles_of("train"))
    for factor in LONGER:
        tokens = factor * student.train_tokens
        epochs = factor * (student.epochs or 0)
        again = f", each row {epochs:.0f} times" if epochs >= 1.5 else ""
        yield Step(
            f"{factor}× the training: {tokens:,} tokens{again}",
            _longer_predicted(points, tokens, epochs, student.n_validation_reused),
            f"{usd(factor * train_usd)} as planned; about {duration(factor * student.seconds)}",
            command_again(
                run_dir,
                {"trainer.max_tokens": str(tokens), "trainer.max_epochs": "-1"},
            ),
        )


def _overfits(student: Student) -> bool:
    """Return whether validation got worse at the end while the training loss went on falling."""
    measured = [(point.exact, point) for point in student.curve if point.exact is not None]
    if len(measured) < 2:
        return False
    *before, (exact, last) = measured
    most, best = max(before, key=lambda pair: pair[0])
    is_likelier = (
        best.validation_loss is not None
        and last.validation_loss is not None
        and last.validation_loss < best.validation_loss
    )
    return exact < most and last.loss < best.loss and not is_likelier


def _measured(student: Student) -> list[Measured]:
    """Return what the training measured: its end, and a few points of its curve before."""
    n = student.n_validation_items
    end = Measured(student.train_tokens, student.validation_exact * n, n)
    n = student.n_choosing_items
    before: list[Measured] = []
    for point in reversed(student.curve):
        last = before[-1].tokens if before else student.train_tokens
        if point.exact is not None and 0 < point.tokens <= last / _APART:
            before.append(Measured(point.tokens, point.exact * n, n))
    return [end, *before[:_MOST_POINTS]]


def _longer_predicted(points: Sequence[Measured], tokens: int, epochs: float, n_reused: int) -> str:
    """Return the accuracy of a longer training, and where that is an upper end, or not known."""
    if epochs > _MOST_EPOCHS:
        return f"unknown: each row would be read {epochs:.0f} times"
    if len({point.tokens for point in points}) < 2:
        return "unknown: this training was measured once"
    predicted = extrapolate(on_same_items(points), tokens)
    whys = [
        *(["rows are read again"] if epochs >= 1.5 else []),
        *(["the items also chose the weights"] if n_reused else []),
    ]
    upper = f"; an upper end: {' and '.join(whys)}" if whys else ""
    return f"{_predicted(predicted.mean, predicted.low, predicted.high)}{upper}"


def _larger(run_dir: Path, plan: Plan, student: Student) -> Iterator[Step]:
    """The plan's most accurate point with another student, if it promises more."""
    alternatives = [
        point for point in plan.frontier if point.accuracy_known and point.student != plan.student
    ]
    best = max(alternatives, key=lambda point: (point.accuracy, -point.usd), default=None)
    if best is not None and best.accuracy > student.validation_exact:
        yield Step(
            f"Another student: {best.student} by {best.strategy}",
            _predicted(best.accuracy, best.accuracy_low, best.accuracy_high),
            _price(best, plan),
            command_of_point(best, plan, run_dir),
        )


def _teachers(probe: Probe | None, plan: Plan) -> Iterator[Step]:
    """Another teacher, where the student learns from what a teacher can do."""
    if probe is None:
        return
    rates = {teacher.teacher: teacher.exact for teacher in probe.real_teachers}
    ours = rates.get(plan.teacher)
    better = [
        (exact, name)
        for name, exact in rates.items()
        if ours is not None and name != plan.teacher and exact.mean > ours.mean
    ]
    if better:
        exact, name = max(better, key=lambda pair: pair[0].mean)
        yield Step(
            f"Another teacher: {name}",
            f"it answers {percent(exact.mean)} ({percent(exact.low)} to {percent(exact.high)}) "
            "right itself",
            "see the frontier",
        )
    elif probe.unreachable:
        names = ", ".join(sorted(probe.unreachable)[:3])
        yield Step(
            "A better teacher",
            f"unknown: {names} could not be asked",
            "their probe is priced before it is paid",
        )


def _price(point: PlanPoint, plan: Plan) -> str:
    more = point.usd - plan.usd
    return f"{usd(point.usd)} in all, {usd(abs(more))} {'more' if more >= 0 else 'less'}"


def _predicted(mean: float, low: float, high: float) -> str:
    return f"{percent(mean)} ({percent(low)} to {percent(high)})"
