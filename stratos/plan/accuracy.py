"""Predicted accuracy of a student: from recorded runs, from the probe, or said to be unknown."""

from __future__ import annotations

from stratos.intervals import wilson
from stratos.plan.problem import UNKNOWN
from stratos.records import CardRun, Interval, ModelCard, TeacherProbe


def predict(card: ModelCard, task: str, strategy: str, probe: TeacherProbe) -> Interval:
    """Return the accuracy that a student may be expected to reach, and what that rests on.

    Recorded runs of the student on the task by the strategy come first. Without them alignment is
    bounded by the teacher, whose answers it learns from; injection is bounded by nothing that was
    measured.
    """
    runs = [run for run in card.runs if run.task == task and run.strategy == strategy]
    if runs:
        return _of_runs(runs)
    if strategy.startswith("alignment"):
        return Interval(
            probe.exact.mean,
            0.0,
            probe.exact.high,
            f"bounded by the teacher {probe.teacher} on {probe.n_items} validation items",
        )
    return Interval(0.5, 0.0, 1.0, f"{UNKNOWN}: no recorded run of {card.name} on {task}")


def _of_runs(runs: list[CardRun]) -> Interval:
    """Return the mean over runs, in an interval of the items' chance and the seeds' spread."""
    mean = sum(run.accuracy for run in runs) / len(runs)
    n_items = sum(run.n_items for run in runs)
    right = min(float(n_items), sum(run.accuracy * run.n_items for run in runs))
    pooled = wilson(right, n_items)
    dates = sorted({run.date for run in runs})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    runs_text = "1 recorded run" if len(runs) == 1 else f"{len(runs)} recorded runs"
    return Interval(
        mean,
        max(0.0, min(mean, pooled.low, *(run.accuracy for run in runs))),
        min(1.0, max(mean, pooled.high, *(run.accuracy for run in runs))),
        f"{runs_text} of {when}, {n_items} test items",
    )
