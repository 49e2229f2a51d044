"""The verdict of a plan once its student is measured: it rests on no prediction any more."""

from __future__ import annotations

from dataclasses import replace

from stratos.config import Config
from stratos.core.formats import percent
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
    distilling is open however well it pays; so it is where what needs no model may do as well. What
    has been spent on the student does not count any more.
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
        config, probe, measured, open_models=open_models, beaten_by=_beaten_by(scorecard)
    )
    return worth or plan.worth


def _beaten_by(scorecard: Scorecard) -> dict[str, str]:
    """Return the teacher's name, with how much better it is on the items that both answered."""
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
