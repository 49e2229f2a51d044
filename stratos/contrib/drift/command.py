"""`stratos drift LOG --run RUN`: is live traffic what the student was tested on?"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rich.text import Text

from stratos.contrib.drift.live import absolute, evaluated, logged
from stratos.contrib.drift.renewal import Renewal, renewal, unchecked
from stratos.contrib.drift.shifts import MOST, Shift, shifts
from stratos.core import tables
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import p_value, percent
from stratos.core.json_line import add_flag, json_line
from stratos.core.printable import visible
from stratos.core.tables import Column

STILL, MOVED = 0, 1
_COLUMNS = (
    Column(),
    Column("evaluation", folds=True),
    Column("live", folds=True),
    Column("p", is_number=True),
    Column(),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Compare live requests and answers with those of a run's evaluation: words and lengths of "
        "questions, lengths of answers, answers that cannot be read, shares of answers."
    )
    parser.epilog = (
        "exit code: 0 no shift, 1 a shift, 2 cannot be compared. example: stratos drift "
        "calls.jsonl --run outputs/<run>"
    )
    parser.add_argument("log", metavar="LOG", help="file or URL of logged requests with answers")
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="false alarms per check (default 0.01)"
    )
    parser.add_argument("--messages-key", help="field of the messages, if not recognised")
    parser.add_argument("--answer-key", help="field of the answer beside them")
    parser.add_argument(
        "--no-price", dest="price", action="store_false",
        help="do not plan a new student after a shift (that takes seconds, and asks nobody)",
    )  # fmt: skip
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Compare a log with an evaluation; return 1 where something has shifted.

    Raises:
        StratosError: they cannot be compared.
    """
    if not 0 < args.alpha < 1:
        raise StratosError(f"--alpha {args.alpha:g}: type a share between 0 and 1, as 0.01.")
    from stratos.run.kept_config import config_of

    log, run_dir = absolute(args.log), args.run.absolute()
    if not run_dir.is_dir():
        raise StratosError(f"{args.run} is no folder. Name the folder of a run.")
    task = config_of(run_dir).task
    before = evaluated(run_dir, task.parse)
    now, n_wrong = logged(log, task.parse, args.messages_key, args.answer_key)
    checks = shifts(before, now, args.alpha)
    moved = [check for check in checks if check.is_shift]
    new = None
    if moved and args.price:
        new = renewal(run_dir, task, log, now, args.messages_key, args.answer_key)
    if args.json:
        plain = {
            "moved": bool(moved),
            "alpha": args.alpha,
            "n_evaluated": len(before),
            "n_live": len(now),
            "n_unread_rows": n_wrong,
            "checks": checks,
            "renewal": new,
        }
        print(json_line(plain))
    else:
        _show(checks, args.alpha)
        _tell(moved, len(before), len(now), n_wrong)
        if moved:
            _tell_price(new, unchecked(now))
    return MOVED if moved else STILL


def _show(found: list[Shift], alpha: float) -> None:
    to = tables.console()
    rows = [
        [
            Text(one.name),
            Text(visible(one.before)),
            Text(visible(one.now)),
            Text(p_value(one.p_value)),
            Text("SHIFT", style="bold red") if one.is_shift else Text(""),
        ]
        for one in found
    ]
    tables.show(to, _COLUMNS, rows)
    to.print(
        f"A shift is p ≤ {alpha / len(found):.2g}: if nothing has changed, "
        f"{percent(alpha)} of checks like this one alarm.",
        soft_wrap=True,
    )


def _tell(moved: list[Shift], n_before: int, n_now: int, n_wrong: int) -> None:
    part = f", of which {MOST:,} at most are compared" if max(n_before, n_now) > MOST else ""
    left_out = f"; {counted(n_wrong, 'row')} could not be read" if n_wrong else ""
    items = counted(n_before, "test item", spec=",")
    print(f"{items}, {counted(n_now, 'live request', spec=',')}{part}{left_out}.")
    if not moved:
        print("No shift.")
        return
    names = ", ".join(one.name for one in moved)
    print(f"SHIFT: {names}. The measured accuracy may not hold here.")


def _tell_price(new: Renewal | None, warning: str) -> None:
    """Say what a student of these requests costs, and what to type for it."""
    if new is None:
        print(f"{warning} Without --no-price a student of these requests is planned.")
        return
    print(visible(new.warning))
    if not new.overrides:
        return
    print(f"A student of these requests: {visible(new.text)}")
    head = "Type" if new.usd is not None else "Once that is mended, type"
    print(f"{head}: python -m stratos {visible(shlex.join(new.overrides))}")
