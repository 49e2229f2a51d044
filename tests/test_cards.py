"""Every figure of a recorded run on a student's card is that of a kept raw result."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml

from stratos.records import CardRun

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "students"

WITHOUT_RESULT = {
    ("stratos_1m", 0): (0.9810, 1000, 13_003_573),
    ("stratos_1m", 1): (0.9740, 1000, 13_001_980),
    ("stratos_1m", 2): (0.9750, 1000, 13_002_694),
    ("stratos_300k", 0): (0.9590, 1000, 9_002_004),
    ("stratos_3m", 0): (0.9320, 1000, 6_003_776),
}
"""Runs of version 1 of the task, before raw results were kept: student and seed to test accuracy,
items and tokens. They leave the cards as soon as the students are recorded again."""


@pytest.fixture(scope="module")
def students() -> ModuleType:
    path = ROOT / "benchmarks" / "training" / "students.py"
    spec = importlib.util.spec_from_file_location("students_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shipped() -> list[tuple[str, CardRun]]:
    found = []
    for path in sorted((ROOT / "conf" / "student").glob("*.yaml")):
        node = yaml.safe_load(path.read_text())
        for run in node.get("runs") or ():
            found.append((node["name"], msgspec.convert(run, CardRun)))
    return found


def _key(run: CardRun) -> tuple[str, int, str, int]:
    return run.task, run.task_version, run.strategy, run.seed


def differences(name: str, run: CardRun, kept: list[CardRun]) -> list[str]:
    """Return what a card says otherwise than the result it is from; that there is none, too."""
    one = next((k for k in kept if _key(k) == _key(run)), None)
    if one is None:
        figures = (run.accuracy, run.n_items, run.train_tokens)
        is_old = run.task_version == 1 and run.validation_accuracy is None
        if is_old and WITHOUT_RESULT.get((name, run.seed)) == figures:
            return []
        return [f"{name} {run.seed}: no kept result has {figures}"]
    said, found = dataclasses.asdict(run), dataclasses.asdict(one)
    return [
        f"{name} {run.seed}: {key} is {said[key]}, and {found[key]} in the kept result"
        for key in said
        if said[key] != found[key]
    ]


def kept_runs(students: ModuleType) -> dict[str, list[CardRun]]:
    runs: dict[str, list[CardRun]] = {}
    for name, found in students.recorded():
        if not students.is_bare(name):
            runs.setdefault(found["result"]["student"], []).append(students.card_run(found))
    return runs


def test_every_figure_on_a_card_is_that_of_a_kept_result(students):
    kept, runs = kept_runs(students), shipped()
    assert runs
    assert [one for name, run in runs for one in differences(name, run, kept.get(name, []))] == []


def test_an_invented_figure_is_noticed(students, tmp_path):
    name, run = shipped()[0]
    kept = kept_runs(students).get(name, [])
    for change in (
        {"accuracy": run.accuracy + 0.01},
        {"train_tokens": run.train_tokens + 1},
        {"seed": 99},
        {"validation_accuracy": 0.999, "n_validation_items": 512},
    ):
        assert differences(name, dataclasses.replace(run, **change), kept), change


RESULT: dict[str, Any] = {
    "date": "2026-12-01",
    "machine": "AMD EPYC",
    "cores": 2,
    "load_average": 1.9,
    "seed": 1,
    "result": {
        "student": "stratos_1m",
        "task": "mahjong",
        "task_version": 2,
        "strategy": "injection",
        "train_tokens": 13_000_123,
        "train_cpu_seconds": 1300.4,
        "train_seconds": 700.0,
        "validation": {"exact": 0.97265625, "n_items": 512, "n_reused": 0},
        "test": {
            "full_flush": {"exact": 0.99, "low": 0.97, "high": 0.995, "n_items": 500},
            "general": {"exact": 0.96, "low": 0.94, "high": 0.98, "n_items": 500},
            "all": {"exact": 0.975, "low": 0.963, "high": 0.983, "n_items": 1000},
        },
        "tokens_per_answer": 160.66,
        "teacher": {"n_items": 384},
        "ratio_at_least": 90.1,
        "ratio_bound": 100.0,
        "served": {"p50_ms": 171.4, "p95_ms": 290.0, "n_requests": 32, "n_equal": 32},
        "times": {"minutes": 15.0, "gemm_cpu_seconds": 1.7},
    },
}


def test_a_card_is_written_from_a_kept_result(students, tmp_path, monkeypatch, capsys):
    (tmp_path / "students").mkdir()
    for name in ("stratos_1m-1", "stratos_1m-bare-1"):
        (tmp_path / "students" / f"{name}.json").write_text(json.dumps(RESULT))
    monkeypatch.setattr(students.record, "RESULTS", tmp_path)
    students.cards()
    (run,) = msgspec.convert(yaml.safe_load(capsys.readouterr().out), list[CardRun])
    assert run == students.card_run(RESULT)
    assert (run.validation_accuracy, run.n_validation_items) == (0.9727, 512)
    assert run.ms_per_answer == 171
    assert students.card_run({**RESULT, "load_average": 14.0}).ms_per_answer == 0, "of a queue"
    assert differences("stratos_1m", run, [run]) == []
    wrong = dataclasses.replace(run, validation_accuracy=0.99)
    (found,) = differences("stratos_1m", wrong, [run])
    assert "validation_accuracy is 0.99, and 0.9727" in found
