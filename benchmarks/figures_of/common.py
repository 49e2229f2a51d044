"""What all figures share: tables in Markdown, ranges, and where a result comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import record


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def span(values: Iterable[float], form: str = ".1f") -> str:
    """Return the least and the largest value, as one where they are written alike."""
    found = sorted(values)
    low, high = (format(value, form) for value in (found[0], found[-1]))
    return low if low == high else f"{low}–{high}"


def source(*names: str) -> str:
    """Return machine, cores, load and date of results, each once."""
    found: dict[str, None] = {}
    for name in names:
        kept = record.load(name)
        n = kept["cores"]
        found[f"{processor(kept)}, {n} core{'s' * (n != 1)}, {kept['date']}"] = None
    return "; ".join(found)


def processor(kept: dict[str, Any]) -> str:
    """Return the name of the processor of a result without its marks."""
    name: str = kept["machine"]
    for mark in ("(R)", "(TM)", " Processor", " CPU"):
        name = name.replace(mark, "")
    return name.strip()
