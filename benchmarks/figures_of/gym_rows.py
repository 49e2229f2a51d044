"""The kept predictions of benchmarks/gym.py, judged as `stratos calibration` judges them.

A row is kept as the code of its day wrote it. What that judged otherwise is judged again here from
the numbers of the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from stratos.contrib.monitor.calibration import Judged
from stratos.core.formats import hours
from stratos.report.planned import Figures, PlannedRow, judged_here, news_alone, written

_BOTH = "both count that the stages before the plan took "
"""So rows note the time before a plan that is counted both in it and as measured."""
_BUSY = "other work slowed this machine"
_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def judged_again(rows: Iterable[dict[str, Any]]) -> list[Judged]:
    """Return every prediction of the kept rows; a run that failed has none."""
    return [Judged(row["task"], row["task"], "", one) for row in rows for one in _of_run(row)]


def _of_run(row: dict[str, Any]) -> Iterator[PlannedRow]:
    for kept in row.get("predicted", ()):
        found = PlannedRow(**{**kept, "figures": Figures(**kept["figures"])})
        yield news_alone(_again(found), is_late=False)


def _again(row: PlannedRow) -> PlannedRow:
    if _BOTH in row.note:
        return _ahead(row)
    of = row.figures
    if row.kind == "memory" or (row.kind == "accuracy" and of.planned is None and of.low == 0):
        return replace(row, figures=replace(of, is_bound=True))
    if row.note == _BUSY:
        outcome, note = judged_here(of, row.kind, is_busy=True)
        return replace(row, outcome=outcome, note=note)
    return row


def _ahead(row: PlannedRow) -> PlannedRow:
    """Take the time before the plan, to the second, from both sides: the outcome is the same."""
    before = _hours(row.note.partition(_BOTH)[2])
    of = row.figures
    if of.planned is None:
        return row
    between = None
    if of.low is not None and of.high is not None:
        between = of.low - before, of.high - before
    measured, planned = of.measured - before, of.planned - before
    figures = Figures(measured, planned, *(between or (None, None)))
    return replace(
        row,
        quantity="time from the plan until served",
        planned=hours(planned),
        interval=written(between, hours),
        measured=hours(measured),
        figures=figures,
    )


def _hours(text: str) -> float:
    """Read a time span as `stratos.core.formats.duration` writes it."""
    parts = re.findall(r"([\d.]+) (ms|s|min|h|d)\b", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts) / 3600
