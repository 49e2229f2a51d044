"""`stratos sweep resume`: run what is missing of a sweep."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.printable import visible
from stratos.report.sweep_command import command_of


def main(argv: Sequence[str] | None = None) -> None:
    """Give the command of the sweep again, for the jobs that have not finished.

    Exits with 2 if there is no such sweep, else as the sweep does.
    """
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="stratos sweep",
        description="Run the jobs of a sweep that failed, were stopped or never began. Each goes "
        "on in its own folder; those that have finished are left alone.",
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
    told = parser.parse_args(argv)
    try:
        command = command_of(told.folder, told.overrides)
    except StratosError as error:
        print(visible(str(error)), file=sys.stderr)
        sys.exit(2)
    os.chdir(command.folder)  # relative paths are those of where it was typed
    sys.argv = ["stratos", *command.words]
    from stratos.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
