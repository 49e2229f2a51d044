"""`stratos cascade RUN --accuracy 0.95`: when to ask the teacher, and what that costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from stratos.contrib.cascade.answered import answered
from stratos.contrib.cascade.verdict import cascade_of
from stratos.core.errors import StratosError
from stratos.core.formats import visible
from stratos.core.output import add_flag, json_line

PROMISED, REFUSED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Choose below which confidence a student asks its teacher, so that a promised accuracy "
        "holds with a stated probability, and say what that costs. Nothing is asked."
    )
    parser.epilog = "example: stratos cascade outputs/<run> --accuracy 0.95"
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of an evaluated run")
    parser.add_argument("--accuracy", type=float, required=True, help="share right, promised")
    parser.add_argument("--confidence", type=float, default=0.95, help="with which (default 0.95)")
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print the cascade of a run; return 1 where nothing can be promised.

    Raises:
        StratosError: a share is none, or the folder is none of an evaluated run.
    """
    for name in ("accuracy", "confidence"):
        if not 0 < getattr(args, name) < 1:
            raise StratosError(f"--{name}: type a share between 0 and 1, such as 0.95.")
    cascade = cascade_of(answered(args.run), args.accuracy, args.confidence)
    print(json_line(cascade) if args.json else visible(cascade.text))
    return PROMISED if cascade.is_promised else REFUSED
