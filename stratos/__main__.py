"""`python -m stratos`, and `stratos`: one command with a verb for each thing it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stratos.cli.verbs import obey
from stratos.core.output import guarded
from stratos.core.process import prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for, and return its exit code.

    Args:
        argv: the words behind the name of the program; None for those of this process.

    Raises:
        SystemExit: argparse has shown help or an error, or a run has failed.
    """
    with guarded():
        prepare()
        if "" not in sys.path:
            sys.path.append("")  # classes of the user's own are found as by `python -m`
        return obey(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
