"""What was predicted of the server on this machine before its load test, and what it showed.

The estimate that the plan's servers are chosen by is asked about this machine, too: so its answers
are judged in every run, wherever the plan would serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stratos.core.counted import counted
from stratos.core.formats import gib, milliseconds, per_second, percent
from stratos.records import Deployment, Prediction
from stratos.report.planned_row import Figures, Kind, Outcome, PlannedRow, judged, written

_BUSY = "other work slowed this machine"
_FASTER = f"{_BUSY}, and it was faster than predicted all the same"


def rows_here(deployment: Deployment) -> Iterator[PlannedRow]:
    """Yield a row for each quantity that was predicted of the server on this machine."""
    busy = deployment.was_busy
    load = deployment.load
    slots = deployment.run.slots
    if (answer := deployment.answer_ms) is not None:
        yield _row("an answer alone, here", "latency", answer, milliseconds, busy)
    if load is not None and load.p95_ms is not None:
        yield _row("p95 under load, here", "latency", load.p95_ms, milliseconds, busy)
    if load is not None and load.capacity is not None:
        name = f"capacity, {counted(slots, 'request')} in flight, here"
        yield _row(name, "rate", load.capacity, per_second, busy)
    if (memory := deployment.memory_gib) is not None:
        bound, measured = memory.predicted.high, memory.measured
        yield PlannedRow(
            "memory of the server, here",
            f"≤ {gib(bound)}",
            "",
            gib(measured),
            judged(measured, (0.0, bound), ""),
            "memory",
            Figures(measured, bound, 0.0, bound, is_bound=True),
            f"{percent(measured / bound, 0)} of the most that a plan counts with" if bound else "",
        )


def judged_here(figures: Figures, kind: Kind, is_busy: bool) -> tuple[Outcome, str]:
    """Return the outcome of a server's speed on this machine, and what there is to note.

    Other work makes a server slower. So what is slower than predicted beside other work, or in the
    interval, is not judged; what is faster is a miss.
    """
    if not is_busy or figures.low is None or figures.high is None:
        return figures.would_be, ""
    slower = figures.measured < figures.low if kind == "rate" else figures.measured > figures.high
    if figures.would_be == "outside" and not slower:
        return "outside", _FASTER
    return "open", _BUSY


def _row(
    quantity: str, kind: Kind, one: Prediction, write: Callable[[float], str], is_busy: bool
) -> PlannedRow:
    predicted = one.predicted
    between = predicted.low, predicted.high
    figures = Figures(one.measured, predicted.mean, *between)
    outcome, note = judged_here(figures, kind, is_busy)
    return PlannedRow(
        quantity,
        write(predicted.mean),
        written(between, write),
        write(one.measured),
        outcome,
        kind,
        figures,
        note,
    )
