"""The complexity section, with the learning curve of a pilot."""

from __future__ import annotations

from collections.abc import Sequence

from stratos.core.counted import counted
from stratos.core.formats import magnitude
from stratos.core.intervals import wilson
from stratos.records import Measure, Pilot, Probe

NO_PILOT = "plan.pilot=true trains each student shortly"


def complexity_rows(probe: Probe | None, pilot: Pilot | None) -> Sequence[Measure]:
    """Return the probe's measures, then the pilot's points; none where complexity is declared."""
    if probe is None or not probe.complexity.measures:
        return ()
    points = [
        Measure(
            f"exact match after {magnitude(point.train_tokens)} tokens",
            wilson(round(point.accuracy * point.n_items), point.n_items),
            "share",
            run.student,
            note=f"pilot by {run.strategy}, {counted(point.n_items, 'validation item')}",
        )
        for run in (pilot.runs if pilot is not None else ())
        for point in sorted(run.points, key=lambda point: point.train_tokens)
    ]
    if not points:
        why = NO_PILOT if pilot is None else "the pilot could train none"
        points = [Measure("learning curve", None, "share", "task", note=why)]
    return (*probe.complexity.measures, *points)
