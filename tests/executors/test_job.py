"""From a plan to a job: pure arithmetic, and a config that is read back with no secret in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from one_run import Command, files
from stub_executors import Queue

from stratos.core.errors import StratosError
from stratos.core.extensions import shipped_choices
from stratos.core.process import without
from stratos.core.trust import find_class
from stratos.executors.here import Here
from stratos.executors.job import (
    ROLE_OF,
    StageName,
    State,
    has_server,
    job_name,
    job_spec,
    killed_by,
)
from stratos.records import Offer, Plan, RoleChoice
from stratos.run.stages import STAGES
from stratos.run.stored_config import load_config

GPU = Offer(
    "aws", "us-east-1", "g5.xlarge", "A10G", 1, 4, 16, 24, usd_per_hour=1.0, usd_per_hour_spot=0.4
)
TRAIN = RoleChoice("train", GPU, 1, False, hours=3.0, usd=6.0, hours_range=(2.0, 5.0))
HOSTED = RoleChoice("teacher", None, 0, False, hours=1.0, usd=2.0)


def plan(*roles: RoleChoice) -> Plan:
    fields: dict = dict.fromkeys(Plan.__dataclass_fields__)
    return Plan(**fields | {"roles": roles})


def test_a_job_is_what_the_plan_says(tmp_path):
    run = tmp_path / "my run,1"
    spec = job_spec(plan(HOSTED, TRAIN), "distill", run, Queue())
    assert (spec.role, spec.nodes, spec.offer, spec.gpus) == ("train", 1, GPU, 1)
    assert (spec.hours, spec.planned_hours, spec.usd_per_hour) == (10.0, 5.0, 1.0)
    assert spec.command == (
        sys.executable, "-m", "stratos", "stage", str(run), "distill", "--job"
    )  # fmt: skip
    assert spec.env == {"STRATOS_JOB": spec.name}
    assert spec.name == job_name(run, "distill")
    assert spec.name.startswith("stratos-my-run-1-") and spec.name.endswith("-distill")
    assert spec.name != job_name(tmp_path / "other" / "my run,1", "distill")


@pytest.mark.parametrize(
    ("code", "signal"),
    [(None, None), (0, None), (1, None), (-9, 9), (137, 9), (139, 11), (-15, None), (143, None),
     (128 + 53, None)],
)  # fmt: skip
def test_what_killed_a_process(code, signal):
    assert killed_by(code) == signal


def test_settings_go_before_the_plan(tmp_path):
    def hours_and_price(settings: Queue, choice: RoleChoice = TRAIN) -> tuple[float | None, float]:
        spec = job_spec(plan(choice), "distill", tmp_path, settings)
        return spec.hours, spec.usd_per_hour

    assert hours_and_price(Queue(hours=8.0, usd_per_hour=0.0)) == (8.0, 0.0)
    assert hours_and_price(Queue(hours_factor=3.0)) == (15.0, 1.0)
    assert hours_and_price(Queue(), replace(TRAIN, spot=True)) == (10.0, 0.4)
    assert [
        job_spec(plan(one), "distill", tmp_path, Queue()).spot
        for one in (TRAIN, replace(TRAIN, spot=True))
    ] == [False, True]
    short = replace(TRAIN, hours=0.001, hours_range=None)
    assert hours_and_price(Queue(), short) == (0.25, 1.0)


def test_a_plan_of_more_servers_than_a_job_has_takes_longer(tmp_path):
    two = plan(replace(TRAIN, count=2))
    spec = job_spec(two, "distill", tmp_path, Queue())
    assert (spec.planned_hours, spec.hours) == (10.0, 20.0)
    assert job_spec(two, "distill", tmp_path, Queue(), nodes=2).planned_hours == 5.0


def test_nodes_cost_what_they_cost_each(tmp_path):
    def usd_per_hour(settings: Queue) -> float:
        spec = job_spec(plan(TRAIN), "distill", tmp_path, settings, nodes=3)
        assert spec.nodes == 3
        return spec.usd_per_hour

    assert usd_per_hour(Queue()) == 3.0
    assert usd_per_hour(Queue(usd_per_hour=0.5)) == 1.5


def test_a_stage_goes_where_its_role_has_a_server():
    there = plan(HOSTED, TRAIN)
    assert has_server("distill", there)
    assert not has_server("synthesize", there), "hosted teachers are asked from here"
    assert not has_server("evaluate", there)
    assert not has_server("distill", None)
    assert has_server("probe", None), "nothing is planned before it"


def test_hours_are_those_of_the_work_and_end_with_the_deadline(tmp_path):
    serve = RoleChoice("serve", GPU, 1, False, hours=720.0, usd=720.0)
    teacher = RoleChoice("teacher", GPU, 2, False, hours=1.0, usd=2.0)
    there = plan(teacher, TRAIN, serve)

    def hours(stage: str, settings: Queue | None = None, deadline: float | None = None):
        made = job_spec(there, stage, tmp_path, settings or Queue(), deadline_hours=deadline)
        return made.hours, made.planned_hours

    # Two servers share the questions, and a job has one; a service runs longer than its trial.
    assert hours("synthesize") == (4.0, 2.0)
    assert hours("evaluate") == hours("deploy") == (None, 0.25)
    assert hours("distill", deadline=6.0) == (6.0, 5.0)
    assert hours("deploy", deadline=6.0) == (6.0, 0.25)
    assert hours("deploy", Queue(hours=1.5), deadline=6.0) == (1.5, 0.25)
    probe = job_spec(None, "probe", tmp_path, Queue())
    assert (probe.hours, probe.usd_per_hour, probe.offer, probe.role) == (None, 0, None, "teacher")


def test_a_job_does_not_get_the_keys_of_teachers(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "abc")
    monkeypatch.setenv("MY_FOLDER", "here")
    (tmp_path / "jobs").mkdir()
    told = tmp_path / "told"
    code = f"import os; open({str(told)!r}, 'w').write(str(sorted(os.environ)))"
    spec = job_spec(plan(TRAIN), "distill", tmp_path, Here())
    here = Here()
    withheld = ("MY_KEY", "NO_SUCH")
    spec = replace(spec, command=(sys.executable, "-c", code), withheld=withheld)
    job = here.submit(spec)
    while here.status(job).state is State.RUNNING:
        time.sleep(0.05)
    here.release(job)
    names = told.read_text()
    assert "'MY_FOLDER'" in names and "'STRATOS_JOB'" in names and "MY_KEY" not in names
    with without(("MY_KEY", "NO_SUCH")):
        assert "MY_KEY" not in os.environ and os.environ["MY_FOLDER"] == "here"
    assert os.environ["MY_KEY"] == "abc" and "NO_SUCH" not in os.environ


def test_every_stage_that_may_go_has_a_role():
    assert set(ROLE_OF) == set(StageName.__args__) <= {one.name for one in STAGES}


@pytest.mark.parametrize("name", list(shipped_choices("executor")))
def test_every_key_stands_in_the_yaml(name):
    shipped = OmegaConf.load(shipped_choices("executor")[name])
    executor = find_class(shipped.pop("_target_"))
    assert isinstance(executor, type) and executor.kind == name
    assert set(shipped) == {field.name for field in fields(executor)}


def test_nothing_is_imported_for_an_executor_that_is_not_asked_for():
    code = "import sys, stratos.__main__, stratos.cli.check; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = told.stdout.split()
    assert not {"submitit", "ray", "stratos.executors.handover"} & {*modules}
    assert not [name for name in modules if re.fullmatch(r"stratos\.contrib\.\w+\.executor", name)]


def test_a_secret_that_was_typed_is_in_no_file_and_is_asked_for(tmp_path, snapshot):
    folder = tmp_path / ".hydra"
    folder.mkdir()
    (folder / "hydra.yaml").write_text("hydra: {runtime: {cwd: /}}\n")
    (folder / "config.yaml").write_text("teacher:\n  base_url: http://***@host/v1\n")
    with pytest.raises(StratosError) as refused:
        load_config(tmp_path)
    assert str(refused.value) == snapshot
    (folder / "config.yaml").write_text("teacher:\n  base_url: ${oc.env:MY_URL}\n")
    assert "${oc.env:MY_URL}" in str(load_config(tmp_path)._get_node("teacher"))
    (folder / "config.yaml").unlink()
    with pytest.raises(StratosError, match=r"config\.yaml is not there: it is written when a run"):
        load_config(tmp_path)


# Stages in processes of their own on this machine: the contract of an executor, without engine.

ON = ("executor.stages=[distill]",)


def test_processes_of_their_own_make_the_same_corpus_and_student(command, trained):
    (command.run / "synthesize.json").unlink()
    shutil.rmtree(command.run / "corpus")
    both = ("stages=[synthesize,distill]", "executor.stages=[synthesize,distill]")
    assert command.start(*both, "executor.usd_per_hour=36").wait(300) == 0, command.said
    assert files(command.run / "corpus") == files(trained.run / "corpus")
    assert command.student() == trained.student()
    assert files(command.weights) == files(trained.weights)
    assert "distill: submitted as process " in command.said
    assert not (command.run / "jobs" / "distill.json").exists()
    settled = [one for one in command.ledger() if one.get("kind") == "settled"]
    assert [one["role"] for one in settled] == ["teacher", "train"]
    assert all(0 < one["usd"] < 3 for one in settled)


def test_killed_and_given_again_it_is_found(command, trained):
    process = command.start(*ON)
    command.until(command.has_checkpoint)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [pid] = re.findall(r"submitted as process (\d+)", command.said)
    os.kill(int(pid), signal.SIGSTOP)
    refused = command.start()
    assert refused.wait(60) == 1
    assert command.said.splitlines()[-1].startswith(f"distill was handed to process {pid} ")
    process = command.start(*ON)
    command.until(lambda: f"distill: follows process {pid} " in command.said)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # It comes to its end while nobody looks: what it held is settled when somebody does.
    os.kill(int(pid), signal.SIGCONT)
    last = time.monotonic() + 120
    while not (command.run / "distill.json").exists() and time.monotonic() < last:
        time.sleep(0.1)
    assert command.start(*ON).wait(60) == 0, command.said
    assert "(made before)" in command.said and "submitted" not in command.said
    assert not (command.run / "jobs" / "distill.json").exists()
    assert [one["kind"] for one in command.ledger() if "kind" in one][-1] == "settled"
    assert command.student() == trained.student()


def test_a_stage_of_a_run_folder_by_hand(command, trained):
    """The config is what Hydra kept of the command; the cache is named by the environment."""
    assert command.start("stages=[plan]").wait(120) == 0, command.said
    env = {"STRATOS_CACHE": str(command.run.parent / "cache"), "OMP_NUM_THREADS": "1"}
    by_hand = [sys.executable, "-m", "stratos", "stage", str(command.run), "distill"]
    done = subprocess.run(
        by_hand, cwd="/", env={**command.env, **env}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert command.student() == trained.student()
    again = subprocess.run(
        by_hand, cwd="/", env={**command.env, **env}, capture_output=True, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    assert re.search(r"^training [^\n]*(\n +[^\n]*)*\(made before\)", again.stdout, re.M)
    # To the main command, it is its own record.
    assert command.start().wait(120) == 0
    assert "(made before)" in command.said


# A server that cannot be had: the plan is solved again without it.

PICKY = """
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stratos.core.errors import CapacityError
from stratos.executors.here import Here


