"""Past runs of this machine: which folders speak, which do not, and how fast they are read."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from world import BLIND, World, context, replace

from stratos import records
from stratos.config import CloudConfig, PlanConfig, StudentConfig
from stratos.models.students import content_of
from stratos.plan import plan
from stratos.plan.accuracy import history
from stratos.plan.accuracy.history import MAX_RUNS, history_for, read_history
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.mahjong import MahjongTask

STUDENT = World().students[1]
TASK_NODE = {"_target_": "stratos.tasks.mahjong.MahjongTask", "name": "mahjong", "version": 1}
INJECTION_NODE = {"_target_": "stratos.synthesize.injection.Injection", "name": "injection",
                  "n_items": 80_000, "rationale": "engine"}  # fmt: skip
STUDENT_NODE = {
    "name": STUDENT.name, "hidden_size": STUDENT.hidden_size, "n_layers": STUDENT.n_layers,
    "n_heads": STUDENT.n_heads, "intermediate_size": STUDENT.intermediate_size, "runs": [],
}  # fmt: skip
TRAINER_NODE = {"max_tokens": None, "batch_tokens": 4096, "lr_muon": 0.01, "lr_adamw": 0.003,
                "weight_decay": 0.01, "warmup_steps": 50, "clip_norm": 1.0}  # fmt: skip
PLAIN = {"stages": ["plan"], "seed": 3, "cloud": {"name": "aws"}, "task": TASK_NODE,
         "student": STUDENT_NODE, "strategy": INJECTION_NODE, "trainer": TRAINER_NODE}  # fmt: skip


def config(**changes: Any) -> Any:
    made = World(students=(replace(STUDENT, runs=()),)).config()
    changes = {"task": MahjongTask(version=1), **changes}
    return replace(made, plain={**PLAIN, **changes.pop("plain", {})}, **changes)


def write(
    folder: Path,
    accuracy: float = 0.9,
    tokens: int = 13_000_000,
    composed: Any = None,
    name: str = STUDENT.name,
) -> Path:
    """Write as much of a finished run as there is in the folder of a real one."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump({**PLAIN, **(composed or {})},
                                                                  sort_keys=False))  # fmt: skip
    whole = {"slice": "all", "n_items": 500, "exact": {"mean": 0.7, "low": 0, "high": 1}}
    made = {
        "plan": {"student": name, "strategy": "injection", "teacher": "smollm2"},
        "distill": {"name": name, "train_tokens": tokens, "cpu_seconds": 100.0,
                    "validation_exact": accuracy, "n_validation_items": 400, "content": {}},
        "evaluate": {
            "task": "mahjong",
            "scores": [
                {"role": "teacher", "name": "smollm2", "slices": [whole]},
                {"role": "student", "name": name, "output_tokens": 80_000,
                 "slices": [{**whole, "slice": "general"}, whole]},
            ],
        },
    }  # fmt: skip
    for stage, record in made.items():
        records.save(folder / f"{stage}.json", stage, "mark", record)
    return folder


def test_a_run_is_read_from_its_records(tmp_path):
    folder = write(tmp_path / "outputs" / "2026-11-20" / "10-00-00")
    records.save(folder / "deploy.json", "deploy", "mark", {"latency_p50_ms": 230.0})
    (run,) = read_history([tmp_path / "outputs", tmp_path / "sweeps"], config())
    assert (run.student, run.strategy, run.task) == (STUDENT.name, "injection", "mahjong")
    assert (run.validation_accuracy, run.n_validation_items) == (0.9, 400)
    assert (run.accuracy, run.n_items, run.train_tokens) == (0.7, 500, 13_000_000)
    assert (run.seed, run.tokens_per_answer, run.ms_per_answer) == (3, 160.0, 230.0)
    assert run.accuracy_by_slice == {"general": 0.7}
    assert run.task_version == TASK_NODE["version"]


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        (history._Plan, records.Plan),
        (history._Student, records.Student),
        (history._Scorecard, records.Scorecard),
        (history._Score, records.ModelScore),
        (history._Slice, records.SliceScore),
        (history._Deployment, records.Deployment),
    ],
)
def test_what_is_read_are_fields_of_the_records(part, whole):
    names = {field.name for field in fields(whole)}
    assert {field.name for field in fields(part)} <= names


def test_runs_of_sweeps_are_found_and_the_running_run_is_left_out(tmp_path):
    for name in ("2026-11-20_10-00-00/0", "2026-11-20_10-00-00/1", "named/a=1/b=2"):
        write(tmp_path / name)
    assert len(read_history([tmp_path], config())) == 3
    itself = tmp_path / "named" / ".." / "named" / "a=1" / "b=2"
    assert len(read_history([tmp_path], config(), itself)) == 2


