"""What the summary says of the student, of limits that it misses and of what is as good."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import LimitsConfig
from stratos.core.intervals import wilson
from stratos.evaluate.scores import against, by_slice, compare
from stratos.records import (
    Cascade,
    Deployment,
    EarlierReads,
    Export,
    Exports,
    Interval,
    ModelScore,
    Scorecard,
    ServingSetting,
)
from stratos.run.console import PlainConsole
from stratos.run.outcome import outcome
from stratos.run.summary import _doubts, _lost, _missed, show
from stratos.tasks.base import Item, Score

NO_READS = EarlierReads(0, 0, 0)


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


def test_what_the_served_format_loses_is_said() -> None:
    export = Export(
        "q8_0", 1, 1200, 1190, Interval(0.96, 0.9, 1.0), Interval(0.96, 0.9, 1.0),
        Interval(-0.01, -0.44, 0.62), 1.0, 1.0, 1.0, 1.0, 8, 1.0, 1.0,
    )  # fmt: skip
    deployment = Deployment(
        "bundle", "", 1, 1, 1.0, 1.0, 1.0, "", 0, 0.0,
        run=ServingSetting("llamacpp", 8, format="q8_0"),
        exports=Exports("llamacpp", "", "", (export,), "q8_0"),
    )  # fmt: skip
    (told,) = _lost(deployment)
    assert str(told) == (
        "As q8_0 the student loses 0.0 points (95% interval -0.4 to 0.6) on the 1,200 test items "
        "that this format was asked: loses no more than 1."
    )
    assert _lost(replace(deployment, run=ServingSetting("transformers"))) == []


def test_a_cascade_s_stage_says_in_short_what_its_summary_says_whole() -> None:
    made = Cascade(
        "The student answers, and asks its teacher where it is unsure.", True, 0.95, 0.9, 500, 0.9,
        0.97, escalated=wilson(70, 500), measured=wilson(490, 500),
    )  # fmt: skip
    assert outcome(made) == (
        "95.0% with 90% confidence is promised, 14.0% of requests go to the teacher, 98.0% right "
        "on test items"
    )
    refused = replace(made, is_promised=False, escalated=None, measured=None)
    assert outcome(refused) == "95.0% with 90% confidence is not promised"


def test_what_needs_no_model_is_said_before_the_ratio(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    right, wrong = Score(1.0, 1.0, True), Score(0.0, 0.0, True)
    by_role = {
        "student": [right] * 36 + [wrong] * 4,
        "teacher": [right] * 10 + [wrong] * 30,
        "linear": [right] * 37 + [wrong] * 3,
    }
    items = [Item(str(k), "main", "q", "a") for k in range(40)]
    scores = {role: ModelScore(role, role, by_slice(items, one)) for role, one in by_role.items()}
    student = by_role["student"]
    versus = tuple(against(scores[role], student, by_role[role]) for role in ("teacher", "linear"))
    comparison = compare(student, by_role["teacher"])
    card = Scorecard(
        "t", "exact", tuple(scores.values()), comparison, "", 1.0, versus, NO_READS, ""
    )
    line = outcome(card)
    told = "Linear answers 92.5%, the student 90.0%: not told apart, so you need no model"
    assert line.index(told) < line.index("the teacher (the 40 items")
    config: Any = SimpleNamespace(limits=LimitsConfig(), run_dir=tmp_path)
    show(PlainConsole(width=200), config, {"evaluate": card}, tmp_path / "ledger.jsonl")
    said = capsys.readouterr().out
    assert said.index("You need no model for this") < said.index("\nAt least ")
    assert said.count("the teacher (the 40 items") == 1
    assert "main" not in said, "one slice is all of them"
