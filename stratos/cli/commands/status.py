"""`stratos status`: the runs of this folder, what each is at, has cost and reached."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.text import Text

from stratos.core import tables
from stratos.core.errors import StratosError
from stratos.core.formats import counted, duration, interval, milliseconds, percent, usd, visible
from stratos.core.output import add_flag, json_line
from stratos.core.tables import Column
from stratos.report.sweep_jobs import Standing, standings

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
    parser.add_argument(
        "--page", action="store_true",
        help="write the page of the newest run, and keep it new while the run works",
    )  # fmt: skip
    add_flag(parser, "one JSON object per line")


def run(args: argparse.Namespace) -> None:
    """List the runs.

    Raises:
        StratosError: a folder is not there.
    """
    runs = standings(args.folders)
    if args.page:
        _keep_page(runs)
        return
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


def _keep_page(runs: list[Standing]) -> None:
    """Write the page of the newest run, one that works before all others, until the run ends."""
    from stratos.run.live_page import EVERY_S, NAME, show_in_browser, write_live_page

    if not runs:
        raise StratosError("There is no run here. Type stratos status --page <folder of a run>.")
    newest = next((run for run in runs if run.status == "running"), runs[0])
    folder = Path(newest.folder)
    status = write_live_page(folder)
    page = folder / NAME if status != "finished" else folder / "report.html"
    print(f"Page    {page}", flush=True)
    show_in_browser(page)
    while status == "running":
        time.sleep(EVERY_S)
        status = write_live_page(folder)


def _show(runs: list[Standing]) -> None:
    to = tables.console()
    rows = [_row(standing) for standing in runs]
    if tables.fits(to, _COLUMNS, rows):
        tables.show(to, _COLUMNS, rows)
        return
    for standing in runs:  # the name of a run is to be copied: it is never broken
        to.print(Text(visible(standing.folder), style="bold"), soft_wrap=True)
        tables.show_below(to, _details(standing))


def _row(standing: Standing) -> list[Text]:
    return [
        Text(visible(standing.folder)),
        Text(visible(standing.task)),
        _status(standing),
        Text(visible(standing.student)),
        Text(_accuracy(standing)),
        Text(visible(_teacher(standing))),
        Text(usd(standing.spent_usd)),
        Text("" if standing.planned_usd is None else usd(standing.planned_usd)),
        Text("" if standing.latency_p95_ms is None else milliseconds(standing.latency_p95_ms)),
        Text(duration(standing.seconds_ago)),
    ]


def _details(standing: Standing) -> Text:
    """Return what a row of the table has beside the name, on as many lines as it takes."""
    planned = "" if standing.planned_usd is None else f" of {usd(standing.planned_usd)} planned"
    details = (
        visible(standing.task),
        " ".join(filter(None, (visible(standing.student), _accuracy(standing)))),
        f"teacher {visible(_teacher(standing))}" if _teacher(standing) else "",
        f"{usd(standing.spent_usd)} spent{planned}",
        "" if standing.latency_p95_ms is None else f"p95 {milliseconds(standing.latency_p95_ms)}",
        f"{duration(standing.seconds_ago)} ago",
    )
    return Text(" · ").join([_status(standing), *(Text(part) for part in details if part)])


def _status(standing: Standing) -> Text:
    return Text(
        visible(f"{standing.status} {standing.why}".strip()), style=_STYLES[standing.status]
    )


def _teacher(standing: Standing) -> str:
    accuracy = "" if standing.teacher_accuracy is None else percent(standing.teacher_accuracy)
    return " ".join(filter(None, (standing.teacher, accuracy)))


def _accuracy(standing: Standing) -> str:
    if standing.accuracy is not None:
        return f"{percent(standing.accuracy.mean)} ({interval(standing.accuracy)})"
    if standing.validation_accuracy is not None:
        return f"{percent(standing.validation_accuracy)} on validation items"
    return ""
