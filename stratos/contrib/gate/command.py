"""`stratos gate NEW --against OLD`: an exit code that says whether NEW is worse."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from stratos.contrib.gate.betting import BettingTest, Counts, Outcome
from stratos.contrib.gate.frozen import Frozen, Side, frozen_of, right_in_turn, side_of
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.formats import percent
from stratos.core.json_line import add_flag, json_line
from stratos.core.printable import visible

PASSED, WORSE = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Test whether a student is worse than another by more than DELTA, item by item on frozen "
        "test items. Kept answers are used where there are some; a bundle is asked for the others, "
        "and no longer than until the test is sure."
    )
    parser.epilog = (
        "exit code: 0 not shown to be worse, 1 worse (with --strict also: not shown to be no "
        "worse), 2 cannot be compared. example: stratos gate outputs/<run>/bundle --against "
        "reference.jsonl, a copy of evaluate/answers.jsonl of an earlier run"
    )
    place = "run, bundle, or copy of evaluate/answers.jsonl"
    parser.add_argument("candidate", type=Path, metavar="NEW", help=place)
    parser.add_argument("--against", type=Path, metavar="OLD", required=True, help=place)
    parser.add_argument(
        "--delta", type=float, default=0.02, help="share it may be worse by (default 0.02)"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="how often a verdict may be wrong (default 0.05)"
    )
    parser.add_argument("--strict", action="store_true", help="fail where nothing is shown, too")
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Compare two students on frozen items; return 1 where the new one is worse.

    Raises:
        StratosError: they cannot be compared.
    """
    test = BettingTest(*_limits(args.delta, args.alpha))
    candidate, reference = side_of(args.candidate), side_of(args.against)
    frozen = frozen_of(candidate, reference)
    counts, outcome = compare(candidate, reference, frozen, test, _tick)
    is_passed = outcome == "no worse" or (outcome == "open" and not args.strict)
    if args.json:
        plain = {
            "outcome": outcome,
            "passed": is_passed,
            "counts": counts,
            "n_items": len(frozen.keys),
            "n_left_out": frozen.n_left_out,
            "items": frozen.digest,
            "delta": test.delta,
            "alpha": test.alpha,
        }
        print(json_line(plain))
    else:
        print(visible(said(counts, outcome, frozen, test)))
    return PASSED if is_passed else WORSE


def _limits(delta: float, alpha: float) -> tuple[float, float]:
    if not 0 <= delta < 1:
        raise StratosError(f"--delta {delta:g}: type a share from 0 to below 1, such as 0.02.")
    if not 0 < alpha < 1:
        raise StratosError(f"--alpha {alpha:g}: type a share between 0 and 1, such as 0.05.")
    return delta, alpha


def compare(
    candidate: Side,
    reference: Side,
    frozen: Frozen,
    test: BettingTest,
    tick: Callable[[int, int], None],
) -> tuple[Counts, Outcome]:
    """Go through the items until the test is sure, or there are no more.

    Raises:
        StratosError: an item has to be asked, and cannot be.
    """
    counts = Counts()
    ours = right_in_turn(candidate, frozen, reference, tick)
    theirs = right_in_turn(reference, frozen, candidate, tick)
    for is_right, was_right in zip(ours, theirs, strict=True):
        counts = counts.plus(was_right, is_right)
        if (outcome := test.outcome(counts)) != "open":
            return counts, outcome
    return counts, "open"


def said(counts: Counts, outcome: Outcome, frozen: Frozen, test: BettingTest) -> str:
    """Say the verdict with the numbers that decide it."""
    n, points = counts.n, f"{100 * test.delta:g} points"
    sure = percent(1 - test.alpha, 0)
    head = {
        "worse": f"WORSE by more than {points} ({sure} sure)",
        "no worse": f"No worse by more than {points} ({sure} sure)",
        "open": f"Not shown: neither that it is worse by more than {points}, nor that it is not",
    }[outcome]
    more = ""
    if outcome == "open" and counts.n < (needed := test.n_if_alike()):
        alike = counted(needed, "item", spec=",")
        more = f" {alike} answered alike would show the latter: give more, or a larger --delta."
    left_out = ""
    if frozen.n_left_out:
        items = counted(frozen.n_left_out, "item", spec=",")
        left_out = f" Left out: {items} that one side has no answer to and no bundle to ask."
    change = 100 * (counts.only_candidate - counts.only_reference) / n
    return (
        f"{head}: {change:+.1f} points on {n:,} of {counted(len(frozen.keys), 'frozen item')} "
        f"({frozen.digest}); right only in the old one {counts.only_reference:,}, only in the new "
        f"one {counts.only_candidate:,}.{more}{left_out}"
    )


def _tick(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else "\r"
        print(f"{done:,} of {total:,} items asked", end=end, file=sys.stderr, flush=True)
