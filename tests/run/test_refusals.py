"""A run folder of another task is not taken over, and no time is lost on what learnt nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import STAGES, StudentConfig
from stratos.core.errors import NothingLearntError
from stratos.core.reasons import Reason
from stratos.records import Complexity, PilotPoint, PilotRun, Probe, save
from stratos.run import resume, stages
from stratos.run.stages import refusal, stop_before_evaluation, stop_before_training

PROBE = Probe("classify", (), {}, Complexity("low", True), "", 1.0)


def config_of(**task: Any) -> Any:
    plain = {"_target_": "a.Classify", "name": "classify", "n_examples": 8, **task}
    made = SimpleNamespace(name=plain["name"], parts=(), spec=None, code_version=1)
    return SimpleNamespace(plain={"task": plain}, task=made, teachers=(), strategies=())


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,b\n")
    return path


@pytest.fixture
def folder(tmp_path: Path, rows: Path) -> Path:
    """A run folder with the record of a probe, and the config that Hydra kept."""
    config = config_of(path=str(rows))
    inputs = resume.named(resume.inputs_of(stages.PROBE, config, {}, {}))
    save(tmp_path / "run" / "probe.json", "probe", "f", PROBE, inputs=inputs)
    (tmp_path / "run" / ".hydra").mkdir()
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text(json.dumps(config.plain))
    return tmp_path / "run"


def test_the_same_task_goes_on(folder, rows):
    def told(**task: Any) -> Reason | None:
        return refusal(config_of(**task), folder, "hydra.run.dir")

    assert told(path=str(rows)) is None
    assert told(path=str(rows), n_examples=4) is None, "a setting"
    moved = rows.with_name("moved.csv")
    moved.write_bytes(rows.read_bytes())
    assert told(path=str(moved)) is None, "the same content"
    rows.write_text("text,label\na,b\nc,d\n")
    assert told(path=str(rows)) is None, "more rows"
    assert told(path=str(moved), _target_="a.Other") is not None


def test_another_task_is_refused_with_what_to_type(folder, rows, snapshot):
    other = rows.with_name("other.csv")
    other.write_text("text,label\nx,y\n")
    for task in (
        {"path": str(other)},
        {"path": str(rows), "name": "jsonl"},
        {"path": str(rows), "_target_": "a.Jsonl"},
        {"path": "hf://datasets/a/b/c.csv"},
    ):
        reason = refusal(config_of(**task), folder, "hydra.run.dir")
        assert str(reason).replace(str(folder.parent), "<folder>") == snapshot(name="one of rows")


def test_what_tells_nothing_is_no_other_task(folder, rows, snapshot):
    other = config_of(path="other.csv", name="other")
    (folder / "probe.json").write_text("{")
    assert refusal(other, folder, "hydra.run.dir") is None
    (folder / "probe.json").unlink()
    assert refusal(other, folder, "hydra.run.dir") is None
    save(folder / "probe.json", "probe", "f", PROBE)
    (folder / ".hydra" / "config.yaml").unlink()
    assert refusal(config_of(path="other.csv"), folder, "hydra.run.dir") is None
    reason = refusal(other, folder, "hydra.run.dir")
    assert str(reason).replace(str(folder.parent), "<folder>") == snapshot


def setup(has_rows: bool = True, max_tokens: int | None = None, stages: Any = STAGES) -> Any:
    task = SimpleNamespace(
        has_rows=has_rows, has_labels=False, has_objects=False, calls_tools=False
    )
    return SimpleNamespace(
        task=task, stages=stages, students=(StudentConfig("tiny", train_tokens=40_000),),
        trainer=SimpleNamespace(max_tokens=max_tokens), run_dir=Path("outputs/run"),
    )  # fmt: skip


PLAN: Any = SimpleNamespace(student="tiny", strategy="supervised", train_tokens=40_000)


def pilot(tokens: int, accuracy: float = 0.0, n_items: int = 46) -> Any:
    points = tuple(PilotPoint(n, accuracy, n_items, 188, 1.0, 1.0, 1.0) for n in (500, tokens))
    return SimpleNamespace(runs=[PilotRun("tiny", "supervised", "smollm2", points, "", 0.0)])


def student(exact: float = 0.0, n_items: int = 46, epochs: float | None = 9.0) -> Any:
    return SimpleNamespace(
        name="tiny", validation_exact=exact, n_validation_items=n_items, train_tokens=40_000,
        epochs=epochs,
    )  # fmt: skip


def test_after_a_quarter_of_the_training_on_rows_it_is_not_trained():
    with pytest.raises(NothingLearntError, match=r"0 of 46 .*student=smollm2_135m.*plan.pilot="):
        stop_before_training(setup(), PLAN, pilot(10_000))


@pytest.mark.parametrize(
    ("settings", "of_pilot"),
    [
        ({}, pilot(9_000)),
        ({}, pilot(40_000, accuracy=1 / 46)),
        ({}, pilot(40_000, n_items=29)),
        ({"has_rows": False}, pilot(20_000)),
        ({"stages": ("probe", "plan")}, pilot(40_000)),
        ({}, None),
    ],
    ids=["short", "one right", "few items", "a curve that starts late", "a plan", "no pilot"],
)
def test_what_is_open_is_trained(settings, of_pilot):
    stop_before_training(setup(**settings), PLAN, of_pilot)


def test_where_the_task_makes_its_data_the_whole_training_tells():
    with pytest.raises(NothingLearntError):
        stop_before_training(setup(has_rows=False), PLAN, pilot(38_000))


def test_a_whole_training_in_vain_is_not_bundled():
    with pytest.raises(NothingLearntError, match=r"stages=\[evaluate,report\] hydra.run.dir="):
        stop_before_evaluation(setup(), student())
    for settings in (setup(False, 10_000), setup(max_tokens=9_000)):
        with pytest.raises(NothingLearntError):
            stop_before_evaluation(settings, student())


def test_what_has_hardly_begun_or_has_learnt_something_goes_on():
    stop_before_evaluation(setup(False, 9_000), student())
    stop_before_evaluation(setup(), student(epochs=0.9))
    stop_before_evaluation(setup(), student(1 / 46))
    stop_before_evaluation(setup(), student(n_items=29))
    stop_before_evaluation(setup(stages=("evaluate", "report")), student())
