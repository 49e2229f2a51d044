"""Hours of a training on this machine, by the clock of the pilot's trainings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from world import BLIND, SMALL

from stratos.estimate import constants as k
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import Calibration, Fleet, Ranges, device_of
from stratos.estimate.hours import generate_all
from stratos.plan.options.pricing import answered_here, perhaps_slowed, trained_here
from stratos.records import Offer, Pilot, PilotPoint, PilotRun


def pilot(*seconds: float, student: str = "s") -> Pilot:
    """Return trainings on 1,000, 2,000, 4,000… tokens that took so many seconds."""
    points = tuple(
        PilotPoint(1000 * 2**i, 0.5, 128, 100, one + 1, one, one) for i, one in enumerate(seconds)
    )
    return Pilot("t", (PilotRun(student, "injection", "teacher", points, ""),), {}, 1.0, 1.0, 0.0)


def hours(made: Pilot | None, tokens: int = 8000) -> Ranges:
    """Return the hours of two servers, the first of which is this machine."""
    estimated = Ranges(*(np.array([x, x]) / 3600 for x in (8.0, 6.0, 12.0)))
    found = trained_here(estimated, np.array([True, False]), made, "s", tokens)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("seconds", "mean"),
    [
        ([40.0], 80 * 4.0),  # by ratio
        ([10.0, 20.0, 40.0], 80.0),
        ([15.0, 25.0, 45.0], 85.0),  # five seconds before the first step
        ([10.0, 50.0, 40.0], 80.0),  # noise: the ratio
        ([10.0, 12.0, 40.0], 80.0),  # no steeper than by ratio
    ],
)
def test_the_clock_of_the_pilot_tells_the_mean(seconds, mean):
    found = hours(pilot(*seconds))
    assert 3600 * found.mean[0] == pytest.approx(mean)
    # From a machine that is free to the pace of now.
    assert 3600 * found.low[0] == pytest.approx(6.0)
    assert 3600 * found.high[0] >= k.CPU_CALIBRATED_ERROR * mean * 0.999
    assert 3600 * found.mean[1] == pytest.approx(8.0)  # another server is none of it


def test_without_a_pilot_of_the_student_nothing_is_told():
    estimated = Ranges(*(np.array([x]) for x in (8.0, 6.0, 12.0)))
    for made in (None, pilot(10.0, student="other")):
        assert trained_here(estimated, np.array([True]), made, "s", 8000) is None


def test_a_server_that_holds_it_not_has_no_hours():
    nothing = Ranges(*(np.array([np.nan]) for _ in range(3)))
    found = trained_here(nothing, np.array([True]), pilot(10.0), "s", 8000)
    assert found is not None and np.isnan(found.mean).all()


def test_answers_here_take_what_the_probe_took_for_one():
    machine = Calibration("m", 4e10, 1e10, 1e-6, "2026-11-27")
    here = Offer("local", "here", "x86_64", None, 0, 2, 24.0, 0.0, 0.0)
    rented = Offer("aws", "us-east-1", "c7i.large", None, 0, 2, 24.0, 0.1, 0.1)
    fleet = Fleet.of([device_of(one, machine) for one in (here, rented)])
    nodes = np.array([1, 1])
    work = Workload(BLIND.input_tokens / BLIND.n_items, BLIND.output_tokens / BLIND.n_items)
    free = generate_all(SMALL, fleet, work, 2 * BLIND.n_items, nodes)[0]
    slow = replace(BLIND, seconds=10 * 3600 * float(free.mean[0]))
    found = answered_here(free, fleet, nodes, slow)
    # A machine that is free would take a twentieth of the probe's pace for twice the answers.
    assert found.mean[0] / free.mean[0] == pytest.approx(20, rel=0.2)
    assert found.low[0] == free.low[0] and found.high[0] > found.mean[0]
    assert found.mean[1] == free.mean[1]
    for told in (replace(slow, n_cached=3), replace(slow, seconds=0.0), replace(slow, n_items=0)):
        found = answered_here(free, fleet, nodes, told)
        assert [found.mean[0], found.high[0]] == pytest.approx([free.mean[0], free.high[0]])
    # A training without a pilot may be slowed alike, and may as well be not.
    training = Ranges(*(np.array([x, x]) for x in (8.0, 6.0, 12.0)))
    found = perhaps_slowed(training, fleet, nodes, [slow])
    assert found.mean.tolist() == [8.0, 8.0] and found.low.tolist() == [6.0, 6.0]
    assert found.high == pytest.approx([240.0, 12.0])
    fast = replace(slow, seconds=1e-6)
    assert perhaps_slowed(training, fleet, nodes, [fast]).high.tolist() == [12.0, 12.0]