def test_what_lies_inside_a_run_is_no_run_of_its_own(tmp_path):
    outer = write(tmp_path / "run")
    write(outer / "pilot" / "x" / "1000")
    assert len(read_history([tmp_path], config())) == 1
    unfinished = tmp_path / "unfinished"
    (unfinished / ".hydra").mkdir(parents=True)
    write(unfinished / "inner")
    assert len(read_history([tmp_path], config())) == 1


@pytest.mark.parametrize(
    "composed",
    [
        {"task": {**TASK_NODE, "version": 2}},
        {"student": {**STUDENT_NODE, "hidden_size": 64}},
        {"strategy": {**INJECTION_NODE, "rationale": "none"}},
        {"strategy": {**INJECTION_NODE, "n_items": 1000}},
        {"trainer": {**TRAINER_NODE, "lr_muon": 0.1}},
        {"seed": None},
    ],
    ids=lambda composed: next(iter(composed)),
)
def test_a_run_that_was_trained_otherwise_says_nothing(tmp_path, composed):
    write(tmp_path / "other", composed=composed)
    assert read_history([tmp_path], config()) == ()


@pytest.mark.parametrize(
    "composed",
    [
        {"trainer": {**TRAINER_NODE, "max_tokens": 400_000, "warmup_steps": 5}},
        {"student": {**STUDENT_NODE, "runs": [{"task": "x", "strategy": "y", "accuracy": 1.0,
         "n_items": 1, "train_tokens": 1, "tokens_per_answer": 1.0, "ms_per_answer": 1.0,
         "train_cpu_seconds": 1.0, "seed": 0, "date": "", "machine": ""}], "train_tokens": 7}},
        {"student": {"candidates": {"a": {"name": "a"}, "b": STUDENT_NODE}}},
        {"strategy": {"candidates": {"i": INJECTION_NODE, "a": {"name": "alignment"}}}},
        {"seed": 9, "cloud": {"name": "gcp"}},
    ],
    ids=["tokens", "card", "students", "strategies", "seed"],
)  # fmt: skip
def test_a_run_that_differs_in_what_does_not_matter_speaks(tmp_path, composed):
    write(tmp_path / "other", composed=composed)
    assert len(read_history([tmp_path], config())) == 1


def test_a_run_whose_plan_chose_the_cut_student_speaks_for_that_one(tmp_path):
    node = {**STUDENT_NODE, "path": "hub/model", "fit": {"vocabulary": "auto"}}
    whole, cut = msgspec.convert(node, StudentConfig).offered
    by_rule = {**TRAINER_NODE, "lr_muon": None, "lr_adamw": None}
    write(tmp_path / "run", composed={"student": node, "trainer": by_rule}, name=cut.name)
    (run,) = read_history([tmp_path], config(students=(whole, cut), plain={"student": node}))
    assert run.student == cut.name == f"{STUDENT.name}_cut"


@pytest.mark.parametrize("name", ["plan.json", "distill.json", "evaluate.json", "config.yaml"])
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", None])
def test_a_broken_record_is_skipped(tmp_path, name, damage):
    broken, whole = write(tmp_path / "broken"), write(tmp_path / "whole", accuracy=0.5)
    path = broken / ".hydra" / name if name == "config.yaml" else broken / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
        os.utime(path, ns=(1, 1))
    (run,) = read_history([tmp_path], config())
    assert run.validation_accuracy == 0.5 and whole.is_dir()


def test_a_scorecard_that_is_older_than_its_student_is_skipped(tmp_path):
    folder = write(tmp_path / "run")
    later = time.time_ns() + 10**9
    os.utime(folder / "distill.json", ns=(later, later))
    assert read_history([tmp_path], config()) == ()


def test_records_of_different_students_are_skipped(tmp_path):
    folder = write(tmp_path / "run")
    envelope = json.loads((folder / "plan.json").read_text())
    other = {**envelope["record"], "student": "other"}
    records.save(folder / "plan.json", "plan", "mark", other)
    os.utime(folder / "plan.json", ns=(1, 1))
    assert read_history([tmp_path], config()) == ()


def test_thousands_of_folders_are_read_in_a_moment_and_the_newest_are_kept(tmp_path):
    first = write(tmp_path / "day" / "0000")
    for number in range(1, 1000):
        shutil.copytree(first, tmp_path / "day" / f"{number:04d}")
    start = time.process_time()
    found = read_history([tmp_path], config())
    assert time.process_time() - start < 2.0, "1,000 folders; a core reads some 3,000 a second"
    assert len(found) == MAX_RUNS


# --- what a plan remembers ------------------------------------------------------------------------


