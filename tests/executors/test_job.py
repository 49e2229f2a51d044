"""From a plan to a job: pure arithmetic, and a config that is read back with no secret in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from stub_executors import Queue
from syrupy.assertion import SnapshotAssertion

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


def test_a_job_is_what_the_plan_says(tmp_path: Path) -> None:
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
def test_what_killed_a_process(code: int | None, signal: int | None) -> None:
    assert killed_by(code) == signal


def test_settings_go_before_the_plan(tmp_path: Path) -> None:
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


def test_a_plan_of_more_servers_than_a_job_has_takes_longer(tmp_path: Path) -> None:
    two = plan(replace(TRAIN, count=2))
    spec = job_spec(two, "distill", tmp_path, Queue())
    assert (spec.planned_hours, spec.hours) == (10.0, 20.0)
    assert job_spec(two, "distill", tmp_path, Queue(), nodes=2).planned_hours == 5.0


def test_nodes_cost_what_they_cost_each(tmp_path: Path) -> None:
    def usd_per_hour(settings: Queue) -> float:
        spec = job_spec(plan(TRAIN), "distill", tmp_path, settings, nodes=3)
        assert spec.nodes == 3
        return spec.usd_per_hour

    assert usd_per_hour(Queue()) == 3.0
    assert usd_per_hour(Queue(usd_per_hour=0.5)) == 1.5


def test_a_stage_goes_where_its_role_has_a_server() -> None:
    there = plan(HOSTED, TRAIN)
    assert has_server("distill", there)
    assert not has_server("synthesize", there), "hosted teachers are asked from here"
    assert not has_server("evaluate", there)
    assert not has_server("distill", None)
    assert has_server("probe", None), "nothing is planned before it"


def test_hours_are_those_of_the_work_and_end_with_the_deadline(tmp_path: Path) -> None:
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


def test_a_job_does_not_get_the_keys_of_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_every_stage_that_may_go_has_a_role() -> None:
    assert set(ROLE_OF) == set(StageName.__args__) <= {one.name for one in STAGES}


@pytest.mark.parametrize("name", list(shipped_choices("executor")))
def test_every_key_stands_in_the_yaml(name: str) -> None:
    shipped = OmegaConf.load(shipped_choices("executor")[name])
    executor = find_class(shipped.pop("_target_"))
    assert isinstance(executor, type) and executor.kind == name
    assert set(shipped) == {field.name for field in fields(executor)}


def test_nothing_is_imported_for_an_executor_that_is_not_asked_for() -> None:
    code = "import sys, stratos.__main__, stratos.cli.check; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = told.stdout.split()
    assert not {"submitit", "ray", "stratos.executors.handover"} & {*modules}
    assert not [name for name in modules if re.fullmatch(r"stratos\.contrib\.\w+\.executor", name)]


def test_a_secret_that_was_typed_is_in_no_file_and_is_asked_for(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
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
