"""Tables of the page of a run: measures of complexity, the confusion matrix, each label."""

from __future__ import annotations

from dataclasses import replace

from stratos.core.intervals import wilson
from stratos.evaluate.metrics import confusion
from stratos.records import NO_LABEL, Complexity, Measure, ModelScore, Pilot, PilotPoint, PilotRun
from stratos.report.run_page import NO_PILOT, complexity_rows, label_table
from stratos.tasks.base import Item
from tests.report import factory


def point(tokens: int, accuracy: float) -> PilotPoint:
    return PilotPoint(tokens, accuracy, 128, 1000, 1.0, 1.0, 1.0)


def test_the_learning_curve_is_a_measure_or_said_not_to_be():
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


def items(*answers: str) -> list[Item]:
    return [Item(str(i), "main", f"q{i}", answer) for i, answer in enumerate(answers)]


def test_a_matrix_counts_right_against_answered():
    some = items("bug", "bug", "bug", "praise", "praise", "praise")
    counts = confusion(some, ["bug", "BUG", "praise", "praise", None, "what?"])
    assert counts == {"bug": {"bug": 2, "praise": 1}, "praise": {NO_LABEL: 2, "praise": 1}}
    table = label_table(ModelScore("student", "s", (), labels=counts))
    assert table is not None and table.answered == ("bug", "praise", NO_LABEL)
    bug, praise = table.rows
    assert (bug.counts, praise.counts) == ((2, 1, 0), (0, 1, 2))
    assert (bug.precision, bug.recall, round(bug.f1, 3)) == (1.0, 2 / 3, 0.8)
    assert (praise.precision, praise.recall, praise.f1) == (0.5, 1 / 3, 0.4)
    assert round(table.macro_f1, 3) == 0.6


def test_answers_that_hardly_repeat_are_no_labels():
    assert confusion(items("1", "2", "3", "4"), ["1", "2", "3", "4"]) == {}
    assert confusion(items("1", "1", "1"), ["1", "1", "1"]) == {}
    assert label_table(ModelScore("student", "s", ())) is None
