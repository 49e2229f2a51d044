"""A log of test-item reads, shared by all runs of this machine.

A test split that is read again and again is chosen by in the end: whoever keeps the better of two
students by it has used it up a little. So every evaluation is noted in a log that all runs of the
machine share, and a scorecard says how many earlier runs have read its items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO

from stratos.core.formats import counted
from stratos.core.process import opened_alone
from stratos.records import EarlierReads, Pilot, Probe, Scorecard, Student
from stratos.tasks.base import Item

LOG = "test_reads.jsonl"
"""In the folder of the caches: one line for each student that was measured on test items."""
_DIGITS = 8
"""Hexadecimal digits that an item is noted with."""


def note_reads(
    cache_dir: Path, run_dir: Path, student_sha256: str, items: Sequence[Item]
) -> EarlierReads:
    """Note that a student of this run is measured on test items; return who has read them before.

    The same student of the same run counts once, however often it is evaluated.

    Args:
        cache_dir: the folder of the caches, in which the log lies.
        run_dir: folder of this run.
        student_sha256: digest of the student's weights.
        items: that are about to be asked.
    """
    marks = [_mark(item) for item in items]
    own = {"run": str(run_dir.resolve()), "student": student_sha256[:16], "ids": "".join(marks)}
    own_marks, seen, runs, is_noted = set(marks), set(), set(), False
    with opened_alone(cache_dir / LOG) as file:
        for line in _lines(file):
            if (line["run"], line["student"]) == (own["run"], own["student"]):
                is_noted = is_noted or line["ids"] == own["ids"]
                continue
            if both := own_marks & _marks_in(line):
                seen |= both
                runs.add((line["run"], line["student"]))
        if not is_noted:
            entry = {"date": date.today().isoformat(), **own}
            file.write(json.dumps(entry).encode() + b"\n")
    return EarlierReads(len(runs), len(seen), len(own_marks))


def excerpt(cache_dir: Path, items: Sequence[Item]) -> bytes:
    """Return the lines of the log that are about some items: what another machine has to know.

    Args:
        cache_dir: the folder of the caches, in which the log lies.
        items: that are about to be asked there.
    """
    own_marks = set(map(_mark, items))
    with opened_alone(cache_dir / LOG) as file:
        lines = [line for line in _lines(file) if own_marks & _marks_in(line)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def said_of_runs(cache_dir: Path, run_dir: Path, items: Sequence[Item]) -> str:
    """Say which earlier runs were measured on test items; "" where none was. Notes nothing.

    Args:
        cache_dir: the folder of the caches, in which the log lies.
        run_dir: folder of this run, which is none of them.
        items: test items of this run.
    """
    if not (cache_dir / LOG).exists():
        return ""
    own_marks, own = set(map(_mark, items)), str(run_dir.resolve())
    days: dict[str, str] = {}
    seen: set[str] = set()
    with opened_alone(cache_dir / LOG) as file:
        for line in _lines(file):
            if line["run"] != own and (read := own_marks & _marks_in(line)):
                seen |= read
                days.pop(line["run"], None)  # the last one comes last
                days[line["run"]] = line["date"]
    if not days:
        return ""
    last = next((run for run in reversed(days) if Path(run).is_dir()), None)
    where = "" if last is None else f", the last in {last} ({days[last]})"
    runs = counted(len(days), "earlier run", spec=",")
    rows = f"{len(seen):,} of the {counted(len(own_marks), 'test row', spec=',')} were"
    if len(seen) == len(own_marks):
        rows = "The test rows were"
    return (
        f"{rows} measured by {runs} of this machine{where}. The best of many runs on "
        "one test looks better than it is. For a fresh one: task.test_path=<file of new questions>."
    )


def _mark(item: Item) -> str:
    return hashlib.blake2b(item.id.encode(), digest_size=_DIGITS // 2).hexdigest()


def _marks_in(line: Mapping[str, str]) -> set[str]:
    ids = line["ids"]
    return {ids[at : at + _DIGITS] for at in range(0, len(ids), _DIGITS)}


def _lines(file: BinaryIO) -> Iterator[dict[str, str]]:
    """Yield the log's lines; one that cannot be read is passed over, and ended if it was cut."""
    file.seek(0)
    data = file.read()
    if data and not data.endswith(b"\n"):
        file.write(b"\n")
    for text in data.splitlines():
        try:
            line = json.loads(text)
            yield {name: str(line[name]) for name in ("run", "student", "ids", "date")}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def describe_reads(reads: EarlierReads) -> str:
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
        for teacher in probe.real_teachers:
            read("probe", "validation", f"first {teacher.n_items:,}",
                 f"coverage of {teacher.teacher}, and the best of its prompts")  # fmt: skip
        for probed in probe.students:
            if probed.n_items:
                purpose = f"{probed.student} before its training"
                read("probe", "validation", f"first {probed.n_items:,}", purpose)
    for run in pilot.runs if pilot is not None else ():
        most = max((point.n_items for point in run.points), default=0)
        trainings = counted(len(run.points), "short training")
        purpose = f"accuracy of {trainings} of {run.student}"
        read("pilot", "validation", f"{most:,} each", purpose)
    if student is not None and not student.is_lm:
        purpose = "cross-validation of the kinds of student; then all are learnt"
        read("probe, distill", "train, validation", f"{student.n_validation_items:,}", purpose)
    elif student is not None:
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
