"""What the summary says of a limit that the student misses."""

from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import LimitsConfig
from stratos.core.intervals import wilson
from stratos.run.console import PlainConsole
from stratos.run.summary import _doubts, _missed


def records(right: int) -> dict[str, Any]:
    student = SimpleNamespace(slice=lambda: SimpleNamespace(exact=wilson(right, 100)))
    return {"evaluate": SimpleNamespace(score=lambda role: student)}


@pytest.mark.parametrize(
    ("accuracy", "right", "is_missed"), [(0.9, 89, True), (0.9, 90, False), (None, 0, False)]
)
def test_an_accuracy_that_is_missed_is_said(
    accuracy: float | None, right: int, is_missed: bool
) -> None:
    config: Any = SimpleNamespace(limits=LimitsConfig(accuracy=accuracy))
    told = _missed(config, records(right))
    assert bool(told) == is_missed
    if is_missed:
        assert told.startswith("limits.accuracy=0.9 is not met: the student has 89.0% of the test")
    assert _missed(config, {}) == ""


def test_answers_that_were_cut_are_said_as_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = _doubts(["teacher (a[/INST]b)"])
    PlainConsole(width=300).print(told)
    assert capsys.readouterr().out.startswith("More than 1 in 20 answers of teacher (a[/INST]b) ")
    assert _doubts([]) == []
