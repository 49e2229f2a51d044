"""`stratos calibration`: how often the plans of past runs came true."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rich.text import Text

from stratos.contrib.monitor.hits import (
    CLAIMED,
    LEAST,
    Found,
    Hits,
    Judged,
    hits_of,
    judged_in,
    n_to_tell,
)
from stratos.core import tables
from stratos.core.counted import counted
from stratos.core.formats import NOTHING, interval, percent
from stratos.core.json_line import add_flag, json_line
from stratos.core.printable import visible
from stratos.core.tables import Column
from stratos.report.planned import written_width

_COLUMNS = (
    Column("quantity"),
    *(
        Column(name, is_number=True)
        for name in (
            "inside", "share", "95% interval", "width", "measured /\nplanned", "not\njudged",
            "of these\ninside",
        )
    ),
    Column(),
)  # fmt: skip
_CAPTION = (
    "Inside: in the 95% interval of the plan. Width (median): high end minus low end of accuracy, "
    "high end over low end of all others. A wide interval is easily hit."
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
    found = judged_in(args.folders)
    if args.json:
        print(json_line(_plain(found)))
    elif not found.rows:
        print(
            "No run here has a plan and a measurement. Type stratos calibration <folder of runs>."
        )
    else:
        _show(found)


def _show(found: Found) -> None:
    to = tables.console()
    kinds = hits_of(found.rows)
    rows = [_interval(one) for one in kinds if not one.is_bound]
    tables.show(to, _COLUMNS, rows, f"{counted(_n_runs(found), 'run')} with a plan")
    to.print(Text(_CAPTION, style="italic"), soft_wrap=not to.is_terminal)
    if bounds := [_bound(one) for one in kinds if one.is_bound]:
        tables.show(to, _BOUNDS, bounds, "Upper bounds")
    if found.copies:
        names = ", ".join(found.copies)
        to.print(
            Text(visible(f"Left out, since each is a copy of a run that counts: {names}.")),
            soft_wrap=True,
        )
    if missed := [_miss(one) for one in found.rows if one.row.outcome == "outside"]:
        tables.show(to, _MISSED, missed, "Misses")
    if any(one.verdict == "too few" for one in kinds):
        to.print(
            f"Too few to tell: {n_to_tell()} values, all in their intervals, would show that at "
            f"least {percent(LEAST, 0)} are. Runs of one sweep share test items and machine, so "
            "they say less than as many runs apart.",
            soft_wrap=True,
        )


def _n_runs(found: Found) -> int:
    return len({one.folder for one in found.rows})


def _interval(one: Hits) -> list[Text]:
    return [
        Text(one.kind),
        Text(f"{one.n_inside} of {one.n}"),
        Text(percent(one.share.mean) if one.n else NOTHING),
        Text(interval(one.share) if one.n else NOTHING),
        Text(NOTHING if one.width is None else written_width(one.width, one.kind)),
        Text(NOTHING if one.ratio is None else f"{one.ratio:.2f}×"),
        Text(str(one.n_open)),
        Text(f"{one.n_open_inside} of {one.n_open_known}" if one.n_open_known else NOTHING),
        Text(_said(one), style=_STYLES[one.verdict]),
    ]


def _bound(one: Hits) -> list[Text]:
    ratio = NOTHING if one.ratio is None else percent(one.ratio, 0)
    cells = (one.kind, f"{one.n_inside} of {one.n}", ratio, str(one.n_open))
    return [Text(cell) for cell in cells]


def _miss(one: Judged) -> list[Text]:
    row = one.row
    cells = (one.folder, one.student, row.quantity, row.planned, row.interval, row.measured)
    return [Text(visible(cell or NOTHING)) for cell in cells]


def _said(one: Hits) -> str:
    return {
        "holds": f"at least {percent(LEAST, 0)}",
        "too narrow": f"TOO NARROW for {percent(CLAIMED, 0)}",
        "too few": "too few to tell",
        "bound": "",
    }[one.verdict]


def _plain(found: Found) -> dict[str, object]:
    return {
        "n_runs": _n_runs(found),
        "copies": found.copies,
        "kinds": [
            {**dataclasses.asdict(hits), "verdict": hits.verdict} for hits in hits_of(found.rows)
        ],
        "rows": found.rows,
        "n_to_tell": n_to_tell(),
    }
