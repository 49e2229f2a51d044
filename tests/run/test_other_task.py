"""A run folder is not taken over by a run of another task."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.records import Complexity, Probe, save
from stratos.run import resume, stages
from stratos.run.other_task import refusal
from stratos.run.words import OtherTask

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


def test_the_same_task_goes_on(folder: Path, rows: Path) -> None:
    def told(**task: Any) -> OtherTask | None:
        return refusal(config_of(**task), folder, "hydra.run.dir")

    assert told(path=str(rows)) is None
    assert told(path=str(rows), n_examples=4) is None, "a setting"
    moved = rows.with_name("moved.csv")
    moved.write_bytes(rows.read_bytes())
    assert told(path=str(moved)) is None, "the same content"
    rows.write_text("text,label\na,b\nc,d\n")
    assert told(path=str(rows)) is None, "more rows"
    assert told(path=str(moved), _target_="a.Other") is not None


def test_another_task_is_refused_with_what_to_type(folder: Path, rows: Path) -> None:
    other = rows.with_name("other.csv")
    other.write_text("text,label\nx,y\n")
    for task in (
        {"path": str(other)},
        {"path": str(rows), "name": "jsonl"},
        {"path": str(rows), "_target_": "a.Jsonl"},
        {"path": "hf://datasets/a/b/c.csv"},
    ):
        told = refusal(config_of(**task), folder, "hydra.run.dir")
        assert told == OtherTask(folder, "classify", str(rows), "hydra.run.dir")


def test_what_tells_nothing_is_no_other_task(folder: Path, rows: Path) -> None:
    other = config_of(path="other.csv", name="other")
    (folder / "probe.json").write_text("{")
    assert refusal(other, folder, "hydra.run.dir") is None
    (folder / "probe.json").unlink()
    assert refusal(other, folder, "hydra.run.dir") is None
    save(folder / "probe.json", "probe", "f", PROBE)
    (folder / ".hydra" / "config.yaml").unlink()
    assert refusal(config_of(path="other.csv"), folder, "hydra.run.dir") is None
    told = refusal(other, folder, "hydra.run.dir")
    assert told == OtherTask(folder, "classify", "", "hydra.run.dir")
