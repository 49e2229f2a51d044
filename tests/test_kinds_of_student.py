"""A run on labelled rows, whose students are no language models."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from in_process import stratos

from stratos.models.kinds import is_predictor, load_predictor
from stratos.records import Plan, Probe, Scorecard, Student, from_json

WORDS = {
    "card": ("card", "pin", "plastic", "chip", "contactless"),
    "transfer": ("transfer", "wire", "iban", "payee", "send"),
    "account": ("account", "balance", "statement", "open", "close"),
}
OTHERS = ("please", "my", "the", "help", "with", "today", "again", "why", "is", "it", "not", "here")
STAGES = "stages=[probe,plan,synthesize,distill,evaluate,report]"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of which about one in ten has a word of another label alone."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("rows") / "tickets.jsonl"
    with path.open("w") as file:
        for _ in range(300):
            label = draw.choice(list(WORDS))
            shown = label if draw.random() > 0.1 else draw.choice(list(WORDS))
            words = [*draw.sample(OTHERS, 6), draw.choice(WORDS[shown])]
            draw.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": label}) + "\n")
    return path


@pytest.fixture(scope="module")
def run(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = stratos(
        "+task=classify", f"task.path={rows}", "cloud=local", STAGES, "~student.candidates.encoder",
        "hydra.run.dir=run", "logger=none", cwd=folder, env={"STRATOS_CACHE": str(folder / "c")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def record(run: Path, stage: str, kind: type) -> Any:
    envelope = json.loads((run / f"{stage}.json").read_text())
    return from_json(json.dumps(envelope["record"]).encode(), kind)


def test_kinds_are_measured_on_all_rows_but_those_of_the_test(run):
    probe = record(run, "probe", Probe)
    scorecard = record(run, "evaluate", Scorecard)
    assert [one.kind for one in probe.kinds] == ["linear", "static"]
    assert probe.real_teachers == ()
    n_test = scorecard.score("student").slice().n_items
    for one in probe.kinds:
        assert one.n_rows + n_test == pytest.approx(300, abs=15)  # copies are left out
        assert one.accuracy.low < one.accuracy.mean < one.accuracy.high
        assert 0.8 < one.accuracy.mean < 0.97  # one in fifteen has the word of another label


def test_the_plan_has_what_was_measured(run):
    plan, probe = record(run, "plan", Plan), record(run, "probe", Probe)
    kind = probe.of_kind(plan.student)
    assert plan.accuracy == kind.accuracy
    assert plan.role("train").hours == pytest.approx(kind.seconds / 3600)
    assert plan.usd == 0.0


def test_the_student_learns_all_rows_and_knows_how_sure_it_is(run):
    student, probe = record(run, "distill", Student), record(run, "probe", Probe)
    assert student.kind in ("linear", "static")
    assert student.n_validation_items == probe.kinds[0].n_rows
    assert student.calibration_error < 0.1
    assert is_predictor(student.path)
    [found] = load_predictor(student.path).predict(["please why is my chip not here"])
    assert found.text == "card"
    assert found.probability > 0.6
    assert sum((found.probability, *(p for _, p in found.next_best))) == pytest.approx(1)


def test_the_student_is_scored_beside_what_is_free(run):
    scorecard = record(run, "evaluate", Scorecard)
    student = scorecard.score("student")
    assert student.slice().exact.mean > 0.8
    assert student.calibration_error < 0.15
    roles = {score.role for score in scorecard.scores}
    assert {"majority", "lookup", "linear"} <= roles
    assert not {"teacher", "untouched"} & roles
    answers = [json.loads(line) for line in Path(scorecard.answers_path).read_text().splitlines()]
    assert all(one["logprob"] <= 0 for one in answers)


@pytest.mark.slow
def test_a_static_student_says_how_its_table_was_cut(rows, tmp_path):
    done = stratos(
        "+task=classify", f"task.path={rows}", "cloud=local", "student=static",
        "student.fit.vocabulary=true", "deploy.load_seconds=1", "hydra.run.dir=run", "logger=none",
        cwd=tmp_path, env={"STRATOS_CACHE": str(tmp_path / "c")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    n_tokens, n_whole = record(tmp_path / "run", "distill", Student).vocabulary
    assert 256 < n_tokens < n_whole / 10
    card = (tmp_path / "run" / "bundle" / "README.md").read_text()
    assert f"Its vocabulary was cut to {n_tokens:,} of {n_whole:,} tokens" in card


@pytest.mark.slow
def test_the_same_seed_makes_the_same_student(run, rows, tmp_path):
    student = record(run, "distill", Student)
    done = stratos(
        "+task=classify", f"task.path={rows}", "cloud=local", STAGES, "~student.candidates.encoder",
        "hydra.run.dir=run", "logger=none", cwd=tmp_path, env={"STRATOS_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0
    again = record(tmp_path / "run", "distill", Student)
    assert again.weights_sha256 == student.weights_sha256