@dataclass(frozen=True)
class Picky(Here):
    kind: ClassVar[str] = "picky"
    gives: int = 2

    def submit(self, spec):
        told = Path(os.environ["PICKY_TOLD"])
        asked = told.read_text().splitlines() if told.exists() else []
        offer = spec.offer
        name = f"{offer.cloud}/{offer.region}/{offer.instance_type}"
        told.write_text("\\n".join([*asked, name]) + "\\n")
        if len(asked) < self.gives:
            raise CapacityError(f"{spec.stage}: no capacity for {name}.", name)
        return super().submit(spec)
"""


@pytest.fixture
def picky(command: Command, tmp_path: Path) -> Command:
    (tmp_path / "picky.py").write_text(PICKY)
    command.env = {
        **os.environ, "PYTHONPATH": str(tmp_path), "STRATOS_ALLOW_TARGETS": "picky",
        "PICKY_TOLD": str(tmp_path / "told"),
    }  # fmt: skip
    return command


def on(gives: int) -> tuple[str, ...]:
    return (
        "executor._target_=picky.Picky", f"+executor.gives={gives}", "executor.stages=[distill]",
        "stages=[plan,synthesize,distill]",
    )  # fmt: skip


def told(command: Command) -> list[str]:
    return Path(command.env["PICKY_TOLD"]).read_text().splitlines()


def test_the_next_server_is_planned_and_it_stays_so(picky):
    assert picky.start(*on(2)).wait(300) == 0, picky.said
    first, second, third = told(picky)
    assert len({first, second, third}) == 3
    for number, name in ((1, first), (2, second)):
        assert f"no capacity for {name}. The plan is solved again without it ({number} of 5" in (
            " ".join(picky.said.split())
        )  # fmt: skip
    plan = json.loads((picky.run / "plan.json").read_text())["record"]
    [train] = [one for one in plan["roles"] if one["role"] == "train"]
    assert train["offer"]["instance_type"] == third.split("/")[2]
    # Nothing is left reserved for what was not had, and a second command plans the same.
    kinds = [one["kind"] for one in picky.ledger() if one.get("kind") in ("rented", "settled")]
    assert kinds == ["rented", "settled"] * 3
    assert picky.start(*on(2)).wait(120) == 0, picky.said
    assert "solved again" not in picky.said and len(told(picky)) == 3
    (picky.run / "refused.json").unlink()
    assert picky.start(*on(2), "stages=[plan]").wait(120) == 0, picky.said
    assert "made before" not in next(one for one in picky.said.splitlines() if "plan " in one)


def test_after_five_it_is_left_to_the_user(picky):
    assert picky.start(*on(9)).wait(300) == 1
    assert len(set(told(picky))) == 5
    said = " ".join(picky.said.split())
    assert "5 servers could not be had, one after the other." in said
    assert f"delete {picky.run}/refused.json" in said


def test_without_plan_among_the_stages_it_is_said(picky):
    assert picky.start(*on(9), "stages=[distill]").wait(300) == 1
    assert len(told(picky)) == 1
    assert "Give the command again with plan among its stages" in " ".join(picky.said.split())
