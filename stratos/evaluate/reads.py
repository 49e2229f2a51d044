"""Report which held-out items were read when."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.counted import counted
from stratos.records import EarlierReads, Pilot, Probe, Scorecard, Student


def said(reads: EarlierReads) -> str:
    """Say how often the test items were read before, as a phrase."""
    if not reads.n_runs:
        return "no test item was read by an earlier run of this machine"
    runs = f"{counted(reads.n_runs, 'earlier run', spec=',')} of this machine"
    if reads.n_seen == reads.n_items:
        return f"test split read by {runs}"
    items = counted(reads.n_items, "test item", spec=",")
    return f"{reads.n_seen:,} of {items} read by {runs}"


@dataclass(frozen=True)
class StageReads:
    """Items of one split that a stage reads, and what for."""

    stage: str
    split: str
    items: str
    seed: int
    purpose: str


def reads_of_run(
    probe: Probe | None,
    pilot: Pilot | None,
    student: Student | None,
    scorecard: Scorecard | None,
) -> tuple[StageReads, ...]:
    """Return what each stage read of the held-out splits, in the order of the stages.

    Validation items are drawn with the seed 0 in every run; those of a smaller number are the
    first of those of a larger one.
    """
    rows: list[StageReads] = []

    def read(stage: str, split: str, items: str, purpose: str, seed: int = 0) -> None:
        rows.append(StageReads(stage, split, items, seed, purpose))

    if probe is not None:
        for teacher in probe.teachers:
            read("probe", "validation", f"first {teacher.n_items:,}",
                 f"coverage of {teacher.teacher}, and the best of its prompts")  # fmt: skip
        for one in probe.students:
            if one.n_items:
                purpose = f"{one.student} before its training"
                read("probe", "validation", f"first {one.n_items:,}", purpose)
    for run in pilot.runs if pilot is not None else ():
        most = max((point.n_items for point in run.points), default=0)
        trainings = counted(len(run.points), "short training")
        purpose = f"accuracy of {trainings} of {run.student}"
        read("pilot", "validation", f"{most:,} each", purpose)
    if student is not None:
        times = counted(sum(point.exact is not None for point in student.curve), "measurement")
        n = student.n_validation_items
        purpose = f"which step's weights are kept ({times})"
        read("distill", "validation", f"first {student.n_choosing_items:,}", purpose)
        reused = student.n_validation_reused
        again = f", {reused:,} of them again" if reused else " behind those"
        read("distill", "validation", f"{n:,}{again}", "accuracy of the kept weights")
    if scorecard is not None:
        for score in scorecard.scores:
            if score.role in ("student", "constrained", "untouched", "teacher"):
                items = f"{score.slice().n_items:,}"
                read("evaluate", "test", items, f"{score.role}: measured", scorecard.seed)
    return tuple(rows)
