"""`stratos report <sweep folder>`: write the page that compares a sweep's jobs."""

from __future__ import annotations

import argparse
import sys

from stratos.core.errors import StratosError
from stratos.report import sweep_report


def main() -> None:
    """Write the page and say where it lies; exit with 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(
        prog="stratos report",
        description="Compare the jobs of a sweep on one page, <folder>/index.html.",
        epilog="example: stratos report sweeps/2026-05-28_10-12-01",
    )
    parser.add_argument("folder", help="folder of the sweep, which holds one folder per job")
    try:
        print(sweep_report(parser.parse_args().folder))
    except StratosError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
