"""`stratos status`: the runs of this folder, what each is at, has cost and reached."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.text import Text

from stratos.core import tables
from stratos.core.formats import counted, duration, interval, milliseconds, percent, usd, visible
from stratos.core.output import add_flag, json_line
from stratos.core.tables import Column
from stratos.report.standing import Standing, standings

SHOWN = 20
_COLUMNS = (
    *(Column(name) for name in ("run", "task", "status", "student", "accuracy")),
    *(Column(name, is_number=True) for name in ("teacher", "spent", "planned", "p95", "ago")),
)
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "unfinished": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "List the runs below outputs/ and sweeps/, or in the folders given, the newest first: "
        "stage, money, accuracy on test items."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--all", action="store_true", help=f"more than the newest {SHOWN}")
    add_flag(parser, "one JSON object per line")


def run(args: argparse.Namespace) -> None:
    """List the runs.

    Raises:
        StratosError: a folder is not there.
    """
    runs = standings(args.folders)
    shown = runs if args.all or args.json else runs[:SHOWN]
    if args.json:
        for standing in shown:
            print(json_line(standing))
        return
    if not runs:
        print("There is no run here. Type stratos status <folder of runs>.")
        return
    _show(shown)
    if len(shown) < len(runs):
        print(f"{counted(len(runs) - len(shown), 'older run')}: stratos status --all")


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
