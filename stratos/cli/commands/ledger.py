"""`stratos ledger RUN`: what a run has spent; with --spent-usd, say it yourself."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.core.formats import exact_usd
from stratos.core.output import add_flag, json_line
from stratos.core.process import locked
from stratos.ledger.book import Ledger
from stratos.ledger.file import LedgerError, set_aside
from stratos.ledger.lines import Stated, written
from stratos.ledger.reserves import leases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = "Show what a run has spent."
    parser.add_argument("run", type=Path, help="run folder, such as outputs/<run>")
    parser.add_argument(
        "--spent-usd",
        type=_usd,
        help="what was spent so far: begins a new ledger, and keeps the damaged one beside it",
    )
    add_flag(parser)


def run(args: argparse.Namespace) -> None:
    """Show the ledger of a run folder, or begin a new one in place of a damaged one.

    Raises:
        StratosError: there is no such folder, a run works in it, or the ledger is damaged.
    """
    if not args.run.is_dir():
        raise StratosError(f"{args.run}: there is no such folder.")
    path = args.run / "ledger.jsonl"
    if args.spent_usd is not None:
        aside = _begin(path, args.spent_usd)
        if aside is not None and not args.json:
            print(f"The ledger before is kept as {aside}.")
    ledger = Ledger(path)
    if args.json:
        print(
            json_line(
                {
                    "spent_usd": ledger.spent_usd,
                    "reserved_usd": ledger.reserved_usd,
                    "spent_by_stage": ledger.spent_by_stage(),
                    "held": ledger.totals.reserves,
                }
            )
        )
        return
    _show(path, ledger)


def _begin(path: Path, spent_usd: float) -> Path | None:
    """Begin a new ledger; return where the damaged one is kept now.

    Raises:
        StratosError: a run works in the folder, or the ledger is as it was written.
    """
    try:
        with locked(path.with_name(".lock")):
            _check_damaged(path)
            aside = set_aside(path)
            line = Stated(usd=spent_usd, total_usd=spent_usd, at=round(time.time(), 3))
            path.write_bytes(written(line))
    except BlockingIOError:
        raise StratosError(
            f"{path.parent}: a run is working in this folder. Wait for it to end."
        ) from None
    return aside


def _check_damaged(path: Path) -> None:
    """Refuse to set a ledger aside that can be read."""
    if path.exists():
        with suppress(LedgerError):
            ledger = Ledger(path)
            raise StratosError(
                f"{path} is not damaged: {exact_usd(ledger.spent_usd)} spent. It stays as it is; "
                "--spent-usd is for one that cannot be read."
            )


def _show(path: Path, ledger: Ledger) -> None:
    print(f"{path}: {exact_usd(ledger.spent_usd)} spent", end="")
    if ledger.reserved_usd:
        print(f", {exact_usd(ledger.reserved_usd)} set aside for calls under way", end="")
    print()
    for stage, usd in sorted(ledger.spent_by_stage().items()):
        print(f"  {stage or 'before'}: {exact_usd(usd)}")
    for role, reserve in ledger.totals.reserves.items():
        released = (
            "" if reserve.released_usd is None else f", {exact_usd(reserve.released_usd)} released"
        )
        print(
            f"  held for {role}: {exact_usd(reserve.usd)}, {exact_usd(reserve.spent_usd)} of it "
            "spent"
            f"{released}"
        )
    for lease in leases(ledger):
        state = "not launched" if lease.launched_at is None else f"{exact_usd(lease.usd())} so far"
        print(f"  rented and not released: {lease.line.what} ({state})")


def _usd(text: str) -> float:
    try:
        usd = float(text)
    except ValueError:
        usd = -1.0
    if not 0 <= usd < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of dollars, at least 0")
    return usd
