"""`stratos sweep resume`: run what is missing of a sweep."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from stratos.cli.commands.run import run_hydra
from stratos.report.sweep_command import command_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Run the jobs of a sweep that failed, were stopped or never began. Each goes on in its own "
        "folder; those that have finished are left alone."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    resume = commands.add_parser("resume", help="run what is missing")
    resume.add_argument("folder", type=Path, help="of the sweep, as in sweeps/<time>")
    resume.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="of the launcher, such as hydra.launcher.n_jobs=4",
    )


def run(args: argparse.Namespace) -> None:
    """Give the command of the sweep again, for the jobs that have not finished.

    Raises:
        StratosError: there is no such sweep.
        SystemExit: a job has failed.
    """
    command = command_of(args.folder, args.overrides)
    os.chdir(command.folder)  # relative paths are those of where it was typed
    run_hydra(command.words)
