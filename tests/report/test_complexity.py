"""The measures of a task's complexity on the page of a run."""

from __future__ import annotations

from dataclasses import replace

from stratos.core.intervals import wilson
from stratos.records import Complexity, Measure, Pilot, PilotPoint, PilotRun
from stratos.report.run_page import NO_PILOT, complexity_rows
from tests.report import factory


def point(tokens: int, accuracy: float) -> PilotPoint:
    return PilotPoint(tokens, accuracy, 128, 1000, 1.0, 1.0, 1.0)


def test_the_learning_curve_is_a_measure_or_said_not_to_be() -> None:
    record = factory.make_probe()
    *measures, curve = complexity_rows(record, None)
    assert tuple(measures) == record.complexity.measures
    assert curve == Measure("learning curve", None, "share", "task", note=NO_PILOT)
    run = PilotRun("s", "injection", "t", (point(2_000_000, 0.75), point(500_000, 0.25)), "pilot")
    pilot = Pilot("mahjong", (run,), {}, 1.0, 1.0, 0.0)
    early, late = complexity_rows(record, pilot)[-2:]
    assert (early.name, early.value) == ("exact match after 500k tokens", wilson(32, 128))
    assert (late.name, late.value) == ("exact match after 2M tokens", wilson(96, 128))
    assert (late.of, late.note) == ("s", "pilot by injection, 128 validation items")
    none = complexity_rows(record, replace(pilot, runs=()))[-1]
    assert (none.value, none.note) == (None, "the pilot could train none")
    declared = replace(record, complexity=Complexity("low", True))
    assert complexity_rows(declared, pilot) == complexity_rows(None, pilot) == ()
