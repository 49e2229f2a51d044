"""Hours of jobs on this machine, by the clock of what probe and pilot have done here.

The calibration of this machine counts CPU seconds, which other work on it does not change; the
clock of a job does. The probe has just asked the same teacher here, and the pilot has trained the
same student. Their clock tells the mean. What nobody knows, whether the other work goes on, is the
width: from the estimate of a machine that is free to that pace with its own error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stratos.estimate import Fleet, Ranges, Workload, generate_all
from stratos.estimate import constants as k
from stratos.estimate.fleet import Bools, Floats, Ints
from stratos.plan.options.hosted import is_hosted
from stratos.records import Pilot, PilotPoint, TeacherProbe


def trained_here(
    estimated: Ranges, here: Bools, pilot: Pilot | None, student: str, tokens: int
) -> Ranges | None:
    """Return hours of a training, those on this machine by the pilot's pace; None without one.

    Args:
        estimated: hours on each of some servers that do nothing else.
        here: which of them is this machine.
        pilot: short trainings that were made here.
        student: name of the student that is trained.
        tokens: of its training.
    """
    points = sorted(_points(pilot, student), key=lambda point: point.train_tokens)
    if not points:
        return None
    seconds, last = _at(points, tokens), points[-1]
    # A short training's part before its first step makes its pace the slowest there may be.
    slowest = max(seconds, last.train_seconds * tokens / last.train_tokens)
    ends = seconds / k.CPU_CALIBRATED_ERROR, k.CPU_CALIBRATED_ERROR * slowest
    measured = (np.full_like(estimated.mean, one / 3600) for one in (seconds, *ends))
    return _spanned(estimated, here, Ranges(*measured))


def slowed_now(estimated: Ranges, here: Bools, slowness: float) -> Ranges:
    """Return hours with the other work that this machine has now; how long that lasts is unknown.

    Args:
        estimated: hours on each of some servers that do nothing else.
        here: which of them is this machine.
        slowness: how many times as long work takes here now.
    """
    slow = Ranges(estimated.mean * slowness, estimated.low, estimated.high * slowness)
    return slow.where(here, estimated)


def answered_here(estimated: Ranges, fleet: Fleet, n_nodes: Ints, probed: TeacherProbe) -> Ranges:
    """Return hours of a local teacher's answers, those on this machine by the probe's pace.

    Args:
        estimated: hours on each of some servers that do nothing else.
        fleet: the servers.
        n_nodes: how many of each are together.
        probed: the teacher, and its answers to the probe, which were given here.
    """
    slowness = _slowness(fleet, n_nodes, probed)
    ends = (estimated.mean, estimated.low, estimated.high)
    return _spanned(estimated, fleet.calibrated, Ranges(*(one * slowness for one in ends)))


def perhaps_slowed(
    estimated: Ranges, fleet: Fleet, n_nodes: Ints, teachers: Iterable[TeacherProbe]
) -> Ranges:
    """Return hours whose upper ends on this machine are as far off as those of the probe were.

    What slowed the answers of a local teacher may slow another job, too.

    Args:
        estimated: hours on each of some servers that do nothing else.
        fleet: the servers.
        n_nodes: how many of each are together.
        teachers: the probe, which was made here.
    """
    high = estimated.high
    for probed in teachers:
        slowness = np.nan_to_num(_slowness(fleet, n_nodes, probed), nan=1.0)
        high = np.maximum(high, estimated.high * slowness)
    return Ranges(estimated.mean, estimated.low, high).where(fleet.calibrated, estimated)


def _slowness(fleet: Fleet, n_nodes: Ints, probed: TeacherProbe) -> Floats:
    """Return the seconds of the probe over those of each server that does nothing else.

    NaN where a server does not hold the teacher; 1 where its answers were not given here.
    """
    n = probed.n_items
    if not n or probed.n_cached or not probed.seconds or is_hosted(probed.card):
        return np.ones(len(fleet))
    work = Workload(probed.input_tokens / n, probed.output_tokens / n)
    slowness: Floats = (
        probed.seconds / 3600 / generate_all(probed.card, fleet, work, n, n_nodes).mean
    )
    return slowness


def _spanned(estimated: Ranges, here: Bools, measured: Ranges) -> Ranges:
    """Return the hours here as measured, from the least to the most of both; others stay."""
    spanned = Ranges(
        measured.mean,
        np.minimum(estimated.low, measured.low),
        np.maximum(estimated.high, measured.high),
    )
    # A server whose memory does not hold it has no hours.
    return spanned.where(here & ~np.isnan(estimated.mean) & ~np.isnan(measured.mean), estimated)


def _points(pilot: Pilot | None, student: str) -> list[PilotPoint]:
    """Return the trainings of a student by any strategy: a token takes as long in each."""
    return [
        point
        for run in (pilot.runs if pilot is not None else ())
        for point in run.points
        if run.student == student
    ]


def _at(points: Sequence[PilotPoint], tokens: int) -> float:
    """Return the seconds of a training: a line through the two longest, no steeper than by ratio.

    The line has the fixed part of a training; where noise makes it fall, the ratio stays.
    """
    last = points[-1]
    slope = by_ratio = last.train_seconds / last.train_tokens
    before = next((one for one in reversed(points) if one.train_tokens < last.train_tokens), None)
    if before is not None:
        rise = last.train_seconds - before.train_seconds
        slope = min(by_ratio, rise / (last.train_tokens - before.train_tokens))
    if slope <= 0:
        slope = by_ratio
    return last.train_seconds + slope * (tokens - last.train_tokens)
