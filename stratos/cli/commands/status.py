"""`stratos status`: the runs of this folder, what each is at, has cost and reached."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path

from rich.text import Text

from stratos.core import tables
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import duration, interval, milliseconds, percent, usd
from stratos.core.printable import visible
from stratos.core.tables import Column
from stratos.report.standing import Standing, standings

SHOWN = 20
_COLUMNS = (
    *(Column(name) for name in ("run", "task", "status", "student", "accuracy")),
    *(Column(name, is_number=True) for name in ("teacher", "spent", "planned", "p95", "ago")),
)
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "unfinished": "yellow"}


def main() -> None:
    """List the runs; exit with 2 where a folder is not there."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="stratos status",
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
        print("There is no run here. Type stratos status <folder of runs>.")
        return
    _show(shown)
    if len(shown) < len(found):
        print(f"{counted(len(found) - len(shown), 'older run')}: stratos status --all")


def _show(found: list[Standing]) -> None:
    to = tables.console()
    rows = [_row(one) for one in found]
    if tables.fits(to, _COLUMNS, rows):
        tables.show(to, _COLUMNS, rows)
        return
    for one in found:  # the name of a run is to be copied: it is never broken
        to.print(Text(visible(one.folder), style="bold"), soft_wrap=True)
        tables.show_below(to, _details(one))


def _row(one: Standing) -> list[Text]:
    return [
        Text(visible(one.folder)),
        Text(visible(one.task)),
        _status(one),
        Text(visible(one.student)),
        Text(_accuracy(one)),
        Text(visible(_teacher(one))),
        Text(usd(one.spent_usd)),
        Text("" if one.planned_usd is None else usd(one.planned_usd)),
        Text("" if one.latency_p95_ms is None else milliseconds(one.latency_p95_ms)),
        Text(duration(one.seconds_ago)),
    ]


def _details(one: Standing) -> Text:
    """Return what a row of the table has beside the name, on as many lines as it takes."""
    planned = "" if one.planned_usd is None else f" of {usd(one.planned_usd)} planned"
    found = (
        visible(one.task),
        " ".join(filter(None, (visible(one.student), _accuracy(one)))),
        f"teacher {visible(_teacher(one))}" if _teacher(one) else "",
        f"{usd(one.spent_usd)} spent{planned}",
        "" if one.latency_p95_ms is None else f"p95 {milliseconds(one.latency_p95_ms)}",
        f"{duration(one.seconds_ago)} ago",
    )
    return Text(" · ").join([_status(one), *(Text(part) for part in found if part)])


def _status(one: Standing) -> Text:
    return Text(visible(f"{one.status} {one.why}".strip()), style=_STYLES[one.status])


def _teacher(one: Standing) -> str:
    accuracy = "" if one.teacher_accuracy is None else percent(one.teacher_accuracy)
    return " ".join(filter(None, (one.teacher, accuracy)))


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
