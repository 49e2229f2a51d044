"""Hours of a training on this machine, by what the pilot's trainings of the student took here.

The calibration of this machine counts CPU seconds, which other work on it does not change; the
clock of a training does. The pilot has just trained the same student here. So its clock tells the
mean, and what nobody knows, whether the other work goes on, is the width: from the estimate of a
machine that is free to the pilot's pace with its own error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stratos.estimate import Ranges
from stratos.estimate import constants as k
from stratos.estimate.fleet import Bools
from stratos.records import Pilot, PilotPoint


def at_pace(
    estimated: Ranges, here: Bools, pilot: Pilot | None, student: str, tokens: int
) -> Ranges:
    """Return hours of a training, those on this machine by the pilot's pace.

    Args:
        estimated: hours on each of some servers, as a machine that is free would take.
        here: which of them is this machine.
        pilot: short trainings that were made here.
        student: name of the student that is trained.
        tokens: of its training.
    """
    points = sorted(_points(pilot, student), key=lambda point: point.train_tokens)
    if not points or not here.any():
        return estimated
    seconds = _at(points, tokens)
    # What a training takes before its first step is in the pace of a short one, too.
    slowest = points[-1].train_seconds * max(1.0, tokens / points[-1].train_tokens)
    most = k.CPU_CALIBRATED_ERROR * max(seconds, slowest) / 3600
    least = seconds / k.CPU_CALIBRATED_ERROR / 3600
    measured = Ranges(
        np.full_like(estimated.mean, seconds / 3600),
        np.minimum(estimated.low, least),
        np.maximum(estimated.high, most),
    )
    # Servers that memory does not fit on stay without hours.
    return measured.where(here & ~np.isnan(estimated.mean), estimated)


def _points(pilot: Pilot | None, student: str) -> list[PilotPoint]:
    """Return the trainings of a student by any strategy: a token takes as long in each."""
    runs = pilot.runs if pilot is not None else ()
    return [
        point for run in runs if run.student == student for point in run.points
        if point.train_seconds > 0 and point.train_tokens > 0
    ]  # fmt: skip


def _at(points: Sequence[PilotPoint], tokens: int) -> float:
    """Return the seconds of a training: a line through the two longest, no steeper than by ratio.

    The line has the fixed part of a training; where noise makes it fall, the ratio stays.
    """
    last = points[-1]
    by_ratio = last.train_seconds / last.train_tokens
    slope = by_ratio
    before = next((one for one in reversed(points) if one.train_tokens < last.train_tokens), None)
    if before is not None:
        rise = last.train_seconds - before.train_seconds
        slope = min(by_ratio, rise / (last.train_tokens - before.train_tokens))
    if slope <= 0:
        slope = by_ratio
    return max(slope * tokens, last.train_seconds + slope * (tokens - last.train_tokens))
