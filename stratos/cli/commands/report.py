"""`stratos report <sweep folder>`: write the page that compares a sweep's jobs."""

from __future__ import annotations

import argparse
from pathlib import Path

from stratos.core.errors import UsageError
from stratos.report import sweep_report
from stratos.report.sweep_jobs import is_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = "Compare the jobs of a sweep on one page, <folder>/index.html."
    parser.epilog = "example: stratos report sweeps/2026-05-28_10-12-01"
    parser.add_argument(
        "folder", type=Path, help="folder of the sweep, which holds one folder per job"
    )


def run(args: argparse.Namespace) -> None:
    """Write the page and say where it lies.

    Raises:
        StratosError: there is nothing to compare.
    """
    if is_run(args.folder):
        raise UsageError(
            f"{args.folder} is the folder of one run: its page is {args.folder / 'report.html'}. "
            "Name the folder of a sweep, as in sweeps/<time>."
        )
    print(sweep_report(args.folder))
