"""The verdict of a plan once its student is measured: it rests on no prediction any more."""

from __future__ import annotations

from dataclasses import replace

from stratos.config import Config
from stratos.core.formats import percent, percent_range
from stratos.core.intervals import by_shares
from stratos.core.reasons import Reason
from stratos.evaluate.verdict import SURE, accuracy_as_served, verdict
from stratos.plan.alternatives import judged
from stratos.plan.worth import MEASURED, MOST_BEHIND, verdict_of, worth_of
from stratos.records import Deployment, Interval, Plan, Probe, Scorecard, Worth


class BetterByShares(Reason):
    """Another model is surely more accurate than the student, as requests come."""

    student: Interval
    model: Interval

    def __str__(self) -> str:
        ours, theirs = (
            f"{percent(accuracy.mean)} ({percent_range(accuracy.low, accuracy.high)})"
            for accuracy in (self.student, self.model)
        )
        return f"{ours} against {theirs}, each slice by its share of the rows"


class BetterOnItems(Reason):
    """Another model is more accurate than the student on the same test items."""

    student: float
    model: float
    n_items: int
    p_value: float

    def __str__(self) -> str:
        return (
            f"{percent(self.student)} against {percent(self.model)} of the same {self.n_items:,} "
            f"test items (McNemar's exact test: p = {self.p_value:.2g})"
        )


def worth_measured(
    config: Config,
    probe: Probe | None,
    plan: Plan | None,
    scorecard: Scorecard | None,
    deployment: Deployment | None = None,
) -> Worth | None:
    """Return whether distilling pays: by what was measured, or by the plan before that.

    The student has its accuracy on the test items: that of the format that is served, where it was
    asked them. If the teacher, or what needs no model, is ahead on the items that both answered,
    distilling is open however well it pays; so it is where one is surely better when each slice
    counts by its share of the rows, or where what needs no model may do as well. What has been
    spent on the student does not count any more.
    """
    if plan is None or plan.worth is None:
        return None
    if probe is None or scorecard is None or scorecard.score("student") is None:
        return plan.worth
    served = accuracy_as_served(scorecard, deployment)
    assert served is not None, "a student that was evaluated has one"
    measured = replace(plan, accuracy=replace(served[0], source=MEASURED))
    # Why a model is no alternative was judged beside the student that was predicted.
    open_models = [
        judged(config.limits, measured, way)
        for way in plan.worth.alternatives
        if way.kind == "open"
    ]
    by_items = verdict(scorecard)
    outcome = verdict_of(
        config,
        probe,
        measured,
        open_models=open_models,
        beaten_by=_beaten_by(scorecard, probe, config),
        beats_baselines=by_items is None or by_items.outcome == "better",
        better_free=_better_free(scorecard),
        on_same_items=_on_same_items(scorecard),
    )
    return plan.worth if outcome is None else worth_of(outcome)


def _on_same_items(scorecard: Scorecard) -> tuple[str, ...]:
    """Return the name of the teacher where it and the student were compared item by item."""
    teacher = scorecard.score("teacher")
    return () if teacher is None or scorecard.comparison is None else (teacher.name,)


def _better_free(scorecard: Scorecard) -> dict[str, Reason]:
    """Return what needs no model and is ahead of the student, with the numbers that show it."""
    free = scorecard.best_free
    if free is None or free.ahead <= MOST_BEHIND:
        return {}
    return {free.name: BetterOnItems(free.student, free.baseline, free.n_items, free.p_value)}


def _beaten_by(scorecard: Scorecard, probe: Probe, config: Config) -> dict[str, Reason]:
    """Return names of models that are better than the student, with the numbers that show it.

    The teacher may be so on the test items that both answered; it and other models may be so as
    requests come, where the evaluation and the probe alternate slices of unequal shares.
    """
    return {**_beaten_by_shares(scorecard, probe), **_beaten_by_teacher(scorecard, config)}


def _beaten_by_shares(scorecard: Scorecard, probe: Probe) -> dict[str, Reason]:
    student, teacher = scorecard.score("student"), scorecard.score("teacher")
    assert student is not None
    ours = by_shares({row.slice: row.exact for row in student.slices}, probe.shares)
    better: dict[str, Reason] = {}
    for probed in probe.real_teachers:
        parts = probed.exact_by_slice
        if teacher is not None and teacher.name == probed.teacher:
            parts = {row.slice: row.exact for row in teacher.slices}
        theirs = by_shares(parts, probe.shares)
        if ours is not None and theirs is not None and ours.high < theirs.low:
            better[probed.teacher] = BetterByShares(ours, theirs)
    return better


def _beaten_by_teacher(scorecard: Scorecard, config: Config) -> dict[str, Reason]:
    """Return the teacher if it is ahead: surely, or as far as counts where no limit says enough."""
    both, teacher = scorecard.comparison, scorecard.score("teacher")
    if both is None or teacher is None:
        return {}
    student, of_teacher = both.student_exact.mean, both.teacher_exact.mean
    is_sure = both.p_value < SURE
    if of_teacher - student <= (0.0 if is_sure else MOST_BEHIND):
        return {}
    if not is_sure and config.limits.accuracy is not None:
        return {}
    return {teacher.name: BetterOnItems(student, of_teacher, both.n_items, both.p_value)}
