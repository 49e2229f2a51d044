"""`stratos calibration`: how often the plans of past runs came true."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, comb
from pathlib import Path
from statistics import NormalDist, median
from typing import Literal

from rich.text import Text

from stratos.core import tables
from stratos.core.formats import NOTHING, counted, interval, percent, visible
from stratos.core.intervals import wilson
from stratos.core.output import add_flag, json_line
from stratos.core.tables import Column
from stratos.records import Interval, Plan
from stratos.report.costs import read_ledger
from stratos.report.planned import Kind, PlannedRow, planned_rows, written_width
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
class Judgements:
    """What was planned and measured in some folders."""

    rows: list[Judged] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    """Folders that hold a run which another one holds, too. Their rows are left out."""


@dataclass(frozen=True)
class Hits:
    """All values of one kind that have an interval, or all that have an upper bound."""

    name: str
    """The kind; latencies alone and under load are apart."""
    kind: Kind
    is_bound: bool
    n: int
    """Those that can be judged."""
    n_inside: int
    n_open: int
    """Those that are not judged: nothing was predicted, it was measured elsewhere, or slower than
    predicted beside other work."""
    n_known: int
    """All that have an interval, judged or not,"""
    n_known_inside: int
    """and of these, those that lie in it."""
    known_ratio: float | None
    """Median of measured over planned of all that have an interval; None without any."""
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


def judged_in(folders: Sequence[Path]) -> Judgements:
    """Return every quantity that was planned and measured in the runs of some folders.

    A run counts once, however many copies of its folder there are: those that have the same plan
    and the same training are one run.

    Args:
        folders: of runs, or with runs below them; without any, `outputs` and `sweeps` of the
            current folder.

    Raises:
        StratosError: a folder is not there.
    """
    result = Judgements()
    places: set[Path] = set()
    runs: dict[str, list[Judged]] = {}
    for job in runs_in(folders, "calibration"):
        if (folder := job.folder.resolve()) in places:
            continue
        places.add(folder)
        if not (rows := _of_run(job)):
            continue
        known = runs.setdefault(mark := _mark(job.folder), rows)
        if known is not rows:
            # Of copies that were stopped at another stage the one that tells most counts.
            runs[mark], copy = sorted((known, rows), key=len, reverse=True)
            result.copies.append(copy[0].folder)
    result.rows += (row for rows in runs.values() for row in rows)
    return result


def _mark(folder: Path) -> str:
    """Return by which a run is known again: its plan and its training, with their clocks' times."""
    digest = hashlib.sha256()
    for stage in ("plan", "distill"):
        path = folder / f"{stage}.json"
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def _of_run(job: Job) -> list[Judged]:
    plan: Plan | None = job.records.get("plan")
    if plan is None:
        return []
    rows = planned_rows(plan, job.records, read_ledger(job.folder / "ledger.jsonl"))
    probe = job.records.get("probe")
    task = "" if probe is None else probe.task
    return [Judged(str(job.folder), task, plan.student, row) for row in rows]


def hits_of(judged: Iterable[Judged]) -> list[Hits]:
    """Count the quantities of each kind, in the order in which they come first."""
    by_kind: dict[tuple[str, Kind, bool], list[PlannedRow]] = {}
    for row in (entry.row for entry in judged):
        name = row.quantity.partition(",")[0] if row.kind == "latency" else row.kind
        by_kind.setdefault((name, row.kind, row.figures.is_bound), []).append(row)
    return [_hits(*key, rows) for key, rows in by_kind.items()]


def _hits(name: str, kind: Kind, is_bound: bool, rows: list[PlannedRow]) -> Hits:
    closed = [row for row in rows if row.outcome != "open"]
    known = [row for row in rows if row.outcome != "open" or row.figures.would_be != "open"]
    n_inside = sum(row.outcome == "inside" for row in closed)
    n_open_inside = sum(row.figures.would_be == "inside" for row in known if row not in closed)
    widths = [row.width for row in closed if row.width is not None]
    return Hits(
        name,
        kind,
        is_bound,
        len(closed),
        n_inside,
        len(rows) - len(closed),
        len(known),
        n_inside + n_open_inside,
        _ratio(known, is_bound),
        wilson(n_inside, len(closed)),
        median(widths) if widths else None,
        _ratio(closed, is_bound),
    )


def _ratio(rows: Sequence[PlannedRow], is_bound: bool) -> float | None:
    figures = [row.figures for row in rows]
    pairs = [(of.measured, of.high if is_bound else of.planned) for of in figures]
    ratios = [measured / predicted for measured, predicted in pairs if predicted]
    return median(ratios) if ratios else None


