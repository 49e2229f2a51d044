"""`python -m stratos.calibration`: how often the plans of past runs came true."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratos.calibration.hits import CLAIMED, LEAST, Hits, Judged, hits_of, judged_in, n_to_tell
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import NOTHING, interval, percent
from stratos.core.printable import visible

_WIDTH = 120
"""Columns where there is no terminal."""
_STYLES = {"holds": "green", "too narrow": "bold red", "too few": "yellow"}


def main() -> None:
    """Show hits and misses; exit with 2 where a folder is not there."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m stratos.calibration",
        description="Compare what the plans of past runs predicted with what was measured: how "
        "often it lies in the 95% interval, and what missed. Runs below outputs/ and sweeps/, or "
        "in the folders given.",
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    told = parser.parse_args()
    try:
        found = judged_in(told.folders)
    except StratosError as error:
        print(visible(str(error)), file=sys.stderr)
        sys.exit(2)
    if told.json:
        print(json.dumps(_plain(found)))
    elif not found:
        print(
            "No run here has a plan and a measurement. Type python -m stratos.calibration "
            "<folder of runs>."
        )
    else:
        _show(found)


def _show(found: list[Judged]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    n_runs = len({one.folder for one in found})
    table = Table(title=f"{counted(n_runs, 'run')} with a plan", title_justify="left")
    table.add_column("quantity")
    for heading in ("in the interval", "share", "95% interval", "not judged", "measured/planned"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in (kinds := hits_of(found)):
        table.add_row(
            one.kind,
            f"{one.n_inside} of {one.n}",
            percent(one.share.mean) if one.n else NOTHING,
            interval(one.share) if one.n else NOTHING,
            str(one.n_open),
            NOTHING if one.ratio is None else f"{one.ratio:.2f}×",
            Text(_said(one), style=_STYLES[one.verdict]),
        )
    console.print(table)
    missed = [one for one in found if one.row.outcome == "outside"]
    if missed:
        console.print(_misses(missed))
    if any(one.verdict == "too few" for one in kinds):
        console.print(
            f"Too few to tell: {n_to_tell()} values, all in their intervals, would show that at "
            f"least {percent(LEAST, 0)} are. Runs of one sweep share test items and machine, so "
            "they say less than as many runs apart.",
            soft_wrap=True,
        )


def _misses(missed: list[Judged]) -> Table:
    table = Table(title="Misses", title_justify="left")
    for heading in ("run", "student", "quantity"):
        table.add_column(heading, overflow="fold")
    for heading in ("planned", "95% interval", "measured"):
        table.add_column(heading, justify="right")
    for one in missed:
        row = one.row
        cells = (one.folder, one.student, row.quantity, row.planned, row.interval, row.measured)
        table.add_row(*(Text(visible(cell or NOTHING)) for cell in cells))
    return table


def _said(one: Hits) -> str:
    return {
        "holds": f"at least {percent(LEAST, 0)}",
        "too narrow": f"TOO NARROW for {percent(CLAIMED, 0)}",
        "too few": "too few to tell",
    }[one.verdict]


def _plain(found: list[Judged]) -> dict[str, object]:
    return {
        "n_runs": len({one.folder for one in found}),
        "kinds": [{**dataclasses.asdict(one), "verdict": one.verdict} for one in hits_of(found)],
        "rows": [dataclasses.asdict(one) for one in found],
        "n_to_tell": n_to_tell(),
    }


if __name__ == "__main__":
    main()
