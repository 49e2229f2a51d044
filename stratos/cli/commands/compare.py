"""`stratos compare A B`: what differs between two runs, and which student is better."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rich.text import Text

from stratos.core import tables
from stratos.core.formats import visible
from stratos.core.output import add_flag, json_line
from stratos.core.tables import Column
from stratos.report.paired import (
    Paired,
    Side,
    changed,
    describe,
    figures,
    left_out,
    numbers_of,
    paired,
    read_side,
    said_left_out,
)

_SIDES = (Column("A", folds=True), Column("B", folds=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Compare two runs: which student is better on the test items that both answered, and what "
        "differs in settings, data, plan and measurements."
    )
    parser.epilog = (
        "exit code: 0, or 1 if one of the runs has failed. "
        "example: stratos compare outputs/<run> outputs/<another>"
    )
    parser.add_argument("first", type=Path, metavar="A")
    parser.add_argument("second", type=Path, metavar="B")
    add_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Compare two runs; return 1 where one has failed, of which there is less to compare.

    Raises:
        StratosError: a folder is none of a run.
    """
    first, second = read_side(args.first), read_side(args.second)
    pairs = paired(first.answers, second.answers) if _is_comparable(first, second) else None
    code = 1 if _failed(first, second) else 0
    if args.json:
        print(json_line(_plain(first, second, pairs)))
        return code
    print(visible(_verdict(first, second, pairs)))
    _show(first, second)
    return code


def _failed(first: Side, second: Side) -> list[str]:
    sides = (("A", first), ("B", second))
    return [name for name, side in sides if side.job.status == "failed"]


def _is_comparable(first: Side, second: Side) -> bool:
    return first.metric == second.metric


def _verdict(first: Side, second: Side, pairs: Paired | None) -> str:
    text = _compared(first, second, pairs)
    if not (failed := _failed(first, second)):
        return text
    return (
        f"{text} {' and '.join(failed)} failed: its command, typed again, goes on where it stopped."
    )


def _compared(first: Side, second: Side, pairs: Paired | None) -> str:
    if pairs is not None:
        return describe(pairs, ("A", "B"))
    missing = [name for name, side in (("A", first), ("B", second)) if not side.answers]
    if missing:
        have = "has" if len(missing) == 1 else "have"
        return f"{' and '.join(missing)} {have} no answers to test items yet: no verdict."
    if not _is_comparable(first, second):
        return f"A is scored by {first.metric}, B by {second.metric}: no verdict."
    if left_out(first.answers, second.answers).n_relabelled:
        return (
            "A and B have no test item with one label in common: no verdict. "
            f"{said_left_out(left_out(first.answers, second.answers), ('A', 'B')).strip()} Give "
            "both one data file."
        )
    return "A and B were asked no test item in common: no verdict. Give both one task and one seed."


def _show(first: Side, second: Side) -> None:
    to = tables.console()
    for name, side in (("A", first), ("B", second)):
        to.print(Text(f"{name} {visible(str(side.job.folder))}"), soft_wrap=True)
    ours, theirs = figures(first), figures(second)
    rows = []
    for key in dict.fromkeys((*ours, *theirs)):
        pair = (ours.get(key, ""), theirs.get(key, ""))
        style = "" if pair[0] == pair[1] else "bold"
        rows.append([Text(key), *(Text(visible(text), style=style) for text in pair)])
    tables.show(to, (Column(), *_SIDES), rows)
    settings, data = changed(first.settings, second.settings), changed(first.data, second.data)
    if not settings:
        is_same_data = bool(first.data) and not data
        to.print(
            "All settings are equal, the data are not."
            if data
            else f"All settings{' and the data' if is_same_data else ''} are equal."
        )
    rows = [
        [Text(visible(key)), *(Text(visible(text)) for text in pair)]
        for key, pair in (settings | data).items()
    ]
    if rows:
        tables.show(to, (Column("what differs"), *_SIDES), rows)


def _plain(first: Side, second: Side, pairs: Paired | None) -> dict[str, object]:
    return {
        "a": _numbers(first),
        "b": _numbers(second),
        "settings": {k: [*pair] for k, pair in changed(first.settings, second.settings).items()},
        "data": {k: [*pair] for k, pair in changed(first.data, second.data).items()},
        "paired": None if pairs is None else {**dataclasses.asdict(pairs), "better": pairs.outcome},
        "verdict": _verdict(first, second, pairs),
    }


def _numbers(side: Side) -> dict[str, object]:
    """Return the figures of a run as numbers, and beside them as they are written."""
    return {"folder": str(side.job.folder), **numbers_of(side.job), "texts": figures(side)}
