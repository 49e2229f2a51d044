"""`stratos demo`: 200 support tickets, a student of them, and what it answers over HTTP."""

from __future__ import annotations

import argparse
import shlex
import shutil
from pathlib import Path

from stratos.deploy.bundle_server import ask
from stratos.deploy.student import load

ROWS = Path(__file__).parents[1] / "demo_tickets.csv"
"""Written for this demo: 20 tickets of each of ten labels."""
TICKETS = (
    "The money for one order has left my account two times.",
    "My box should have come on Monday, where has it got to?",
    "I do not want to pay for premium any longer.",
)
"""None of them is a row."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Train, test and host a student of 200 support tickets, and ask it: on this machine, "
        "without network or account, in two minutes."
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("stratos-demo"),
        help="where rows and run lie (default: stratos-demo); the same folder goes on",
    )


def run(args: argparse.Namespace) -> None:
    """Run the demo, and say what to type next.

    Raises:
        StratosError: the folder cannot be written, or a stage cannot go on.
        SystemExit: the run has failed.
    """
    from stratos.cli.commands.run import run_hydra

    rows, folder = args.folder / "tickets.csv", args.folder / "run"
    if not rows.exists():
        rows.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROWS, rows)
    words = ["+task=classify", f"task.path={rows}", f"hydra.run.dir={folder}"]
    words += ["logger=none", "deploy.load_seconds=2"]
    print(f"200 support tickets of ten labels are in {rows}. What follows is what this prints:")
    print(f"    stratos run {shlex.join(words)}\n", flush=True)
    run_hydra(words)
    student = load(folder)
    print("\nTickets that are no rows, asked over HTTP:", flush=True)
    with student.serve() as server:
        for ticket in TICKETS:
            label = ask(server.port, [{"role": "user", "content": ticket}])
            print(f"    {ticket} → {label} ({student.probability(ticket)[label]:.0%} sure)")
    print(
        "\nNext, with a file of yours that has the columns text and label:\n"
        "    stratos look <file.csv>                           what it holds, in seconds\n"
        "    stratos run +task=classify task.path=<file.csv>   a student of it\n"
        f"The page of this run: {folder / 'report.html'}\n"
        f"To try it in a browser: stratos serve {shlex.quote(str(folder))} --page"
    )
