"""Predictions of many runs beside what came: hits, misses, and whether they are enough to tell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, comb
from pathlib import Path
from statistics import NormalDist, median
from typing import Literal

from stratos.core.intervals import wilson
from stratos.records import Interval, Plan
from stratos.report.costs import read_ledger
from stratos.report.planned import Kind, PlannedRow, planned_rows
from stratos.report.sweep_jobs import Job, runs_in

CLAIMED = 0.95
"""How often a measured value is to lie in its interval."""
LEAST = 0.9
"""Share of hits that shows that it does well enough."""
_SELDOM = 0.025
"""Probability below which so few hits show that intervals are too narrow."""
Verdict = Literal["holds", "too narrow", "too few", "bound"]


@dataclass(frozen=True)
class Judged:
    """One quantity of one run."""

    folder: str
    task: str
    student: str
    row: PlannedRow


@dataclass
class Found:
    """What was planned and measured in some folders."""

    rows: list[Judged] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    """Folders that hold a run which another one holds, too. Their rows are left out."""


@dataclass(frozen=True)
class Hits:
    """All values of one kind that have an interval, or all that have an upper bound."""

    kind: Kind
    is_bound: bool
    n: int
    """Those that can be judged."""
    n_inside: int
    n_open: int
    """Those that are not judged: nothing was predicted, it was measured elsewhere, or slower than
    predicted beside other work."""
    n_open_known: int
    """Of these, those with an interval,"""
    n_open_inside: int
    """and of these, those that lie in it."""
    share: Interval
    """Of those that lie in their interval, with Wilson's 95%."""
    width: float | None
    """Median width of the intervals of those that can be judged, as of `PlannedRow.width`; None
    without any."""
    ratio: float | None
    """Median of measured over planned, or over the bound, of those that can be judged; None without
    any."""

    @property
    def verdict(self) -> Verdict:
        """Whether the intervals are as wide as they have to be; of bounds, that they are none."""
        if self.is_bound:
            return "bound"
        if not self.n:
            return "too few"
        if _at_most(self.n_inside, self.n) < _SELDOM:
            return "too narrow"
        return "holds" if self.share.low >= LEAST else "too few"


def _at_most(k: int, n: int) -> float:
    """Return how often so few of n values lie inside, if each does so as often as is claimed."""
    return sum(comb(n, i) * CLAIMED**i * (1 - CLAIMED) ** (n - i) for i in range(k + 1))


def n_to_tell() -> int:
    """Return how many values tell that at least `LEAST` are hits, if all of them are.

    After n hits of n the lower end of Wilson's interval is n / (n + z²).
    """
    z = NormalDist().inv_cdf(0.975)
    return ceil(z * z * LEAST / (1 - LEAST))


def judged_in(folders: Sequence[Path]) -> Found:
    """Return every quantity that was planned and measured in the runs of some folders.

    A run counts once, however many copies of its folder there are: those that have the same plan
    and the same training are one run.

    Args:
        folders: of runs, or with runs below them; without any, `outputs` and `sweeps` of the
            current folder.

    Raises:
        StratosError: a folder is not there.
    """
    found = Found()
    places: set[Path] = set()
    runs: dict[str, list[Judged]] = {}
    for job in runs_in(folders, "calibration"):
        if (place := job.folder.resolve()) in places:
            continue
        places.add(place)
        if not (rows := _of_run(job)):
            continue
        known = runs.setdefault(mark := _mark(job.folder), rows)
        if known is not rows:
            # Of copies that were stopped at another stage the one that tells most counts.
            runs[mark], copy = sorted((known, rows), key=len, reverse=True)
            found.copies.append(copy[0].folder)
    found.rows += (one for rows in runs.values() for one in rows)
    return found


def _mark(folder: Path) -> str:
    """Return by which a run is known again: its plan and its training, with their clocks' times."""
    told = hashlib.sha256()
    for stage in ("plan", "distill"):
        path = folder / f"{stage}.json"
        told.update(path.read_bytes() if path.exists() else b"")
    return told.hexdigest()


def _of_run(job: Job) -> list[Judged]:
    plan: Plan | None = job.records.get("plan")
    if plan is None:
        return []
    rows = planned_rows(plan, job.records, read_ledger(job.folder / "ledger.jsonl"))
    probe = job.records.get("probe")
    task = "" if probe is None else probe.task
    return [Judged(str(job.folder), task, plan.student, row) for row in rows]


def hits_of(found: Iterable[Judged]) -> list[Hits]:
    """Count the quantities of each kind, in the order in which they come first."""
    by_kind: dict[tuple[Kind, bool], list[PlannedRow]] = {}
    for one in found:
        by_kind.setdefault((one.row.kind, one.row.figures.is_bound), []).append(one.row)
    return [_hits(*key, rows) for key, rows in by_kind.items()]


def _hits(kind: Kind, is_bound: bool, rows: list[PlannedRow]) -> Hits:
    told = [row for row in rows if row.outcome != "open"]
    untold = [row.figures.would_be for row in rows if row.outcome == "open"]
    n_inside = sum(row.outcome == "inside" for row in told)
    widths = [row.width for row in told if row.width is not None]
    pairs = [
        (row.figures.measured, row.figures.high if is_bound else row.figures.planned)
        for row in told
    ]
    ratios = [measured / predicted for measured, predicted in pairs if predicted]
    return Hits(
        kind,
        is_bound,
        len(told),
        n_inside,
        len(untold),
        len(untold) - untold.count("open"),
        untold.count("inside"),
        wilson(n_inside, len(told)),
        median(widths) if widths else None,
        median(ratios) if ratios else None,
    )
