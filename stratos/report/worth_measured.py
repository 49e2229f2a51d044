"""The verdict of a plan once its student is measured: it rests on no prediction any more."""

from __future__ import annotations

from dataclasses import replace

from stratos.config import Config
from stratos.core.formats import percent
from stratos.evaluate.verdict import verdict
from stratos.plan.worth import MEASURED, verdict_of, worth_of
from stratos.records import Plan, Probe, Scorecard, Worth


def worth_measured(
    config: Config, probe: Probe | None, plan: Plan | None, scorecard: Scorecard | None
) -> Worth | None:
    """Return whether distilling pays: by what was measured, or by the plan before that.

    The student has its accuracy on the test items. If the teacher is better on the items that both
    answered (McNemar's exact test), distilling is open however well it pays; so it is where what
    needs no model may do as well.
    """
    if plan is None or plan.worth is None:
        return None
    student = scorecard.score("student") if scorecard is not None else None
    if probe is None or scorecard is None or student is None:
        return plan.worth
    measured = replace(plan, accuracy=replace(student.slice().exact, source=MEASURED))
    open_models = tuple(way for way in plan.worth.ways if way.kind == "open")
    found_verdict = verdict(scorecard)
    is_free_beaten = found_verdict is None or found_verdict.outcome == "better"
    found = (worth_of if is_free_beaten else verdict_of)(
        config, probe, measured, open_models=open_models
    )
    if found is None:
        return plan.worth
    both, teacher = scorecard.comparison, scorecard.score("teacher")
    if (
        both is not None
        and teacher is not None
        and found.outcome != "stay"
        and teacher.name == found.reference
        and both.p_value < 0.05
        and both.teacher_exact.mean > both.student_exact.mean
        and "less accurate" not in found.text
    ):
        found = replace(
            found,
            outcome="open",
            text=(
                f"{_opened(found.text)} But the student is less accurate: "
                f"{percent(both.student_exact.mean)} against {percent(both.teacher_exact.mean)} of "
                f"the same {both.n_items:,} test items (McNemar's exact test: p = "
                f"{both.p_value:.2g})."
            ),
        )
    return found


def _opened(text: str) -> str:
    """Return the text of a verdict as that of an open one."""
    head, _, rest = text.partition(": ")
    return f"Open: {rest}" if head == "Distil" else text
