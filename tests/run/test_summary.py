"""What the summary says of the student, of limits that it misses and of what is as good."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from stratos.config import LimitsConfig, RoomConfig, StudentConfig
from stratos.core.intervals import wilson
from stratos.core.reasons import Because, Reason
from stratos.evaluate.metrics import against, by_slice, compare
from stratos.evaluate.verdict import by_groups
from stratos.records import (
    Deployment,
    EarlierReads,
    Export,
    Exports,
    Interval,
    ModelScore,
    Prediction,
    RoomRecord,
    Scorecard,
    ServingSetting,
)
from stratos.report.planned import planned_rows
from stratos.report.run_verdict import LimitMissed, missed_limit, missed_size, run_verdict
from stratos.run import summary
from stratos.run.console import Console, PlainConsole
from stratos.run.screen import Level, Line, errs_most_on, lines_of
from stratos.run.summary import final_numbers, last_lines, show
from stratos.tasks.base import Item, Score
from tests.report.factory import make_plan, make_records

NO_READS = EarlierReads(0, 0, 0)


def records(right: int) -> dict[str, Any]:
    student = SimpleNamespace(slice=lambda: SimpleNamespace(exact=wilson(right, 100)))
    return {"evaluate": SimpleNamespace(score=lambda role: student)}


@pytest.mark.parametrize(
    ("accuracy", "right", "is_missed"), [(0.9, 89, True), (0.9, 90, False), (None, 0, False)]
)
def test_an_accuracy_that_is_missed_is_said(accuracy, right, is_missed):
    config: Any = SimpleNamespace(limits=LimitsConfig(accuracy=accuracy))
    found = missed_limit(config.limits, records(right))
    missed = LimitMissed(0.9, wilson(right, 100), "", right / 100)
    assert found == (missed if is_missed else None)
    assert missed_limit(config.limits, {}) is None


def test_the_screen_holds_each_prediction_that_missed(tmp_path):
    made = make_records(tmp_path)
    accuracy = Interval(0.995, 0.99, 0.999, "2 recorded runs")
    made["plan"] = replace(made["plan"], accuracy=accuracy, hours_range=(0.0, 1e-9))
    missed = [row for row in planned_rows(made["plan"], made) if row.outcome == "outside"]
    assert missed and "accuracy" in {row.quantity for row in missed}
    missed_lines = partial(lines_named, "missed", tmp_path)
    (line,) = missed_lines(made)
    assert line.level == Level.DEFAULT
    assert all(f"{row.quantity}: {row.measured}" in line.text for row in missed)
    held = replace(made["plan"], accuracy=replace(accuracy, low=0.9), hours_range=None)
    assert missed_lines({**made, "plan": held}) == []


@pytest.mark.parametrize(
    ("hours_range", "shown"),
    [
        ((0.2, 0.9), " (12 min 00 s to 54 min 00 s)"),
        ((0.4, 0.9), ""),
        ((0.001, 0.04), ""),
        (None, ""),
    ],
    ids=["wide", "narrow", "wide, of seconds", "unknown"],
)
def test_the_hours_of_a_plan_have_their_range_where_it_is_wide(hours_range, shown):
    plan = replace(make_plan(), hours=0.5, hours_range=hours_range)
    text = next(line.text for line in lines_of(plan) if line.name == "plan")
    assert f"30 min 00 s until trained{shown}, " in text


def test_labels_with_commas_are_quoted_where_several_are_listed():
    labels = ["late, lost", "billing", "other: none", "spam"]
    student = SimpleNamespace(errors=dict.fromkeys(labels, 1), labels=labels)
    card: Any = SimpleNamespace(score=lambda role: student)
    assert errs_most_on(card) == '"late, lost", billing and "other: none"'


def lines_named(name: str, folder: Path, made: Mapping[str, Any]) -> list[Line]:
    """Return the last lines of a run that have a name."""
    task = SimpleNamespace(n_unanswered=0)
    config: Any = SimpleNamespace(run_dir=folder, rooms={}, limits=LimitsConfig(), task=task)
    with (
        patch("stratos.run.summary._next", return_value=[]),
        patch("stratos.run.summary.run_verdict", return_value=None),
    ):
        return [line for line in last_lines(config, made, folder / "ledger") if line.name == name]


@pytest.mark.parametrize(
    ("stayed", "facts"),
    [
        ({}, "862k"),
        ({"layers": (24, 30)}, "24 of 30 layers, 862k"),
        ({"vocabulary": (697, 32_000)}, "697 of 32,000 tokens, 862k"),
    ],
)
def test_the_training_says_what_stayed_of_a_model(stayed, facts, tmp_path):
    student = replace(make_records(tmp_path)["distill"], **stayed)
    line = next(line for line in lines_of(student) if line.name == "training")
    assert line.text.startswith(f"llama-1m, {facts} parameters, ")


def test_the_work_of_a_run_holds_what_was_around_its_training(tmp_path):
    student = SimpleNamespace(seconds=60.0, setup_seconds=120.0)
    (line,) = lines_named("spent", tmp_path, {"distill": student})
    assert line.text == "$0; 3 min 00 s of work"


@pytest.mark.parametrize(("format", "whole"), [("", 0.89), ("q4_k_m", 0.91), ("q4_k_m", 0.8)])
def test_a_missed_limit_says_what_the_precision_has_to_do_with_it(format, whole, snapshot):
    assert str(LimitMissed(0.9, wilson(89, 100), format, whole)) == snapshot


def test_what_the_served_format_loses_is_said(snapshot):
    export = Export(
        "q8_0", 1, 1200, 1190, Interval(0.96, 0.9, 1.0), Interval(0.96, 0.9, 1.0),
        Interval(-0.01, -0.44, 0.62), 1.0, 1.0, 1.0, 1.0, 8, 1.0, 1.0,
    )  # fmt: skip
    deployment = Deployment(
        "bundle", "", 1, 1, 1.0, 1.0, 1.0, "", 0, 0.0,
        run=ServingSetting("llamacpp", 8, format="q8_0"),
        exports=Exports("llamacpp", "", "", (export,), "q8_0"),
    )  # fmt: skip
    assert deployment.served is not None
    _, loss = lines_of(deployment)
    assert (loss.name, loss.text) == ("detail", snapshot)
    assert replace(deployment, run=ServingSetting("transformers")).served is None


@dataclass(frozen=True)
class Added(RoomRecord):
    """Of a stage that a room adds."""

    n: int

    def outcome(self) -> str:
        return f"{self.n} were added"

    def summary(self, run_dir: Path) -> str:
        return f"Added {self.n} in {run_dir}"

    def numbers(self) -> dict[str, float | str]:
        return {"added": self.n}


@dataclass(frozen=True)
class Helps(RoomConfig):
    """A room that knows what to do about a student that is not accurate enough."""

    def remedy(self, config: Any, records: Any) -> Reason | None:
        return None if "added" in records else Because("Add something.")


def test_a_room_s_record_says_itself_what_it_came_to(capsys, tmp_path):
    config: Any = SimpleNamespace(
        limits=LimitsConfig(),
        run_dir=tmp_path,
        rooms={},
        teachers=(),
        task=SimpleNamespace(n_unanswered=0),
    )
    made = {"added": Added(3)}
    assert [line.text for line in lines_of(made["added"])] == ["3 were added"]
    assert final_numbers(made) == {"added": 3}
    show(Console(PlainConsole(width=200), Level.DEFAULT), config, made, tmp_path / "ledger.jsonl")
    assert f"added      3 in {tmp_path}\n" in capsys.readouterr().out


def test_a_limit_that_is_missed_has_the_remedies_of_rooms(capsys, tmp_path, monkeypatch):
    for module in ("stratos.run.summary", "stratos.report.run_verdict"):
        monkeypatch.setattr(f"{module}.missed_limit", lambda limits, records: Because("Not met."))
    config: Any = SimpleNamespace(
        limits=LimitsConfig(accuracy=0.9), run_dir=tmp_path, rooms={"added": Helps()},
        task=SimpleNamespace(n_unanswered=0), teachers=(),
    )  # fmt: skip
    for made, is_helped in (({}, True), ({"added": Added(3)}, False)):
        show(
            Console(PlainConsole(width=200), Level.DEFAULT), config, made, tmp_path / "ledger.jsonl"
        )
        printed = capsys.readouterr().out
        assert "for its accuracy: Not met." in printed
        assert ("next       Add something." in printed) == is_helped


def test_a_model_that_is_needless_is_refused(tmp_path):
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
    config: Any = SimpleNamespace(
        limits=LimitsConfig(),
        run_dir=tmp_path,
        rooms={},
        teachers=(),
        task=SimpleNamespace(n_unanswered=0),
    )
    config.task = SimpleNamespace(
        has_rows=True, has_labels=False, has_objects=False, n_unanswered=0
    )
    printed = " ".join(line.text for line in lines_of(card))
    assert printed.count("the teacher (the 40 items") == 1
    assert "main" not in printed, "one slice is all of them"
    plan: Any = SimpleNamespace(student="small", worth=None)
    for kind, is_refused in (("lm", True), ("linear", False)):
        config.students = (StudentConfig("small", kind=kind, path="a/folder"),)
        judged = run_verdict(config, {"evaluate": card, "plan": plan})
        assert judged is not None and judged.reason == "accuracy"
        assert (judged.outcome == "stay") == is_refused
        assert "Linear answers 92.5%" in judged.text


def judged_card(right_by_role: Mapping[str, int], n_items: int) -> Scorecard:
    """Return the scorecard of models of which each has so many of the items right, from the first.

    The most frequent answer has the last of them right.
    """
    right, wrong = Score(1.0, 1.0, True), Score(0.0, 0.0, True)
    items = [Item(str(k), "main", "q", "a") for k in range(n_items)]
    by_role = {role: [right] * n + [wrong] * (n_items - n) for role, n in right_by_role.items()}
    by_role["majority"].reverse()
    scores = {
        role: ModelScore(
            role, role, by_slice(items, one), calibration_error=0.1 if role == "student" else None
        )
        for role, one in by_role.items()
    }
    baselines = [role for role in by_role if role != "student"]
    versus = tuple(against(scores[b], by_role["student"], by_role[b]) for b in baselines)
    return Scorecard("t", "exact", tuple(scores.values()), None, "", 1.0, versus, NO_READS, "")


@pytest.mark.parametrize(
    ("right_by_role", "outcome", "shares"),
    [
        ({"student": 5, "lookup": 6, "majority": 1}, "stay", ["50.0%", "60.0%", "10.0%"]),
        ({"student": 5, "lookup": 0, "majority": 4}, "stay", ["50.0%", "40.0%"]),
        ({"student": 0, "lookup": 1, "majority": 9}, "stay", ["0.0%", "90.0%"]),
        ({"student": 9, "lookup": 0, "majority": 0}, "serve", ["90.0%", "0.0%"]),
    ],
)
def test_the_verdict_is_beside_the_best_that_is_free(right_by_role, outcome, shares):
    config: Any = SimpleNamespace(
        limits=LimitsConfig(),
        rooms={},
        students=(),
        teachers=(),
        task=SimpleNamespace(n_unanswered=0),
    )
    made = {"evaluate": judged_card(right_by_role, 10)}
    judgement = run_verdict(config, made)
    assert judgement is not None and judgement.outcome == outcome
    assert re.findall(r"[\d.]+%", judgement.text) == shares
    numbers = final_numbers(made, (), config)
    assert (numbers["verdict"], numbers["outcome"]) == (judgement.text, outcome)
    exact = wilson(right_by_role["student"], 10)
    assert (numbers["accuracy_low"], numbers["accuracy_high"]) == (exact.low, exact.high)
    assert (numbers["accuracy"], numbers["n_test"]) == (exact.mean, 10)


def test_a_baseline_of_the_student_s_own_kind_is_no_other_to_serve():
    config: Any = SimpleNamespace(
        limits=LimitsConfig(), rooms={}, students=(), teachers=(), task=None
    )
    made: dict[str, Any] = {"evaluate": judged_card({"student": 8, "linear": 9, "majority": 1}, 10)}
    for kind, outcome in (("linear", "serve"), ("static", "open")):
        made["distill"] = SimpleNamespace(kind=kind)
        judgement = run_verdict(config, made)
        assert judgement is not None and judgement.outcome == outcome
        assert ("Serve it or linear" in judgement.text) == (outcome == "open")


@pytest.mark.parametrize(
    ("text", "p95_ms", "right", "reason"),
    [
        ("mail me at ann@example.com", 900.0, 37, "privacy"),
        ("the card is lost", 2.0, 37, "latency"),
        ("the card is lost", 500.0, 37, "accuracy"),
        ("mail me at ann@example.com", 2.0, 30, "accuracy"),  # the teacher is better
    ],
)
def test_what_speaks_for_a_student_as_good_as_its_teacher(text, p95_ms, right, reason):
    by_role = {"student": right, "teacher": 38, "majority": 1}
    asked = SimpleNamespace(teacher="teacher", seconds=9.0, n_items=10)
    made = {
        "evaluate": judged_card(by_role, 40),
        "probe": SimpleNamespace(real_teachers=(asked,)),
        "deploy": SimpleNamespace(
            latency_p95_ms=p95_ms, served=None, memory_gib=None, model_mb=1.0
        ),
    }
    config: Any = SimpleNamespace(
        limits=LimitsConfig(),
        rooms={},
        students=(),
        teachers=(SimpleNamespace(name="teacher", is_elsewhere=True),),
        task=SimpleNamespace(has_rows=True, items=lambda *of: [Item("1", "main", text, "a")]),
    )
    judgement = run_verdict(config, made)
    assert judgement is not None and judgement.reason == reason
    assert "900 ms" in judgement.text or reason != "latency"


def test_a_student_that_gives_one_answer_is_not_to_be_served():
    config: Any = SimpleNamespace(
        limits=LimitsConfig(), rooms={}, task=None, teachers=(), students=()
    )
    card = judged_card({"student": 9, "lookup": 5, "majority": 1}, 10)
    student: Any = SimpleNamespace(kind="majority")
    judgement = run_verdict(config, {"evaluate": card, "distill": student})
    assert judgement is not None
    assert (judgement.outcome, judgement.reason) == ("stay", "accuracy")
    assert "90.0% of 10 test rows" in judgement.text


def test_a_student_that_has_collapsed_is_not_to_be_served():
    config: Any = SimpleNamespace(
        limits=LimitsConfig(), rooms={}, task=None, teachers=(), students=()
    )
    card = judged_card({"student": 9, "majority": 1}, 10)
    scores = [
        replace(score, only_answer="lights out") if score.role == "student" else score
        for score in card.scores
    ]
    student: Any = SimpleNamespace(kind="lm", steps=25, epochs=1.54)
    judgement = run_verdict(
        config, {"evaluate": replace(card, scores=tuple(scores)), "distill": student}
    )
    assert judgement is not None
    assert (judgement.outcome, judgement.reason) == ("stay", "accuracy")
    for fact in ('"lights out" to all of 10 test rows', "25 steps", "1.5 times"):
        assert fact in judgement.text


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ({"model_mb": 144.0}, "model_mb"),
        ({"model_mb": 145.0}, None),
        ({"server_memory_gb": 1.0}, "server_memory_gb"),
        ({"server_memory_gb": 1.1}, None),
        ({}, None),
    ],
)
def test_what_is_larger_than_a_limit_is_not_to_be_served(limits, key):
    memory = Prediction(Interval(0.9, 0.8, 0.95), 1.0)  # GiB
    deployment: Any = SimpleNamespace(model_mb=144.8, memory_gib=memory, served=None)
    missed = missed_size(LimitsConfig(**limits), deployment)
    assert (None if missed is None else missed.key) == key
    config: Any = SimpleNamespace(limits=LimitsConfig(**limits))
    judgement = run_verdict(config, {"deploy": deployment})
    assert (judgement is not None and judgement.reason == "size") is (key is not None)


@pytest.mark.parametrize(
    ("outcome", "names"), [("serve", ["host", "detail"]), ("stay", ["detail"] * 2)]
)
def test_how_to_host_is_said_of_what_is_to_be_served(tmp_path, outcome, names):
    config: Any = SimpleNamespace(
        run_dir=tmp_path, rooms={}, limits=LimitsConfig(), task=SimpleNamespace(n_unanswered=0)
    )
    judgement: Any = SimpleNamespace(outcome=outcome, text="")
    deployment: Any = SimpleNamespace(service_path="", seconds=1.0)
    with (
        patch("stratos.run.summary._next", return_value=[]),
        patch("stratos.run.summary.planned_rows", return_value=[]),
        patch("stratos.run.summary.run_verdict", return_value=judgement),
    ):
        lines = [*last_lines(config, {"deploy": deployment}, tmp_path / "ledger")]
    assert [line.name for line in lines if line.name in ("host", "detail")] == names


@pytest.mark.parametrize("left_out", [{}, {"encoder": "Type: pip install it"}])
def test_an_encoder_that_is_not_here_is_what_may_help(left_out):
    config: Any = SimpleNamespace(
        limits=LimitsConfig(),
        rooms={},
        students=(),
        teachers=(),
        task=SimpleNamespace(n_unanswered=0),
    )
    probe: Any = SimpleNamespace(of_kind=lambda name: SimpleNamespace(gain=None))
    plan: Any = SimpleNamespace(student="static", left_out=left_out)
    steps = [*summary._next(config, {"probe": probe, "plan": plan, "distill": None})]
    assert [text.partition(": ")[2] for text in steps] == [*left_out.values()]


@pytest.mark.parametrize(
    ("n_right", "planned", "outcome"),
    [
        (29, (0.98, 0.95, 1.0), "stay"),
        (29, (0.6, 0.5, 0.7), "open"),
        (29, None, "open"),
        (45, (1.0, 0.99, 1.0), "serve"),
    ],
)
def test_a_student_that_is_often_wrong_is_not_served_beside_baselines_that_do_nothing(
    n_right, planned, outcome
):
    config: Any = SimpleNamespace(
        limits=LimitsConfig(), rooms={}, task=None, teachers=(), students=()
    )
    card = judged_card({"student": n_right, "lookup": 0, "majority": 0}, 50)
    student = replace(card.scores[0], fields_wrong={"date": 3, "people": 20, "name": 0})
    made: dict[str, Any] = {"evaluate": replace(card, scores=(student, *card.scores[1:]))}
    if planned is not None:
        made["plan"] = replace(make_plan(), accuracy=Interval(*planned), worth=None)
    judgement = run_verdict(config, made)
    assert judgement is not None and judgement.outcome == outcome
    assert ("people (20) and date (3)" in judgement.text) == (outcome != "serve")
    printed = " ".join(line.text for line in lines_of(made["evaluate"]))
    assert "50 rows: people (20) and date (3)." in printed


def test_what_the_test_asks_in_other_wordings_is_said_beside_what_is_right_of_known_ones():
    card = judged_card({"student": 30, "majority": 20}, 50)
    [*_, line] = [line.text for line in lines_of(card) if line.name == "test"]
    assert "wordings" not in line
    student = card.scores[0]
    [part] = [part for part in student.slices if part.slice == "all"]
    grouped = replace(student, slices=(replace(part, n_groups=12),))
    card = replace(card, known=0.934, scores=(grouped, *card.scores[1:]))
    [*_, line] = [line.text for line in lines_of(card) if line.name == "test"]
    assert line.endswith("of those that rows show, 93.4% are right, cross-validated.")
    assert by_groups(card) == " by 12 groups of near duplicates", "on the page"
    assert final_numbers({"evaluate": card})["accuracy_known_wordings"] == 0.934
