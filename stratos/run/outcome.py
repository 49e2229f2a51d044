"""The one-line result of each stage."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from stratos.core.counted import counted, cut_short
from stratos.core.formats import (
    at_least,
    count,
    hours,
    magnitude,
    measured,
    milliseconds,
    n_bytes,
    percent,
    percent_most,
    size,
    usd,
)
from stratos.core.intervals import predicted
from stratos.evaluate.read_log import said
from stratos.evaluate.verdict import verdict
from stratos.records import (
    Corpus,
    Deployment,
    Interval,
    ModelScore,
    Pilot,
    Plan,
    Prediction,
    Probe,
    Report,
    RoomRecord,
    Scorecard,
    Student,
    TeacherProbe,
)

_CHANCE = 0.25
"""A guess among four answers."""


@singledispatch
def outcome(record: Any) -> str:
    """Return the line of a stage record."""
    raise TypeError(f"no stage makes a {type(record).__name__}")


@outcome.register
def _(probe: Probe) -> str:
    parts = [_teacher(one) for one in probe.teachers]
    if probe.baselines:
        best = max(probe.baselines, key=lambda score: score.slice().exact.mean)
        parts.append(f"without a model: {percent(best.slice().exact.mean)} by {best.name}")
    if probe.unreachable:
        parts.append(f"not reachable: {', '.join(probe.unreachable)}")
    return "; ".join(parts)


def _teacher(one: TeacherProbe) -> str:
    if one.logged is not None:
        held = percent_most(one.exact.mean) if one.logged.is_checked else "not known"
        return f"{one.card.name}, by its log: at most {held} of {count(one.n_items)} hold"
    right = round(one.exact.mean * one.n_items)
    choice = f", {_choice(one.choice)} on multiple choice" if one.choice.is_share_known else ""
    cut = f" ({cut_short(one.n_truncated, one.n_items)})" if one.is_cut_short else ""
    return f"{one.teacher} {right}/{one.n_items} exact{cut}{choice}"


def _choice(choice: Interval) -> str:
    blind = choice.low <= _CHANCE <= choice.high
    return f"{'at chance ' if blind else ''}{percent(choice.mean, 0)}"


@outcome.register
def _(pilot: Pilot) -> str:
    if not pilot.runs:
        return "no pair was trained: " + "; ".join(pilot.left_out.values())
    curves = []
    for run in pilot.runs:
        longest = run.points[-1]
        curves.append(
            f"{run.student} by {run.strategy} {percent(longest.accuracy)} exact on validation "
            f"items after {magnitude(longest.train_tokens)} tokens"
        )
    paid = f", {usd(pilot.usd)} to teachers" if pilot.usd else ""
    return f"{'; '.join(curves)}{paid}"


@outcome.register
def _(plan: Plan) -> str:
    servers = [
        f"{role.count} × {role.offer.name}" if role.count > 1 else role.offer.name
        for role in plan.roles_of("serve")
        if role.offer is not None
    ]
    server = f" on {' + '.join(servers)}" if servers else ""
    if server and (engines := _engines(plan)):
        server += f" with {engines}"
    return (
        f"{plan.teacher} → {plan.student} by {plan.strategy}{server}: {usd(plan.usd)}, "
        f"{hours(plan.hours)}, {milliseconds(plan.latency_ms)}, accuracy "
        f"{predicted(plan.accuracy)}; {plan.status}, "
        f"{counted(plan.n_frontier, 'plan')} on the frontier"
    )


def _engines(plan: Plan) -> str:
    """Return which engines and formats serve; "" where the bundle's own weights are served."""
    runs = [role.run for role in plan.roles_of("serve") if role.run is not None]
    return " and ".join(dict.fromkeys(f"{run.engine} {run.format}" for run in runs if run.format))


