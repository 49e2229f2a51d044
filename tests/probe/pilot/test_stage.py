"""The pilot: real short trainings of a tiny student, what they read, and what they leave behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stratos import records
from stratos.cli.compose import VERSION_BASE
from stratos.core.errors import BudgetError, TeacherError
from stratos.core.extensions import conf_dir
from stratos.plan.problem import Candidate
from stratos.probe.pilot.decision import lengths, scaled
from stratos.records import Interval, Pilot, Plan
from stratos.run import resume
from stratos.run.stages import SYNTHESIZE
from stratos.synthesize.injection import Injection

TINY = (
    "+task=mahjong", "cloud=aws", "logger=none", "stages=[plan]", "student=stratos_300k",
    "student.name=tiny", "student.hidden_size=32", "student.n_layers=2", "student.n_heads=2",
    "student.intermediate_size=64", "student.train_tokens=160000", "student.runs=[]",
    "strategy=injection", "strategy.n_items=800", "trainer.precision=fp32",
    "trainer.batch_tokens=4096", "trainer.n_threads=1", "callbacks.n_validation_items=4",
    "evaluate.max_new_tokens=8", "plan.pilot=true", "plan.pilot_tokens=40000",
)  # fmt: skip
PAIR = "tiny-injection"


def config(run: Path, *argv: str) -> Any:
    from hydra import compose, initialize_config_dir

    from stratos.cli.build import build

    paths = (f"paths.run_dir={run}", f"paths.cache_dir={run / 'cache'}")
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        return build(compose("config", [*TINY, *paths, *argv]))


def start(run: Path, *argv: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stratos", *TINY, f"hydra.run.dir={run}", *argv]
    env = {**os.environ, "STRATOS_CACHE": str(run.parent / "cache"), "OMP_NUM_THREADS": "1"}
    log = (run.parent / "log").open("wb")
    return subprocess.Popen(command, cwd=run.parent, env=env, stdout=log, stderr=log)


def finish(run: Path, *argv: str) -> str:
    process = start(run, *argv)
    process.wait(300)
    said = (run.parent / "log").read_text()
    assert process.returncode == 0, said
    return said


# --- the planned training, scaled down ------------------------------------------------------------


def candidate(tokens: int = 160_000) -> Candidate:
    unknown = Interval(0.5, 0, 1)
    return Candidate("smollm2", "tiny", "injection", unknown, ("a", "b", "c"), train_tokens=tokens)


def test_tokens_items_and_warm_up_shrink_together(tmp_path):
    whole = config(tmp_path, "trainer.warmup_steps=5", "callbacks.stop_at_exact=0.9")
    assert lengths(whole.plan, candidate()) == (10_000, 20_000, 40_000)
    short = scaled(whole, candidate(), 40_000)
    assert short.trainer.max_tokens == 40_000
    assert short.strategies[0].n_items == 200
    assert short.trainer.warmup_steps == 1
    assert short.callbacks.validate_every_steps == 0
    assert short.callbacks.stop_at_exact is None
    same = (short.trainer.lr_muon, short.trainer.batch_tokens, short.students, short.seed)
    assert same == (whole.trainer.lr_muon, whole.trainer.batch_tokens, whole.students, whole.seed)


def test_a_pilot_is_never_longer_than_the_training(tmp_path):
    assert lengths(config(tmp_path, "plan.pilot_tokens=1000000").plan, candidate())[-1] == 160_000
    assert lengths(config(tmp_path).plan, candidate(8000)) == (2000, 4000, 8000)


# --- in one process -------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_validation_items_are_asked_and_what_is_finished_is_not_made_again(
    probed, monkeypatch
):
    from stratos.core.context import Context
    from stratos.ledger import Ledger
    from stratos.probe.pilot import pilot
    from stratos.synthesize import synthesize

    now = config(probed)
    asked: set[str] = set()
    score = type(now.task).score

    def scored(task: Any, text: str, item: Any) -> Any:
        asked.add(item.id)
        return score(task, text, item)

    monkeypatch.setattr(type(now.task), "score", scored)
    ticks: list[tuple[float, float]] = []
    context = Context(
        probed, probed / "cache", Ledger(probed / "ledger.jsonl"),
        tick=lambda done, total, text="": ticks.append((done, total)),
    )  # fmt: skip
    probe = records.load(probed / "probe.json", None, records.Probe)
    assert probe is not None
    made = pilot(now, probe, context)
    # As many when the training ends, and as many others for the figure.
    assert asked == {item.id for item in now.task.items("validation", 8)}
    assert [point.n_items for point in made.runs[0].points] == [4, 4, 4]
    assert [point.n_corpus_items for point in made.runs[0].points] == [64, 100, 200]
    assert made.usd == 0 and not (probed / "ledger.jsonl").exists()
    trained = [(done, total) for done, total in ticks if total > 1]
    assert [done for done, _ in trained] == sorted(done for done, _ in trained)
    assert trained[-1] == (70_000, 70_000)

    monkeypatch.setattr("stratos.distill.distill", None)
    monkeypatch.setattr("stratos.synthesize.synthesize", None)
    again = pilot(now, probe, context)
    assert replace(again, seconds=0.0) == replace(made, seconds=0.0)
    # Servers and limits say which pairs are left; what a training comes to does not hang on them.
    limited = config(probed, "limits.budget_usd=1000", "cloud=gcp")
    assert pilot(limited, probe, context).runs == made.runs
    nobody = pilot(config(probed, "limits.latency_ms=0.001"), probe, context)
    assert nobody.runs == () and list(nobody.left_out) == ["tiny by injection"]

    # A corpus that was cut for want of money goes on as soon as there is more, and only then.
    path = probed / "pilot" / "tiny-injection" / "10000" / "synthesize.json"
    kept = resume.find(SYNTHESIZE, path.parent)
    assert kept is not None
    resume.keep(SYNTHESIZE, path.parent, kept.fingerprint, replace(kept.record, cut_at_usd=1.0))
    poor = replace(context, ledger=Ledger(probed / "poor.jsonl", 1.0))
    assert pilot(now, probe, poor).runs == made.runs
    folders: list[str] = []

    def counted(config: Any, plan: Any, inner: Context) -> Any:
        folders.append(inner.run_dir.name)
        return synthesize(config, plan, inner)

    monkeypatch.setattr("stratos.synthesize.synthesize", counted)
    rich = replace(context, ledger=Ledger(probed / "rich.jsonl", 1000.0))
    assert len(pilot(now, probe, rich).runs) == 1
    assert folders == ["10000"]


@dataclass(frozen=True)
class Deaf(Injection):
    """A strategy whose teacher does not answer."""

    name: str = "injection_deaf"

    def draw(self, *_: Any) -> Any:
        raise TeacherError("The teacher does not answer.")


@pytest.mark.slow
def test_a_pair_that_cannot_be_trained_is_left_out_and_the_others_go_on(probed):
    from stratos.core.context import Context
    from stratos.ledger import Ledger
    from stratos.probe.pilot import pilot

    now = config(probed, "plan.pilot_tokens=4096", "limits.budget_usd=100")
    probe = records.load(probed / "probe.json", None, records.Probe)
    assert probe is not None
    context = Context(probed, probed / "cache", Ledger(probed / "ledger.jsonl", 100.0))
    made = pilot(replace(now, strategies=(Deaf(), *now.strategies)), probe, context)
    assert [run.strategy for run in made.runs] == ["injection"]
    assert made.left_out == {"tiny by injection_deaf": "The teacher does not answer."}
    assert context.ledger.budget_usd == 100.0


def test_a_paid_teacher_cannot_take_what_the_cheapest_plan_costs(tmp_path):
    from stratos.ledger import Ledger
    from stratos.probe.pilot.stage import _leaving

    ledger = Ledger(tmp_path / "ledger.jsonl", 10.0)
    with _leaving(ledger, 8.0):
        with pytest.raises(BudgetError), ledger.reserve("teacher x", 2.5):
            pass
        with ledger.reserve("teacher x", 1.5) as call:
            call.settle(1.5)
    with ledger.reserve("teacher x", 8.0) as call:
        call.settle(8.0)
    assert ledger.spent_usd == 9.5


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.kill
def test_killed_in_a_training_it_goes_on_and_the_plan_rests_on_it(probed):
    folder = probed / "pilot" / PAIR
    process = start(probed)
    while not (folder / "20000" / "distill" / "untouched").exists():
        assert process.poll() is None, (probed.parent / "log").read_text(errors="replace")
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    first = (folder / "10000" / "distill.json").stat().st_mtime_ns
    assert not (probed / "pilot.json").exists()

    log = finish(probed)
    assert (folder / "10000" / "distill.json").stat().st_mtime_ns == first
    pilot = records.load(probed / "pilot.json", None, Pilot)
    plan = records.load(probed / "plan.json", None, Plan)
    assert pilot is not None and plan is not None
    assert [round(point.train_tokens, -4) for point in pilot.runs[0].points] == [
        10_000, 20_000, 40_000,
    ]  # fmt: skip
    assert plan.accuracy.tried is not None and plan.accuracy.tried.n_right == 0
    source = plan.accuracy.source
    assert source.startswith("not predicted: 0 of 4 right after")
    assert "the longest of a pilot of 3 trainings" in source
    lines = [line for line in log.splitlines() if line.strip()]
    shown = [line.split()[0] for line in lines if line.split()[0] in ("pilot", "plan")]
    assert [shown[0], shown[-1]] == ["pilot", "plan"]

    again = finish(probed)
    for name in ("pilot", "plan"):
        assert re.search(rf"^{name} [^\n]*(\n +[^\n]*)*\(made before\)$", again, re.M), again
    without = finish(probed, "plan.pilot=false")
    assert not any(line.startswith("pilot") for line in without.splitlines())
    assert not json.loads((probed / "plan.json").read_text())["record"]["accuracy"][
        "source"
    ].startswith("unknown: at most")
    composed = yaml.safe_load((probed / ".hydra" / "config.yaml").read_text())
    assert composed["plan"]["pilot"] is False