def test_a_plan_copies_its_history_and_sees_the_same_when_it_is_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("outputs/2026-11-20/10-00-00"), accuracy=0.8, tokens=20_000_000)
    run_dir = tmp_path / "outputs" / "2026-11-21" / "10-00-00"
    aws = CloudConfig(name="aws", providers=("aws",))
    now = replace(config(), cloud=aws, plan=PlanConfig(history=True))
    probe = World(teachers=(BLIND,)).probe()
    first = plan(now, probe, context(run_dir))
    assert [run.validation_accuracy for run in first.history] == [0.8]
    assert first.accuracy.mean == 0.8
    assert first.accuracy.source.startswith("1 past run of this machine, ")
    records.save(run_dir / "plan.json", "plan", "mark", first)

    write(Path("outputs/2026-11-22/10-00-00"), accuracy=0.6)
    assert history_for(now, run_dir) == first.history
    assert len(history_for(now, tmp_path / "another")) == 2
    again = plan(now, probe, context(run_dir))
    assert (again.history, again.accuracy) == (first.history, first.accuracy)
    off = replace(now, plan=PlanConfig(history=False))
    assert not plan(off, probe, context(run_dir)).accuracy.is_known
    (run_dir / "plan.json").write_text("{")
    assert len(history_for(now, run_dir)) == 2


# --- the content of files -------------------------------------------------------------------------


def own_rows(path: Path, n: int = 60, answer: str = "yes") -> Path:
    rows = ({"question": f"is number {k} good", "answer": f"{answer} {k % 3}"} for k in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def own_config(path: Path, **node: Any) -> Any:
    task = JsonlTask(path=str(path), name="mahjong", **node)
    composed = {"_target_": "stratos.tasks.jsonl.JsonlTask", "path": str(path), **node}
    return config(task=task, plain={"task": composed})


def trained(folder: Path, run: Any) -> Path:
    """Write a finished run as `write` does, with the digests that a training records."""
    write(folder, composed={"task": run.plain["task"]})
    envelope = json.loads((folder / "distill.json").read_text())
    made = {**envelope["record"], "content": content_of(run, run.students[0])}
    records.save(folder / "distill.json", "distill", "mark", made)
    os.utime(folder / "distill.json", ns=(1, 1))
    return folder


def test_a_run_on_other_rows_of_the_same_path_says_nothing(tmp_path):
    path = own_rows(tmp_path / "mine.jsonl")
    trained(tmp_path / "runs" / "old", own_config(path))
    (run,) = read_history([tmp_path / "runs"], own_config(path))
    assert run.validation_accuracy == 0.9
    own_rows(path, answer="no")
    assert read_history([tmp_path / "runs"], own_config(path)) == ()
    own_rows(path)
    assert len(read_history([tmp_path / "runs"], own_config(path))) == 1


@pytest.mark.parametrize("key", ["test_path", "unlabelled_path"])
def test_every_file_of_a_task_counts(tmp_path, key):
    path, other = own_rows(tmp_path / "mine.jsonl"), tmp_path / "other.jsonl"
    answer = {} if key == "unlabelled_path" else {"answer": "yes 1"}
    rows = [{"question": f"what of {k}", **answer} for k in range(9)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained(tmp_path / "runs" / "old", own_config(path, **{key: str(other)}))
    assert len(read_history([tmp_path / "runs"], own_config(path, **{key: str(other)}))) == 1
    other.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    assert read_history([tmp_path / "runs"], own_config(path, **{key: str(other)})) == ()


def test_a_run_on_a_file_without_digests_says_nothing(tmp_path):
    path = own_rows(tmp_path / "mine.jsonl")
    write(tmp_path / "runs" / "old", composed={"task": own_config(path).plain["task"]})
    assert read_history([tmp_path / "runs"], own_config(path)) == ()


@pytest.mark.parametrize("change", ["rows", "strategy", "none"])
def test_a_plan_that_is_made_again_for_something_else_looks_anew(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    path = own_rows(tmp_path / "mine.jsonl")
    now = replace(own_config(path), plan=PlanConfig(history=True))
    trained(Path("outputs/old"), now)
    probe = World(teachers=(BLIND,)).probe()
    run_dir = tmp_path / "outputs" / "new"
    first = plan(now, probe, context(run_dir))
    assert len(first.history) == 1
    records.save(run_dir / "plan.json", "plan", "mark", first)
    if change == "rows":
        own_rows(path, n=90)
        now = replace(own_config(path), plan=now.plan)
    if change == "strategy":
        other = {**now.plain, "strategy": {**INJECTION_NODE, "rationale": "none"}}
        now = replace(now, plain=other)
    assert history_for(now, run_dir) == (first.history if change == "none" else ())


def test_weights_that_a_student_starts_from_count(tmp_path):
    weights = tmp_path / "student"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"1234")
    student = replace(STUDENT, runs=(), path=str(weights))
    run = replace(config(), students=(student,))
    before = content_of(run, student)
    (weights / "model.safetensors").write_bytes(b"1235")
    assert list(before) == ["weights of the student"] and content_of(run, student) != before