@outcome.register
def _(corpus: Corpus) -> str:
    refused = sum(corpus.refused.values())
    reasons = [f"{count(n)} {name}" for name, n in corpus.refused.items() if n]
    # Rows of the user's own: what became of each is said here. Of drawn items the report tells.
    why = f" ({', '.join(reasons)})" if corpus.n_by_source and reasons else ""
    slices = ", ".join(f"{count(n)} {name}" for name, n in corpus.n_by_slice.items())
    per_s = corpus.items_per_s
    rate = count(per_s) if per_s >= 10 else f"{per_s:.2g}"
    if corpus.n_by_source:  # nobody verified a row of a file, or a teacher's label
        slices = ", ".join(f"{count(n)} {source}" for source, n in corpus.n_by_source.items())
        return (
            f"{counted(corpus.n_items, 'item', spec=',')} by {corpus.strategy} ({slices}), "
            f"{count(refused)} refused{why}, {rate} a second"
        )
    of_slices = f" ({slices})" if len(corpus.n_by_slice) > 1 else ""
    return (
        f"{counted(corpus.n_items, 'verified item', spec=',')} by {corpus.strategy}{of_slices}, "
        f"{count(refused)} refused{why}, {rate} a second"
    )


@outcome.register
def _(student: Student) -> str:
    resumed = f", gone on {student.n_resumed}×" if student.n_resumed else ""
    return (
        f"{student.name}, {magnitude(student.n_params)} parameters, "
        f"{counted(student.steps, 'step', spec=',')}, {magnitude(student.train_tokens)} tokens"
        f"{resumed}: {percent(student.validation_exact)} exact on "
        f"{counted(student.n_validation_items, 'validation item', spec=',')}"
    )


@outcome.register
def _(scorecard: Scorecard) -> str:
    parts = []
    for role in ("student", "constrained", "teacher", "untouched"):
        score = scorecard.score(role)
        if score is not None:
            known = [score.name, *([size(score.n_params)] if score.n_params else [])]
            large = f" ({', '.join(known)})" if role == "teacher" else ""
            parts.append(f"{role}{large} {percent(score.slice().exact.mean)}{_cut(score)}")
    free = scorecard.best_free
    if free is not None:
        parts.append(f"{free.name} {percent(free.other_exact.mean)}")
    compared = scorecard.comparison
    found = verdict(scorecard)
    told = f"; {found.headline}" if found is not None and found.headline else ""
    bound = at_least(compared) if compared else ""
    ratio = f"; {bound}" if bound else ""
    reads = f"; {said(scorecard.earlier_reads)}"
    return f"{', '.join(parts)} {measured(scorecard.metric)} on test items{told}{ratio}{reads}"


def _cut(score: ModelScore) -> str:
    if not score.is_cut_short:
        return ""
    return f" ({cut_short(score.n_truncated, score.slice().n_items)})"


@outcome.register
def _(deployment: Deployment) -> str:
    limit = {None: "", True: ", within the limit", False: ", OVER the latency limit"}
    equal = "answer equals that" if deployment.n_requests == 1 else "answers equal those"
    load = deployment.load
    under = ""
    if load is not None:
        held = "" if load.kept_up and load.holds_limit else ", NOT held"
        under = (
            f"; {load.requests_per_s:.3g} requests a second, random arrivals{held}: p95 "
            f"{milliseconds(load.latency_p95_ms)}"
            f"{'' if deployment.was_busy else _judged(load.p95_ms)}"
            f" (capacity {load.capacity_per_s:.3g} a second)"
        )
    served = deployment.served
    told = ""
    if served is not None:
        told = (
            f"{served.format} {percent(served.exact.mean)} of {count(served.n_items)} test items, "
        )
    return (
        f"{told}{deployment.n_equal}/{deployment.n_requests} {equal} of the evaluation, "
        f"p95 {milliseconds(deployment.latency_p95_ms)}{limit[deployment.meets_latency_limit]}"
        f"{under}; bundle {n_bytes(deployment.bundle_bytes)}"
    )


def _judged(prediction: Prediction | None) -> str:
    if prediction is None:
        return ""
    return " as predicted" if prediction.is_inside else " NOT as predicted"


@outcome.register
def _(record: RoomRecord) -> str:
    return record.outcome()


@outcome.register
def _(report: Report) -> str:
    return f"{report.path} ({n_bytes(report.n_bytes)})"
