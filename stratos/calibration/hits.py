"""Predictions of many runs beside what came: hits, misses, and whether they are enough to tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, comb
from pathlib import Path
from statistics import NormalDist, median
from typing import Literal

from stratos.core.intervals import wilson
from stratos.records import Interval, Plan
from stratos.report.costs import read_ledger
from stratos.report.planned import planned_rows
from stratos.report.planned_row import Kind, PlannedRow
from stratos.report.sweep_jobs import Job, runs_in

CLAIMED = 0.95
"""How often a measured value is to lie in its interval."""
LEAST = 0.9
"""Share of hits that shows that it does well enough."""
_SELDOM = 0.025
"""Probability below which so few hits show that intervals are too narrow."""
Verdict = Literal["holds", "too narrow", "too few"]


@dataclass(frozen=True)
class Judged:
    """One quantity of one run."""

    folder: str
    task: str
    student: str
    row: PlannedRow


@dataclass(frozen=True)
class Hits:
    """All values of one kind."""

    kind: Kind
    n: int
    """Those that can be judged."""
    n_inside: int
    n_open: int
    """Those that cannot: nothing was predicted, or it was measured elsewhere."""
    share: Interval
    """Of those that lie in their interval, with Wilson's 95%."""
    ratio: float | None
    """Median of measured over planned, of those that can be judged; None without any."""

    @property
    def verdict(self) -> Verdict:
        """Whether the intervals are as wide as they have to be."""
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


def judged_in(folders: Sequence[Path]) -> list[Judged]:
    """Return every quantity that was planned and measured in the runs of some folders.

    Args:
        folders: of runs, or with runs below them; without any, `outputs` and `sweeps` of the
            current folder.

    Raises:
        StratosError: a folder is not there.
    """
    found: dict[Path, list[Judged]] = {}
    for job in runs_in(folders, "calibration"):
        found.setdefault(job.folder.resolve(), _of_run(job))
    return [one for run in found.values() for one in run]


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
    by_kind: dict[Kind, list[PlannedRow]] = {}
    for one in found:
        by_kind.setdefault(one.row.kind, []).append(one.row)
    return [_hits(kind, rows) for kind, rows in by_kind.items()]


def _hits(kind: Kind, rows: list[PlannedRow]) -> Hits:
    outcomes = [row.outcome for row in rows]
    n_inside, n_outside = outcomes.count("inside"), outcomes.count("outside")
    ratios = [
        row.figures.measured / row.figures.planned
        for row in rows
        if row.figures.planned and row.outcome != "open" and kind != "memory"  # a bound, no mean
    ]
    n = n_inside + n_outside
    return Hits(
        kind,
        n,
        n_inside,
        outcomes.count("open"),
        wilson(n_inside, n),
        median(ratios) if ratios else None,
    )