_COLUMNS = (
    Column("quantity"),
    *(
        Column(name, is_number=True)
        for name in (
            "all:\ninside", "measured /\nplanned", "judged:\ninside", "share", "95% interval",
            "width", "measured /\nplanned",
        )
    ),
    Column(),
)  # fmt: skip
_CAPTION = (
    "Inside: in the 95% interval of the plan. All: whatever has an interval; judged: without what "
    "other work slowed, and what was measured elsewhere than planned. Width (median): high end "
    "minus low end of accuracy, high end over low end of all others. A wide interval is easily hit."
)
_BOUNDS = (
    Column("at most"),
    *(
        Column(name, is_number=True)
        for name in ("not exceeded", "measured/bound (median)", "not judged")
    ),
)
_MISSED = (
    *(Column(name, folds=True) for name in ("run", "student", "quantity")),
    *(Column(name, is_number=True) for name in ("planned", "95% interval", "measured")),
)
_STYLES = {"holds": "green", "too narrow": "bold red", "too few": "yellow", "bound": ""}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Compare what the plans of past runs predicted with what was measured: how often it lies "
        "in the 95% interval, and what missed. Runs below outputs/ and sweeps/, or in the folders "
        "given."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    add_flag(parser)


def run(args: argparse.Namespace) -> None:
    """Show hits and misses.

    Raises:
        StratosError: a folder is not there.
    """
    result = judged_in(args.folders)
    if args.json:
        print(json_line(_plain(result)))
    elif not result.rows:
        print(
            "No run here has a plan and a measurement. Type stratos calibration <folder of runs>."
        )
    else:
        _show(result)


def _show(result: Judgements) -> None:
    to = tables.console()
    kinds = hits_of(result.rows)
    rows = [_interval(entry) for entry in kinds if not entry.is_bound]
    tables.show(to, _COLUMNS, rows, f"{counted(_n_runs(result), 'run')} with a plan")
    to.print(Text(_CAPTION, style="italic"), soft_wrap=not to.is_terminal)
    if bounds := [_bound(entry) for entry in kinds if entry.is_bound]:
        tables.show(to, _BOUNDS, bounds, "Upper bounds")
    if result.copies:
        names = ", ".join(result.copies)
        to.print(
            Text(visible(f"Left out, since each is a copy of a run that counts: {names}.")),
            soft_wrap=True,
        )
    if missed := [_miss(entry) for entry in result.rows if entry.row.outcome == "outside"]:
        tables.show(to, _MISSED, missed, "Misses")
    if any(entry.verdict == "too few" for entry in kinds):
        to.print(
            f"Too few to tell: {n_to_tell()} values, all in their intervals, would show that at "
            f"least {percent(LEAST, 0)} are. Runs of one sweep share test items and machine, so "
            "they say less than as many runs apart.",
            soft_wrap=True,
        )


def _n_runs(result: Judgements) -> int:
    return len({row.folder for row in result.rows})


def _interval(hits: Hits) -> list[Text]:
    return [
        Text(hits.name),
        Text(f"{hits.n_known_inside} of {hits.n_known}" if hits.n_known else NOTHING),
        Text(NOTHING if hits.known_ratio is None else f"{hits.known_ratio:.2f}×"),
        Text(f"{hits.n_inside} of {hits.n}"),
        Text(percent(hits.share.mean) if hits.n else NOTHING),
        Text(interval(hits.share) if hits.n else NOTHING),
        Text(NOTHING if hits.width is None else written_width(hits.width, hits.kind)),
        Text(NOTHING if hits.ratio is None else f"{hits.ratio:.2f}×"),
        Text(_said(hits), style=_STYLES[hits.verdict]),
    ]


def _bound(hits: Hits) -> list[Text]:
    ratio = NOTHING if hits.ratio is None else percent(hits.ratio, 0)
    cells = (hits.kind, f"{hits.n_inside} of {hits.n}", ratio, str(hits.n_open))
    return [Text(cell) for cell in cells]


def _miss(judged: Judged) -> list[Text]:
    row = judged.row
    cells = (judged.folder, judged.student, row.quantity, row.planned, row.interval, row.measured)
    return [Text(visible(cell or NOTHING)) for cell in cells]


def _said(hits: Hits) -> str:
    return {
        "holds": f"at least {percent(LEAST, 0)}",
        "too narrow": f"TOO NARROW for {percent(CLAIMED, 0)}",
        "too few": "too few to tell",
        "bound": "",
    }[hits.verdict]


def _plain(result: Judgements) -> dict[str, object]:
    return {
        "n_runs": _n_runs(result),
        "copies": result.copies,
        "kinds": [
            {**dataclasses.asdict(hits), "verdict": hits.verdict} for hits in hits_of(result.rows)
        ],
        "rows": result.rows,
        "n_to_tell": n_to_tell(),
    }
