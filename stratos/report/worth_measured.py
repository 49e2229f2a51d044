"""The verdict of a plan once its student is measured: it rests on no prediction any more."""

from __future__ import annotations

from dataclasses import replace

from stratos.config import Config
from stratos.core.formats import percent, percent_range
from stratos.core.intervals import by_shares
from stratos.evaluate.verdict import SURE, accuracy_as_served, verdict
from stratos.plan.ways import unsure, why_not
from stratos.plan.worth import verdict_of, worth_of
from stratos.plan.worth_doubts import MEASURED
from stratos.records import Deployment, Plan, Probe, Scorecard, Worth


def worth_measured(
    config: Config,
    probe: Probe | None,
    plan: Plan | None,
    scorecard: Scorecard | None,
    deployment: Deployment | None = None,
) -> Worth | None:
    """Return whether distilling pays: by what was measured, or by the plan before that.

    The student has its accuracy on the test items: that of the format that is served, where it was
    asked them. If the teacher is better on the items that both answered (McNemar's exact test),
    distilling is open however well it pays; so it is where one is surely better when each slice
    counts by its share of the rows, or where what needs no model may do as well. What has been
    spent on the student does not count any more.
    """
    if plan is None or plan.worth is None:
        return None
    if probe is None or scorecard is None or scorecard.score("student") is None:
        return plan.worth
    found = accuracy_as_served(scorecard, deployment)
    assert found is not None, "a student that was evaluated has one"
    measured = replace(plan, accuracy=replace(found[0], source=MEASURED))
    # Why a model is no alternative was told beside the student that was predicted.
    open_models = tuple(
        replace(
            way,
            why_not=why_not(config, way.accuracy, measured),
            unsure=unsure(config, way.accuracy),
        )
        for way in plan.worth.ways
        if way.kind == "open"
    )
    by_items = verdict(scorecard)
    is_free_beaten = by_items is None or by_items.outcome == "better"
    worth = (worth_of if is_free_beaten else verdict_of)(
        config, probe, measured, open_models=open_models, beaten_by=_beaten_by(scorecard, probe)
    )
    return worth or plan.worth


def _beaten_by(scorecard: Scorecard, probe: Probe) -> dict[str, str]:
    """Return names of models that are better than the student, with the numbers that show it.

    The teacher may be so on the test items that both answered; it and other models may be so as
    requests come, where the evaluation and the probe alternate slices of unequal shares.
    """
    return {**_beaten_by_shares(scorecard, probe), **_beaten_by_teacher(scorecard)}


def _beaten_by_shares(scorecard: Scorecard, probe: Probe) -> dict[str, str]:
    student, teacher = scorecard.score("student"), scorecard.score("teacher")
    assert student is not None
    ours = by_shares({one.slice: one.exact for one in student.slices}, probe.shares)
    found = {}
    for one in probe.teachers:
        parts = one.exact_by_slice
        if teacher is not None and teacher.name == one.teacher:
            parts = {part.slice: part.exact for part in teacher.slices}
        theirs = by_shares(parts, probe.shares)
        if ours is not None and theirs is not None and ours.high < theirs.low:
            found[one.teacher] = (
                f"{percent(ours.mean)} ({percent_range(ours.low, ours.high)}) against "
                f"{percent(theirs.mean)} ({percent_range(theirs.low, theirs.high)}), each slice by "
                "its share of the rows"
            )
    return found


def _beaten_by_teacher(scorecard: Scorecard) -> dict[str, str]:
    both, teacher = scorecard.comparison, scorecard.score("teacher")
    if both is None or teacher is None or both.p_value >= SURE:
        return {}
    if both.teacher_exact.mean <= both.student_exact.mean:
        return {}
    told = (
        f"{percent(both.student_exact.mean)} against {percent(both.teacher_exact.mean)} of the "
        f"same {both.n_items:,} test items (McNemar's exact test: p = {both.p_value:.2g})"
    )
    return {teacher.name: told}
