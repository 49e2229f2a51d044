"""Figures of docs/contrib/monitor.md: what runs of many small tasks predicted of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import record

from figures_of.tables import NONE, columns
from stratos.contrib.monitor.calibration import Hits, Judged, hits_of
from stratos.core.formats import counted
from stratos.report.planned import Figures, PlannedRow, written_width


def gym_hits() -> str:
    """How often what was measured lies in its interval, how wide that is, and what failed."""
    measured = record.load("gym")["result"]
    predictions = list(_predictions(measured["rows"]))
    kinds = hits_of(predictions)
    lines = columns(
        [{"hits": hits} for hits in kinds if not hits.is_bound],
        ("quantity", "{hits.name}"),
        ("all: in the interval", _all("{hits.n_known_inside} of {hits.n_known}")),
        ("measured / planned", _all("{hits.known_ratio:.2f}×")),
        ("judged: in the interval", "{hits.n_inside} of {hits.n}"),
        ("share", _of_judged("{hits.share.mean:.0%}")),
        ("95% interval of the share", _of_judged("{hits.share.low:.0%} to {hits.share.high:.0%}")),
        ("median width", lambda row: _width(row["hits"])),
        (
            "measured / planned",
            lambda row: NONE if row["hits"].ratio is None else f"{row['hits'].ratio:.2f}×",
        ),
        ("not judged", "{hits.n_open}"),
    )
    bounds = [_bound(hits) for hits in kinds if hits.is_bound]
    return "\n\n".join([lines, *_hours(predictions), *bounds, _ran(measured)])


def _of_judged(form: str) -> Any:
    return lambda row: form.format_map(row) if row["hits"].n else NONE


def _width(hits: Hits) -> str:
    return NONE if hits.width is None else written_width(hits.width, hits.kind)


def _all(form: str) -> Any:
    return lambda row: form.format_map(row) if row["hits"].n_known else NONE


def _hours(predictions: list[Judged]) -> Iterator[str]:
    """Yield how far the hours lie from the planned ones, whatever their intervals."""
    figures = [
        prediction.row.figures
        for prediction in predictions
        if prediction.row.kind == "hours" and prediction.row.width
    ]
    ratios = sorted(of.measured / of.planned for of in figures if of.planned)
    if ratios:
        yield f"Hours measured / planned of single runs: {ratios[0]:.2f}× to {ratios[-1]:.2f}×."


def _bound(hits: Hits) -> str:
    below = "" if hits.ratio is None else f"; half of the runs use {hits.ratio:.0%} of it or less"
    return (
        f"Upper bound of {hits.kind}, which is no interval: {hits.n_inside} of {hits.n} runs stay "
        f"below it{below}."
    )


def _ran(measured: dict[str, Any]) -> str:
    failures = [f"`{row['task']}` ({row['failed']})" for row in measured["rows"] if "failed" in row]
    failed = f"Failed, and in no row above: {', '.join(failures)}." if failures else "None failed."
    chosen = counted(len(measured["chosen"]), "chosen task")
    return f"{len(measured['rows'])} of {chosen} were run. {failed}"


def _predictions(rows: list[dict[str, Any]]) -> Iterator[Judged]:
    """Yield every prediction of the runs; one that failed has none."""
    for row in rows:
        for fields in row.get("predicted", ()):
            predicted = PlannedRow(**{**fields, "figures": Figures(**fields["figures"])})
            yield Judged(row["task"], row["task"], "", predicted)


BLOCKS = {"gym_hits": gym_hits}
