"""What is tracked of the records of a run, as each service has it in the end."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wandb_file
from wandb_file import history, records_of

from stratos import config as schema
from stratos.records import save
from stratos.tracking.tracker import tracked

STAGES = ("probe", "plan", "synthesize", "distill", "evaluate", "deploy")
SECRET = "sk-abcdefghijklmnopqrst1234"


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def track(factory: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """Track the records of a whole run, as the runner does."""

    def track(**logger: Any) -> Path:
        run_dir = tmp_path / "run"
        records = factory.make_records(run_dir)
        answers = run_dir / "probe" / "answers.jsonl"
        answers.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "teacher": "small", "kind": "answer", "prompt": "plain", "question": "1+1?",
            "gold": "2", "answer": f"2, by {SECRET}", "exact": 1.0,
        }  # fmt: skip
        lines = [json.dumps(row)] * 1500 + [json.dumps({**row, "kind": "sample"})]
        answers.write_text("\n".join(lines))
        records["probe"] = replace(records["probe"], answers_path=str(answers))
        example = {
            "question": factory.HOSTILE, "gold": "1m", "slice": "general", "student": SECRET,
            "teacher": "x" * 9000, "scores": {"student": {"exact": 0.0}, "teacher": {"exact": 1.0}},
        }  # fmt: skip
        records["evaluate"] = factory.make_scorecard(run_dir, [example, *factory.make_examples()])
        for name in ("corpus/train.jsonl", "bundle/config.json"):
            (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (run_dir / name).write_text("{}")
        records["synthesize"] = replace(
            records["synthesize"], path=str(run_dir / "corpus" / "train.jsonl")
        )
        records["deploy"] = replace(records["deploy"], bundle_path=str(run_dir / "bundle"))
        config = replace(factory.make_config(run_dir), logger=schema.LoggerConfig(**logger))
        done: dict[str, Any] = {}
        with tracked(config, pytest.fail) as tracker:
            for stage in STAGES:
                save(run_dir / f"{stage}.json", stage, "f", records[stage])
                tracker.begin(stage)
                for part in range(5):
                    tracker.progress(stage, part, 4, 0.5 * part, 2.0)
                tracker.for_stage(stage)({"exact": 0.5})
                done[stage] = records[stage]
                tracker.record(config, stage, done)
            for step, loss in ((10, 2.0), (20, 1.0), (30, 1.5)):
                tracker.log({"distill/loss": loss}, step=step)
            tracker.summary({"verdict": "Distil: it pays.", "accuracy": 0.9})
        return run_dir

    return track


@pytest.mark.slow
def test_wandb_has_tables_charts_and_the_lineage(track):
    run_dir = track(wandb=True)
    asked = wandb_file.table(run_dir, "probe/answers")
    assert asked["columns"] == ["teacher", "prompt", "question", "gold", "answer", "right"]
    assert len(asked["data"]) == 1000
    assert asked["data"][0] == ["small", "plain", "1+1?", "2", "2, by ***", True]
    answers = wandb_file.table(run_dir, "evaluate/answers")
    assert answers["columns"][:5] == ["question", "gold", "student", "teacher", "untouched"]
    (lost,) = [row for row in answers["data"] if row[2] == "***"]
    named = dict(zip(answers["columns"], lost, strict=True))
    assert (named["student right"], named["teacher right"]) == (False, True)
    assert named["outcome"] == "lost"
    assert "hacked" in named["question"] and len(named["teacher"]) == 2000

    frontier = wandb_file.table(run_dir, "plan/frontier_table")
    assert [row[-1] for row in frontier["data"]].count("chosen") == 1
    charts = {
        "/".join(item.nested_key): json.loads(item.value_json)
        for record in records_of(run_dir)
        if record.HasField("config")
        for item in record.config.update
        if item.nested_key[:2] == ["_wandb", "visualize"]
    }
    panels = {name.rpartition("/")[2]: one["panel_config"] for name, one in charts.items()}
    assert panels["frontier"]["panelDefId"] == "wandb/scatter/v0"
    assert panels["frontier"]["fieldSettings"] == {"x": "usd", "y": "accuracy"}
    assert panels["curve_loss"]["panelDefId"] == "wandb/lineseries/v0"

    kept = [r.artifact for r in records_of(run_dir) if r.HasField("artifact")]
    chain = [(one.name, one.type) for one in kept if one.name.startswith("mahjong-")]
    assert chain == [
        ("mahjong-probe", "probe"), ("mahjong-plan", "plan"), ("mahjong-corpus", "dataset"),
        ("mahjong-student", "model"), ("mahjong-scorecard", "evaluation"),
        ("mahjong-bundle", "model"),
    ]  # fmt: skip
    by_name = {one.name: one for one in kept}
    parents = {
        name: json.loads(one.metadata or "{}").get("made_from") for name, one in by_name.items()
    }
    assert set(parents["mahjong-bundle"]) == {"mahjong-student", "mahjong-scorecard"}
    assert parents["mahjong-plan"] == {"mahjong-probe": by_name["mahjong-probe"].digest}
    # What is big is named, not copied.
    entries = {entry.path: entry.ref for entry in by_name["mahjong-corpus"].manifest.contents}
    assert set(entries) == {"synthesize.json", "train.jsonl"}
    assert entries["train.jsonl"].startswith("file://")

    for path in run_dir.glob("wandb/**/*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_wandb_has_live_metrics_summaries_and_alerts(track):
    run_dir = track(wandb=True)
    rows = history(run_dir)
    for stage in STAGES:
        assert [row[f"{stage}/progress"] for row in rows if f"{stage}/progress" in row]
    metrics = {
        record.metric.name or record.metric.glob_name: record.metric
        for record in records_of(run_dir)
        if record.HasField("metric")
    }
    assert metrics["probe/*"].step_metric == "probe/seconds"
    loss = metrics["distill/loss"]
    assert (loss.step_metric, loss.summary.min, loss.summary.last) == ("distill/step", True, True)
    assert metrics["distill/validation_exact"].summary.max
    alerts = [record.alert for record in records_of(run_dir) if record.HasField("alert")]
    assert [(one.title, one.level) for one in alerts] == [("The budget is nearly spent", "WARN")]
    assert alerts[0].text.startswith("$2.00 of $2.00 (limits.budget_usd)")
    assert wandb_file.summary(run_dir)["verdict"] == "Distil: it pays."


@pytest.mark.slow
def test_uploads_are_asked_for(track):
    run_dir = track(wandb=True, upload=True)
    kept = {r.artifact.name: r.artifact for r in records_of(run_dir) if r.HasField("artifact")}
    entries = kept["mahjong-bundle"].manifest.contents
    assert {entry.path for entry in entries} == {"deploy.json", "bundle/config.json"}
    assert not any(entry.ref for entry in entries)


def test_csv_files_have_metrics_tables_and_the_summary(track):
    run_dir = track(csv=True)
    rows = list(csv.DictReader((run_dir / "tracking" / "metrics.csv").open()))
    losses = [
        (row["axis"], row["at"], row["value"]) for row in rows if row["name"] == "distill/loss"
    ]
    assert losses == [
        ("distill/step", "10.0", "2.0"), ("distill/step", "20.0", "1.0"),
        ("distill/step", "30.0", "1.5"),
    ]  # fmt: skip
    assert {row["axis"] for row in rows if row["name"] == "probe/exact"} == {"probe/seconds"}
    answers = list(csv.DictReader((run_dir / "tracking" / "probe_answers.csv").open()))
    assert len(answers) == 1000 and answers[0]["answer"] == "2, by ***"
    summary = dict(csv.reader((run_dir / "tracking" / "summary.csv").open()))
    assert summary["verdict"] == "Distil: it pays."
    assert not (run_dir / "wandb").exists()
    n = len(rows)
    track(csv=True)
    more = list(csv.DictReader((run_dir / "tracking" / "metrics.csv").open()))
    assert len(more) == 2 * n, "a run that is gone on with adds to the file"


def test_tensorboard_reads_what_was_written(track):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = track(tensorboard=True)
    read = EventAccumulator(str(run_dir / "tracking"), size_guidance={"tensors": 0})
    read.Reload()
    from tensorboard.util import tensor_util

    losses = read.Tensors("distill/loss")
    assert [(one.step, tensor_util.make_ndarray(one.tensor_proto).item()) for one in losses] == [
        (10, 2.0), (20, 1.0), (30, 1.5),
    ]  # fmt: skip
    (text,) = read.Tensors("summary")
    assert "Distil: it pays." in tensor_util.make_ndarray(text.tensor_proto).item().decode()


def test_several_at_once(track):
    run_dir = track(wandb=True, csv=True)
    assert history(run_dir)
    assert (run_dir / "tracking" / "metrics.csv").exists()
