"""What all figures share: tables in Markdown, ranges, and where a result comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import record

NONE = "–"
Cell = str | Callable[[Any], str]
"""A format string over the fields of a row ("{cpu_s:.1f} s"), or a function of the row."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def columns(rows: Iterable[Mapping[str, Any]], *spec: tuple[str, Cell]) -> str:
    """Return a table of rows by its columns: what heads each, and what stands in its cells."""
    cells = ([written(cell, row) for _, cell in spec] for row in rows)
    return table([head for head, _ in spec], cells)


def written(cell: Cell, row: Mapping[str, Any]) -> str:
    """Return a cell of a row."""
    return cell.format_map(row) if isinstance(cell, str) else cell(row)


def result(name: str) -> Any:
    """Return the raw result of a measurement."""
    return record.load(name)["result"]


def span(values: Iterable[float], form: str = ".1f") -> str:
    """Return the least and the largest value, as one where they are written alike."""
    low, *_, high = [format(value, form) for value in sorted(values)] * 2
    return low if low == high else f"{low}–{high}"


def share(row: Mapping[str, Any], form: str = ".3f") -> str:
    """Return a share of right answers with its interval."""
    exact, low, high = (format(row[end], form) for end in ("exact", "low", "high"))
    return f"{exact} ({low}–{high})"


def source(*names: str) -> str:
    """Return machine, date, commit and load of results, and all loads of one commit at once."""
    loads: dict[str, list[str]] = {}
    for name in names:
        made, _, load = made_on(record.load(name)).rpartition(", load ")
        loads.setdefault(made, []).append(load)
    return "; ".join(
        f"{made}, load {', '.join(dict.fromkeys(of_it))}" for made, of_it in loads.items()
    )


def made_on(content: Mapping[str, Any]) -> str:
    """Return what made a result: machine, date, commit, load."""
    commit, is_dirty, _ = content["commit"].partition("-dirty")
    named = commit.rpartition("-g")[2][:8] or "no commit"
    named += "-changed" if is_dirty else ""
    named += "-lost" if content.get("commit_is_lost") else ""
    return f"{machine(content)}, {content['date']}, {named}, load {content['load_average']:.1f}"


def load_average(name: str) -> str:
    """Return the load of the machine when a result was made."""
    return f"{record.load(name)['load_average']:.0f}"


def machine(content: Mapping[str, Any]) -> str:
    """Return processor, without its marks, and cores of a result."""
    name: str = content["machine"]
    for mark in ("(R)", "(TM)", " Processor", " CPU"):
        name = name.replace(mark, "")
    cores = content["cores"]
    return f"{name.strip()}, {cores} core{'s' * (cores != 1)}"
