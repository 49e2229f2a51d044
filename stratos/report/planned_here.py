"""What was predicted of the server on this machine before its load test, and what it showed.

The estimate that the plan's servers are chosen by is asked about this machine, too: so its answers
are judged in every run, wherever the plan would serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stratos.core.counted import counted
from stratos.core.formats import gib, milliseconds, per_second
from stratos.records import Deployment, Prediction
from stratos.report.planned_row import Figures, Kind, PlannedRow, judged, written

_BUSY = "other work slowed this machine"


def rows_here(deployment: Deployment) -> Iterator[PlannedRow]:
    """Yield a row for each quantity that was predicted of the server on this machine."""
    why_not = _BUSY if deployment.was_busy else ""
    load = deployment.load
    slots = deployment.run.slots if deployment.run is not None else 1
    if (answer := deployment.answer_ms) is not None:
        yield _row("an answer alone, here", "latency", answer, milliseconds, why_not)
    if load is not None and load.p95_ms is not None:
        yield _row("p95 under load, here", "latency", load.p95_ms, milliseconds, why_not)
    if load is not None and load.capacity is not None:
        name = f"capacity, {counted(slots, 'request')} in flight, here"
        yield _row(name, "rate", load.capacity, per_second, why_not)
    if (memory := deployment.memory_gib) is not None:
        bound, measured = memory.predicted.high, memory.measured
        yield PlannedRow(
            "memory of the server, here",
            f"≤ {gib(bound)}",
            "",
            gib(measured),
            judged(measured, (0.0, bound), ""),
            "memory",
            Figures(measured, bound, 0.0, bound),
        )


def _row(
    quantity: str, kind: Kind, one: Prediction, write: Callable[[float], str], why_not: str
) -> PlannedRow:
    predicted = one.predicted
    between = predicted.low, predicted.high
    return PlannedRow(
        quantity,
        write(predicted.mean),
        written(between, write),
        write(one.measured),
        judged(one.measured, between, why_not),
        kind,
        Figures(one.measured, predicted.mean, *between),
        why_not,
    )
