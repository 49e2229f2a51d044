"""`python -m stratos.status`: the runs of this folder, what each is at, has cost and reached."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import duration, interval, milliseconds, percent, usd
from stratos.core.printable import visible
from stratos.status.standing import Standing, standings

SHOWN = 20
_WIDTH = 120
"""Columns where there is no terminal."""
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "unfinished": "yellow"}


def main() -> None:
    """List the runs; exit with 2 where a folder is not there."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m stratos.status",
        description="List the runs below outputs/ and sweeps/, or in the folders given, the newest "
        "first: stage, money, accuracy on test items.",
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--all", action="store_true", help=f"more than the newest {SHOWN}")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    told = parser.parse_args()
    try:
        found = standings(told.folders)
    except StratosError as error:
        print(visible(str(error)), file=sys.stderr)
        sys.exit(2)
    shown = found if told.all or told.json else found[:SHOWN]
    if told.json:
        for one in shown:
            print(json.dumps(_plain(dataclasses.asdict(one))))
        return
    if not found:
        print("There is no run here. Type python -m stratos.status <folder of runs>.")
        return
    _show(shown)
    if len(shown) < len(found):
        print(f"{counted(len(found) - len(shown), 'older run')}: python -m stratos.status --all")


def _show(found: list[Standing]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    table = Table()
    for heading in ("run", "task", "status", "student", "accuracy"):
        table.add_column(heading, overflow="fold")
    for heading in ("teacher", "spent", "planned", "p95", "ago"):
        table.add_column(heading, justify="right")
    for one in found:
        table.add_row(
            Text(visible(one.folder)),
            Text(visible(one.task)),
            Text(visible(f"{one.status} {one.why}".strip()), style=_STYLES[one.status]),
            Text(visible(one.student)),
            Text(_accuracy(one)),
            "" if one.teacher_accuracy is None else percent(one.teacher_accuracy),
            usd(one.spent_usd),
            "" if one.planned_usd is None else usd(one.planned_usd),
            "" if one.latency_p95_ms is None else milliseconds(one.latency_p95_ms),
            duration(one.seconds_ago),
        )
    console.print(table)


def _accuracy(one: Standing) -> str:
    if one.accuracy is not None:
        return f"{percent(one.accuracy.mean)} ({interval(one.accuracy)})"
    if one.validation_accuracy is not None:
        return f"{percent(one.validation_accuracy)} on validation items"
    return ""


def _plain(value: object) -> object:
    """Return a value without infinities and NaN, which JSON has none of."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    main()
