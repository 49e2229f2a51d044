"""SkyPilot without a server: what is launched, what is sent, what the node runs, what is said."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_process import stratos
from required import lacking

from stratos.contrib.skypilot import executor as sky_check
from stratos.contrib.skypilot import executor as skypilot
from stratos.contrib.skypilot.cluster import (
    Cluster,
    Unreachable,
    cluster_name,
    install,
    script_of,
    server_name,
    task_of,
)
from stratos.contrib.skypilot.executor import NoCloud, NoPrice, NoSky, SkyPilot, pack
from stratos.contrib.skypilot.follower import Copies, rules
from stratos.core.context import Context
from stratos.core.errors import CapacityError, StratosError
from stratos.core.extras import pins, write_wheel
from stratos.executors import submission
from stratos.executors.handover import Handover, run_there
from stratos.executors.job import JobSpec, Returns, State, events_path, job_spec
from stratos.executors.job_costs import ByteCounter
from stratos.executors.submission import Submission
from stratos.ledger import Ledger
from stratos.ledger.reserves import leases
from stratos.records import Offer, Plan, RoleChoice

ROOT = Path(__file__).parents[3]
OFFERS = ROOT / "stratos" / "catalog" / "offers.csv"
GPU = Offer(
    "aws", "us-east-1", "g5.xlarge", "A10G", 1, 4, 16, 24, usd_per_hour=1.0, usd_per_hour_spot=0.4
)
SPOT = RoleChoice("train", GPU, 1, True, hours=3.0, usd=6.0, hours_range=(2.0, 5.0))


def spec_of(
    run: Path, choice: RoleChoice = SPOT, executor: SkyPilot | None = None, **more: Any
) -> JobSpec:
    empty: dict = dict.fromkeys(Plan.__dataclass_fields__)
    plan = Plan(**empty | {"roles": (choice,)})
    return job_spec(plan, "distill", run, executor or SkyPilot(), **more)


# --- what is launched -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "cluster"),
    [
        ("stratos-run-1a2b3c-distill", "stratos-run-1a2b3c-distill"),
        ("stratos-12-00-00-1a2b3c-distill", "stratos-12-00-00-1a2b3c-distill"),
        ("stratos-My_Run.1-1a2b3c-distill", "stratos-my-run-1-1a2b3c-distill-a16ace"),
        (f"stratos-{'x' * 60}-1a2b3c-distill", f"stratos-{'x' * 27}-890591"),
    ],
)
def test_a_name_that_every_cloud_takes(job, cluster):
    assert cluster_name(job) == cluster and len(cluster) <= 42


def test_two_names_are_two_clusters():
    assert cluster_name("stratos-a.b-distill") != cluster_name("stratos-a_b-distill")


def test_a_task_asks_for_what_the_plan_chose(tmp_path):
    run = tmp_path / "my run"
    spec = spec_of(run, files=(Path("/data/rows.jsonl"),))
    resources = SkyPilot()._resources(spec)
    assert server_name(resources) == "aws/us-east-1 g5.xlarge, spot"
    task = task_of(spec, resources, Path("/sent"), "true")
    script = task.pop("run")
    name = cluster_name(spec.name)
    assert task == {
        "name": name,
        "num_nodes": 1,
        "resources": {
            "infra": "aws/us-east-1",
            "instance_type": "g5.xlarge",
            "accelerators": "A10G:1",
            "use_spot": True,
            "labels": {"stratos-run": "my-run", "stratos-role": "train", "stratos-job": name},
            "autostop": {"idle_minutes": 30, "down": True, "wait_for": "jobs"},
        },
        "envs": {"STRATOS_JOB": spec.name},
        "file_mounts": {
            f"~/.stratos/{name}/sent": "/sent",
            "/data/rows.jsonl": "/data/rows.jsonl",
        },
    }
    assert (
        f"timeout --kill-after=180 36000 \"$STRATOS_VENV\"/bin/python -m stratos stage '{run}'"
        in script
    )


@pytest.mark.parametrize(
    ("choice", "settings", "spot", "usd_per_hour"),
    [
        (SPOT, {}, True, 0.4),
        (SPOT, {"spot": False}, False, 1.0),
        (replace(SPOT, spot=False), {}, False, 1.0),
        (replace(SPOT, spot=False), {"spot": True}, True, 0.4),
        # No more than on demand, where no spot price is known.
        (replace(SPOT, offer=replace(GPU, usd_per_hour_spot=None)), {"spot": True}, True, 1.0),
        (replace(SPOT, offer=replace(GPU, usd_per_hour_spot=None)), {}, False, 1.0),
    ],
)
def test_the_ledger_counts_the_price_of_what_is_rented(
    tmp_path, choice, settings, spot, usd_per_hour
):
    spec = spec_of(tmp_path, choice, SkyPilot(**settings))
    assert SkyPilot(**settings)._resources(spec)["use_spot"] is spot
    assert (spec.spot, spec.usd_per_hour) == (spot, usd_per_hour)


def test_another_server_than_the_plans(tmp_path):
    elsewhere = SkyPilot(
        infra="kubernetes", accelerators="H100:1", spot=False, usd_per_hour=2.0, idle_minutes=None
    )
    assert elsewhere._resources(spec_of(tmp_path)) == {
        "infra": "kubernetes", "accelerators": "H100:1", "use_spot": False, "max_hourly_cost": 2.0
    }  # fmt: skip
    assert SkyPilot(spot=False)._resources(spec_of(tmp_path))["use_spot"] is False
    assert SkyPilot(infra="kubernetes").unusable() == NoPrice()


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"accelerators": "H100:1", "usd_per_hour": 2.0}, 2.0),
        ({"accelerators": "H100:1", "usd_per_hour": 0.0}, None),
        ({"instance_type": "p5.4xlarge", "usd_per_hour": 2.0}, None),
        ({}, None),
    ],
)
def test_a_server_that_skypilot_chooses_costs_no_more_than_the_ledger_counts(
    settings, most, tmp_path, monkeypatch
):
    monkeypatch.setattr("stratos.contrib.skypilot.executor.pack", lambda *_: None)
    spec, engine = spec_of(tmp_path), SkyPilot(**settings)
    path = engine._write(spec, engine._resources(spec), tmp_path / "sky")
    assert yaml.safe_load(path.read_text())["resources"].get("max_hourly_cost") == most


def test_a_job_on_kubernetes_is_the_task_that_is_kept(tmp_path):
    """No Kubernetes runs in these tests: what SkyPilot is handed is compared with a file."""
    engine = SkyPilot(infra="kubernetes", accelerators="H100:1", spot=False, usd_per_hour=2.0)
    spec = spec_of(Path("/runs/mine"))
    task = task_of(spec, engine._resources(spec), Path("/sent"), install("3.12", ()))
    kept = Path(__file__).with_name("kubernetes.sky.yaml")
    assert task == yaml.safe_load(kept.read_text())


def test_a_server_that_is_not_rented(tmp_path, snapshot):
    local = replace(GPU, cloud="local", region="here")
    with pytest.raises(StratosError) as caught:
        SkyPilot()._checked(spec_of(tmp_path, replace(SPOT, offer=local)))
    assert str(caught.value) == snapshot


def test_what_a_server_sends_here_is_billed_by_its_cloud(tmp_path):
    def listed(cloud: str) -> float:
        return {"aws": 0.09, "lambda": 0.0}.get(cloud, 0.5)

    assert SkyPilot().usd_per_gb_of(GPU, listed) == 0.09
    assert SkyPilot(usd_per_gb=0.01).usd_per_gb_of(GPU, listed) == 0.01
    assert SkyPilot(infra="lambda/x").usd_per_gb_of(GPU, listed) == 0.0
    assert SkyPilot(infra="slurm/mine").usd_per_gb_of(GPU, listed) == 0.0, "nodes of one's own"
    assert SkyPilot(accelerators="H100:1").usd_per_gb_of(None, listed) == 0.5, "any cloud"


@pytest.mark.parametrize(
    ("settings", "copy_gb", "minutes"),
    [
        ({}, 0.0, 5.0),
        ({}, 0.005, 60 * (2 * 0.005 * 0.09 / (0.1 * 0.4)) ** 0.5),
        ({}, 16.0, 60 * (2 * 16 * 0.09 / (0.1 * 0.4)) ** 0.5),
        ({"spot": False}, 0.005, 60 * (2 * 0.005 * 0.09 / (0.001 * 0.4)) ** 0.5),
        ({"fetch_every_minutes": 20.0}, 16.0, 20.0),
    ],
)
def test_large_checkpoints_are_brought_back_less_often(tmp_path, settings, copy_gb, minutes):
    executor = SkyPilot(**settings)
    spec = spec_of(tmp_path, returns=Returns(usd_per_gb=0.09, end_gb=1.0, copy_gb=copy_gb))
    assert executor._minutes(spec) == pytest.approx(max(5.0, minutes))
    n_copies = 5 * 60 / executor._minutes(spec)  # the high end of the plan is 5 h
    assert executor.egress_gb(spec) == pytest.approx(1.0 + (1 + n_copies) * copy_gb)
    free = replace(spec, returns=Returns(end_gb=1.0, copy_gb=copy_gb))
    assert executor.egress_gb(free) == 0.0


def test_no_job_gets_the_key_of_a_teacher(tmp_path, snapshot):
    spec = spec_of(tmp_path, withheld=("BIG_KEY",))
    with pytest.raises(StratosError) as caught:
        SkyPilot(env=("HF_TOKEN", "BIG_KEY"))._checked(spec)
    assert str(caught.value) == snapshot


def test_every_offer_of_the_catalog_is_one_that_skypilot_takes(tmp_path):
    """Each instance type and each region, on demand and, where it has a price, as spot."""
    python = os.environ.get("STRATOS_SKY", "") and f"{os.environ['STRATOS_SKY']}/bin/python"
    if not python and importlib.util.find_spec("sky"):
        python = sys.executable
    if not python:
        lacking("skypilot", "STRATOS_SKY names no environment with SkyPilot")
    tasks, seen = [], set()
    with OFFERS.open() as file:
        for row in csv.DictReader(file):
            price, spot = float(row["Price"]), row["SpotPrice"]
            kinds = {(row["Cloud"], row["InstanceType"], bool(spot)), (row["Cloud"], row["Region"])}
            if kinds <= seen:
                continue
            seen |= kinds
            count = int(float(row["AcceleratorCount"] or 0))
            offer = Offer(
                row["Cloud"], row["Region"], row["InstanceType"], row["AcceleratorName"] or None,
                count, float(row["vCPUs"] or 0), float(row["MemoryGiB"] or 0), 0, price,
                float(spot) if spot else None,
            )  # fmt: skip
            for is_spot in (False, True)[: 1 + bool(spot)]:
                spec = spec_of(tmp_path, replace(SPOT, offer=offer, spot=is_spot))
                tasks.append(task_of(spec, SkyPilot()._resources(spec), tmp_path, "true"))
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("skypilot_catalog.py")), str(tmp_path)],
        check=True,
    )
    done = subprocess.run(
        [python, "-c", VALIDATE, str(tmp_path / "tasks.json")],
        env={**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == [f"{len(tasks)} tasks"], done.stdout + done.stderr


VALIDATE = """
import json, sys, sky
tasks = json.load(open(sys.argv[1]))
for one in tasks:
    told = one["resources"]
    try:
        task = sky.Task.from_yaml_config(one)
        task.validate()
        [found] = task.resources
        assert found.instance_type == told["instance_type"], found
        assert found.use_spot == told["use_spot"], found
        assert found.get_cost(3600) > 0, found
    except Exception as error:
        print(told, type(error).__name__, error)
print(len(tasks), "tasks")
"""


# --- what is sent ---------------------------------------------------------------------------------


def test_the_wheel_is_the_stratos_that_runs_here(tmp_path):
    wheel = write_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        assert (
            file.read("stratos/cli/commands/stage.py")
            == (ROOT / "stratos" / "cli" / "commands" / "stage.py").read_bytes()
        )
        file.extractall(tmp_path / "site")
    assert {"stratos/conf/config.yaml", "stratos/catalog/offers.csv"} <= names
    assert "hydra_plugins/stratos_launchers/__init__.py" in names
    assert not [one for one in names if "__pycache__" in one]
    shown = subprocess.run(
        [sys.executable, "-c", "import stratos; print(stratos.__file__)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip() == str(tmp_path / "site" / "stratos" / "__init__.py")


def test_versions_are_those_of_here():
    found = dict(one.split("==") for one in pins())
    assert found["torch"] and "+" not in found["torch"]
    assert {"transformers", "lightning", "hydra-core"} <= set(found)
    assert not {"ray", "submitit", "pytest"} & set(found), "extras are not the node's"
    command = install("3.12", ("bitsandbytes>=0.46",))
    assert "uv venv --quiet --python 3.12" in command
    assert command.endswith("/*.whl)[train]\" 'bitsandbytes>=0.46'")


def test_a_run_folder_is_sent_without_money_and_tracking(tmp_path):
    run = tmp_path / "run"
    for name in (".hydra/config.yaml", "corpus/train.jsonl", "wandb/x", "jobs/old.log",
                 "ledger.jsonl", ".lock", "plan.json", ".plan.json.new",
                 "distill/checkpoints/step-2.ckpt"):  # fmt: skip
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    submission.write(run, Submission("skypilot", "a job", "distill", "/run", "train", 1, 1.0))
    pack(spec_of(run, cache={"reads.jsonl": b"seen"}), tmp_path / "sent")
    assert (tmp_path / "sent" / "cache" / "reads.jsonl").read_bytes() == b"seen"
    with tarfile.open(tmp_path / "sent" / "run.tar") as tar:
        names = {one.name for one in tar if one.isfile()}
    assert names == {
        ".hydra/config.yaml", "corpus/train.jsonl", "plan.json", "jobs/distill.json",
        "distill/checkpoints/step-2.ckpt",
    }  # fmt: skip


def test_only_what_the_stage_writes_comes_back(tmp_path):
    if shutil.which("rsync") is None:
        lacking("skypilot", "rsync is not installed")
    there, here = tmp_path / "there", tmp_path / "here"
    for folder, names in (
        (there, ("distill/checkpoints/step-6.ckpt", "distill/.student.new/x", "corpus/rows",
                 "distill.json", "ledger.jsonl")),
        (here, ("distill/checkpoints/step-2.ckpt", "corpus/rows", "ledger.jsonl", "plan.json")),
    ):  # fmt: skip
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(folder.name)
    subprocess.run(["rsync", "--archive", *rules("distill"), f"{there}/", f"{here}/"], check=True)
    found = {
        str(one.relative_to(here)): one.read_text() for one in here.rglob("*") if one.is_file()
    }
    assert found == {
        "distill/checkpoints/step-6.ckpt": "there", "corpus/rows": "here", "ledger.jsonl": "here",
        "plan.json": "here",
    }  # fmt: skip


# --- what the node runs ---------------------------------------------------------------------------


INTERPRETER = f'mkdir -p "$STRATOS_VENV/bin"\nln -s {sys.executable} "$STRATOS_VENV/bin/python"'


class Node:
    """The script of a job, run by bash in a home of its own."""

    def __init__(
        self, home: Path, stage: str, setup: str = INTERPRETER, hours: float | None = None
    ) -> None:
        source, run = home / "here" / "run", home / "there" / "run"
        (source / "corpus").mkdir(parents=True)
        submission.write(
            source, Submission("skypilot", "a job", "distill", "/run", "train", 1, 1.0)
        )
        spec = replace(spec_of(source), hours=hours)
        self.base = home / ".stratos" / cluster_name(spec.name)
        pack(replace(spec, cache={"reads.jsonl": b"seen"}), self.base / "sent")
        spec = replace(spec, folder=run, command=("", "-c", stage))
        self.run = run
        self.process = subprocess.Popen(
            ["bash", "-c", script_of(spec, setup)],
            env={**os.environ, "HOME": str(home)}, start_new_session=True,
        )  # fmt: skip

    @property
    def state(self) -> str:
        path = self.base / "state"
        return path.read_text().strip() if path.exists() else ""

    def until(self, moment: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not moment():
            assert time.monotonic() < deadline, self.state
            time.sleep(0.05)


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("began").touch()
time.sleep(60)
"""


def test_the_node_runs_the_stage_in_the_folder_of_the_run(tmp_path):
    node = Node(tmp_path, "import sys; print(*sys.argv[1:]); open('made', 'w').close()")
    assert node.process.wait(60) == 0 and node.state == "exit 0"
    assert (node.run / "made").exists() and (node.run / "corpus").is_dir()
    assert (node.run / "jobs" / "distill.json").exists()
    assert (node.base / "distill.log").read_text() == f"--cache {node.base}/cache\n"
    assert (node.base / "cache" / "reads.jsonl").read_text() == "seen"


def test_the_node_tells_how_the_stage_ends(tmp_path):
    node = Node(tmp_path, "import sys; sys.exit('no')")
    assert node.process.wait(60) == 1 and node.state == "exit 1"
    assert (node.base / "distill.log").read_text() == "no\n"


@pytest.mark.parametrize("hours", [None, 1.0])
def test_a_stage_that_is_told_to_end_saves(tmp_path, hours):
    node = Node(tmp_path, SAVES, hours=hours)
    node.until(lambda: (node.run / "began").exists())
    assert node.state == "stage"
    os.kill(int((node.base / "stage.pid").read_text()), signal.SIGTERM)
    assert node.process.wait(60) == 143 and node.state == "exit 143"
    assert (node.run / "saved").exists()


def test_a_stage_that_takes_too_long_saves_and_ends(tmp_path):
    node = Node(tmp_path, SAVES, hours=2 / 3600)
    assert node.process.wait(60) == 124 and node.state == "exit 124"
    assert (node.run / "saved").exists()


def test_what_cannot_be_installed_ends_the_job(tmp_path):
    node = Node(tmp_path, "", setup="echo trying\nfalse\necho on")
    assert node.process.wait(60) == 1 and node.state == "exit 1"
    assert (node.base / "distill.log").read_text() == "trying\n"


def test_a_folder_that_cannot_be_made_on_the_node(tmp_path):
    (tmp_path / "there").touch()
    node = Node(tmp_path, "")
    assert node.process.wait(60) == 1 and node.state == "exit 1"
    said = (node.base / "distill.log").read_text()
    assert said.startswith(f"The folder of the run cannot be made on the server: {node.run}. Type ")


# --- what is said ---------------------------------------------------------------------------------


@pytest.fixture
def sky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Return what writes a program `sky` that answers as SkyPilot 0.14.1 does."""

    def write(version: str = "0.14.1", clouds: str = '{"default": {"AWS": ["compute"]}}',
              status: str = "[]", down: str = "", code: int = 0,
              launch: str = "exit 3") -> Path:  # fmt: skip
        path = tmp_path / "bin" / "sky"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncase $1 in\n'
            f"--version) echo 'skypilot, version {version}' ;;\n"
            f"check) echo '{clouds}' ;;\nstatus) echo 'Cluster(s) not found: x.' >&2; "
            f"echo '{status}'; exit {code} ;;\ndown) echo '{down}' ;;\n"
            f"launch) {launch} ;;\napi) echo '[]' ;;\nesac\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        sky_check._why_not.cache_clear()
        sky_check.enabled_clouds.cache_clear()
        return path

    for name in ("ssh", "rsync"):  # nothing is sent, and this machine may lack them
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tmp_path / 'programs'}")
    skypilot._following.clear()
    yield write
    skypilot._following.clear()
    sky_check._why_not.cache_clear()
    sky_check.enabled_clouds.cache_clear()


def test_a_skypilot_that_cannot_be_used(sky):
    assert SkyPilot(program="no-such-sky").unusable() == NoSky("no-such-sky", "is not there")
    assert SkyPilot(program=str(sky())).unusable() is None
    old = str(sky(version="0.11.2"))
    assert SkyPilot(program=old).unusable() == NoSky(old, "is version 0.11.2")
    assert SkyPilot(program=str(sky(clouds='{"default": {}}'))).unusable() == NoCloud()


def test_a_cloud_that_skypilot_may_not_use(sky, tmp_path, snapshot):
    clouds = '{"default": {"Lambda": ["compute"], "GCP": ["compute", "storage"], "AWS": []}}'
    executor = SkyPilot(program=str(sky(clouds=clouds)))
    with pytest.raises(StratosError) as caught:
        executor.submit(spec_of(tmp_path))
    assert str(caught.value) == snapshot


def launched(executor: SkyPilot, run: Path, code: int, log: str = "") -> Any:
    """Return a job whose launch has ended."""
    spec = spec_of(run)
    following = executor._follow(spec)
    following.cluster.folder.mkdir(parents=True)
    (following.cluster.folder / "launched").write_text(str(code))
    following.log.write_text(log)
    return executor._job(following, is_new=False)


def test_a_server_that_cannot_be_had(sky, tmp_path, snapshot):
    executor = SkyPilot(program=str(sky()))
    log = "\x1b[33msky.exceptions.ResourcesUnavailableError: Failed to acquire resources\x1b[0m\n"
    job = launched(executor, tmp_path / "run", 1, log)
    with pytest.raises(CapacityError) as caught:
        executor.status(job)
    assert caught.value.server == "aws/us-east-1/g5.xlarge"
    assert str(caught.value).replace(str(job.log), "<job.log>") == snapshot


def test_a_server_of_the_users_own_that_cannot_be_had(sky, tmp_path):
    executor = SkyPilot(program=str(sky()), infra="aws/us-west-2", instance_type="g5.xlarge")
    job = launched(executor, tmp_path / "run", 1, "sky.exceptions.ResourcesUnavailableError: x\n")
    status = executor.status(job)
    assert (status.state, status.since) == (State.STUCK, None)
    assert status.text.startswith("SkyPilot gets no aws/us-west-2 g5.xlarge")
    assert status.text.endswith("Give the same command later, or name another server.")


def test_a_server_that_is_gone_and_one_that_nobody_knows_of(sky, tmp_path):
    executor = SkyPilot(program=str(sky()))
    job = launched(executor, tmp_path / "run", 0)
    status = executor.status(job)
    assert (status.state, status.text) == (
        State.LOST, f"its spot server was taken back (server {job.id})"
    )  # fmt: skip
    skypilot._following.clear()
    sky(code=1)
    assert executor.status(job).state is State.UNKNOWN


def test_a_stage_that_was_killed_is_lost_and_one_that_failed_is_not(sky, tmp_path):
    executor = SkyPilot(program=str(sky()))
    job = launched(executor, tmp_path / "run", 0)
    executor.status(job)
    following = skypilot._following[job.id]
    following._has_all = True
    found = {}
    for code in (137, 139, 1, 143):
        following._state = f"exit {code}"
        found[code] = following._as_seen()
    assert [found[code].state for code in found] == [
        State.LOST, State.LOST, State.FAILED, State.CANCELLED
    ]  # fmt: skip
    assert found[137].text == f"it was killed by signal 9 on server {job.id}"
    assert "executor.instance_type=<one with more>" in found[137].cure


def test_a_cluster_that_does_not_end_is_shouted(sky, tmp_path, monkeypatch, snapshot):
    monkeypatch.setattr("stratos.contrib.skypilot.follower._DOWN_S", 0.0)
    spec = spec_of(tmp_path)
    name = cluster_name(spec.name)
    path = sky(status=json.dumps([{"name": name, "status": "UP"}]), down="no credentials")
    with pytest.raises(StratosError) as caught:
        SkyPilot(program=str(path)).cancel(spec)
    assert str(caught.value).replace(str(name), "<name>").replace(str(path), "<path>") == snapshot
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked.count(f"down --yes {name}") == 3


def test_what_skypilot_says_before_its_answer_is_no_answer(sky, tmp_path):
    told = 'Refreshing [1/2]\n[\n  {\n    "name": "a",\n    "links": []\n  }\n]'
    cluster = Cluster("a", str(sky(status=told)), tmp_path)
    assert cluster.record() == {"name": "a", "links": []}
    assert Cluster("b", cluster.program, tmp_path).record() is None
    with pytest.raises(Unreachable):
        Cluster("a", str(sky(status="nothing")), tmp_path).record()


def test_a_launch_outlives_its_command_and_tells_how_it_has_ended(sky, tmp_path):
    log = tmp_path / "log"
    cluster = Cluster("a", str(sky(launch="echo no zone; exit 3")), tmp_path / "a")
    cluster.launch(tmp_path / "task.yaml", ["HF_TOKEN"], log)
    while cluster.is_launching():
        time.sleep(0.01)
    assert cluster.launched() == 3 and log.read_text() == "no zone\n"
    assert (tmp_path / "asked").read_text() == (
        f"launch --cluster a --yes --detach-run --secret HF_TOKEN {tmp_path / 'task.yaml'}\n"
    )
    sky(launch="sleep 60")
    cluster.launch(tmp_path / "task.yaml", [], log)
    other = Cluster("a", cluster.program, tmp_path / "a")  # of the next command
    assert other.is_launching() and other.launched() is None
    other.down()
    deadline = time.monotonic() + 10
    while other.is_launching():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert other.launched() is None


RENTS = """
launch) touch {cloud}/cluster {cloud}/server; exec sleep 60 ;;
status) [ -e {cloud}/server ] || case $* in *--refresh*) rm -f {cloud}/cluster ;; esac
    [ -e {cloud}/cluster ] && echo '[{{"name": "{name}", "status": "INIT"}}]' || echo '[]' ;;
down) rm -f {cloud}/* ;;
"""
"""What `sky` does where launches begin to rent: it lists a cluster before there is a server."""


@pytest.mark.parametrize("has_server", [True, False])
def test_a_launch_that_is_ended_early_costs_what_the_cloud_had_started(
    sky, tmp_path, monkeypatch, has_server
):
    """SkyPilot has not named the server yet when the command is told to end."""
    monkeypatch.setattr("stratos.contrib.skypilot.executor.pack", lambda *_: None)
    spec, cloud, path = spec_of(tmp_path / "run"), tmp_path / "cloud", sky()
    cloud.mkdir()
    spec.folder.mkdir()
    rents = RENTS.format(cloud=cloud, name=cluster_name(spec.name))
    path.write_text(path.read_text().replace("case $1 in\n", f"case $1 in{rents}", 1))
    ledger = Ledger(spec.folder / "ledger.jsonl", 10.0, stage="distill")
    context = Context(spec.folder, tmp_path / "cache", ledger)

    def is_told_to_end() -> None:
        until = time.monotonic() + 30
        while not (cloud / "server").exists() and time.monotonic() < until:
            time.sleep(0.02)
        if not has_server:
            (cloud / "server").unlink(missing_ok=True)
        time.sleep(0.3)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=is_told_to_end)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_there(Handover(SkyPilot(program=str(path)), spec, "a mark", {}, None), context)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert list(cloud.iterdir()) == [] and leases(ledger) == []
    [settled] = [line for line in map(json.loads, ledger.path.read_text().splitlines())
                 if line["kind"] == "settled"]  # fmt: skip
    assert settled["seconds"] >= 0.3 if has_server else settled["seconds"] == 0
    assert settled["usd"] == pytest.approx(settled["seconds"] / 3600 * 0.4)


@pytest.mark.parametrize("step", ["Following.save", "Copies.stop"])
def test_a_server_is_ended_though_nothing_of_it_can_be_saved(step, sky, tmp_path, monkeypatch):
    def fails(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(f"stratos.contrib.skypilot.follower.{step}", fails)
    spec, path, cloud = spec_of(tmp_path / "run"), sky(), tmp_path / "cloud"
    cloud.mkdir()
    (cloud / "cluster").touch()
    rents = RENTS.format(cloud=cloud, name=cluster_name(spec.name))
    path.write_text(path.read_text().replace("case $1 in\n", f"case $1 in{rents}", 1))
    SkyPilot(program=str(path)).cancel(spec)
    assert list(cloud.iterdir()) == []


def test_what_an_earlier_job_has_said_is_not_said_again(sky, tmp_path, monkeypatch):
    monkeypatch.setattr("stratos.contrib.skypilot.executor.pack", lambda *_: None)
    executor, spec = SkyPilot(program=str(sky(launch="sleep 60"))), spec_of(tmp_path / "run")
    events = events_path(spec.folder, "distill")
    events.parent.mkdir(parents=True)
    events.write_text('{"note": ["of an earlier server"]}\n')
    job = executor.submit(spec)
    assert job.is_new and events.exists(), "its costs are settled by its last word"
    assert executor.status(job).state is State.PENDING
    assert list(executor.events(job)) == [] and not events.exists()
    again = executor.submit(spec)
    assert not again.is_new and again.id == job.id
    executor.cancel(spec)
    assert executor.submit(spec).is_new
    executor.cancel(spec)


def test_what_a_job_prints_is_appended_here(tmp_path, monkeypatch):
    if shutil.which("rsync") is None:
        lacking("skypilot", "rsync is not installed")
    node, ssh = tmp_path / "node", tmp_path / "programs" / "ssh"
    for path, text in (
        (
            ssh,
            f'#!/bin/sh\nwhile [ "$1" != a ]; do shift; done; shift\ncd {node}\nexec sh -c "$*"\n',
        ),
        (tmp_path / ".sky" / "generated" / "ssh" / "a", "Host a\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    ssh.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    spec = spec_of(tmp_path / "run")
    cluster = Cluster("a", "sky", tmp_path / "a")
    copies = Copies(spec, cluster, 0.0)
    there, here = node / ".stratos" / "a", tmp_path / "run" / "jobs" / "distill.log"
    for path in (there, here.parent):
        path.mkdir(parents=True)
    assert cluster.state() == "new"
    copies.texts()
    assert not here.exists()
    for text in ("one\n" * 1000, "two\n"):
        with (there / "distill.log").open("a") as log:
            log.write(text)
        copies.texts()
        assert here.read_text() == (there / "distill.log").read_text()
    assert 4000 < ByteCounter(spec.folder, "distill").total < 5000, "what is here is sent once"
    (there / "state").write_text("exit 0\n")
    assert cluster.state() == "exit 0"
    ssh.write_text("#!/bin/sh\necho lost >&2\nexit 255\n")
    for question in (cluster.state, copies.texts):
        with pytest.raises(Unreachable):
            question()


AWS = """#!/bin/sh
case $* in
*"--region eu-west-1"*) echo "An error occurred (UnauthorizedOperation)" >&2; exit 254 ;;
*describe-regions*) echo '{{"Regions": [{regions}]}}' ;;
*"--region us-east-1"*) echo '{{"Reservations": [{{"Instances": [{instances}]}}]}}' ;;
*) echo '{{"Reservations": []}}' ;;
esac
"""


def aws(folder: Path, *regions: str, jobs: tuple[str, ...] = ()) -> None:
    """Write a program `aws` whose account has these regions, and a server for each of the jobs."""
    instances = [
        {
            "InstanceId": f"i-{n}", "InstanceType": "g5.xlarge", "InstanceLifecycle": "spot",
            "LaunchTime": "2026-12-01T05:00:00+00:00",
            "Tags": [{"Key": key, "Value": value} for key, value in (
                ("stratos-run", "my-run"), ("stratos-role", "train"), ("stratos-job", job)
            )],
        }
        for n, job in enumerate(jobs)
    ]  # fmt: skip
    text = AWS.format(
        regions=", ".join(f'{{"RegionName": "{region}"}}' for region in regions),
        instances=", ".join(map(json.dumps, instances)),
    )
    (folder / "aws").write_text(text)
    (folder / "aws").chmod(0o755)


def test_servers_of_runs_that_another_machine_started_are_found_by_their_tags(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path / "cache"))
    spec = spec_of(tmp_path / "run")
    submission.add_to_list(Submission.of(SkyPilot(), spec))
    aws(tmp_path, "us-east-1", "us-west-2", jobs=(cluster_name(spec.name), "stratos-b-distill"))
    listing = json.loads(stratos("servers", "--account", "--json").stdout)
    [server] = listing["elsewhere"]
    assert server == {
        "name": "stratos-b-distill", "run": "my-run", "role": "train",
        "server": "aws/us-east-1 g5.xlarge, spot", "since": 1796101200.0,
        "end": "aws ec2 terminate-instances --region us-east-1 --instance-ids i-1",
    }  # fmt: skip
    assert [job["name"] for job in listing["jobs"]] == [spec.name]
    said = stratos("servers", "--account").stdout
    assert "stratos-b-distill: train of my-run, started elsewhere" in said


def test_a_region_that_a_policy_denies_is_named_and_left_out(tmp_path, monkeypatch, snapshot):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path / "cache"))
    aws(tmp_path, "eu-west-1", "us-east-1", jobs=("stratos-b-distill",))
    listing = json.loads(stratos("servers", "--account", "--json").stdout)
    assert [server["name"] for server in listing["elsewhere"]] == ["stratos-b-distill"]
    denied = "An error occurred (UnauthorizedOperation)"
    assert listing["left_out"] == {"aws/eu-west-1": denied}
    said = stratos("servers", "--account").stdout
    assert said.splitlines()[-2] == snapshot
    aws(tmp_path, "eu-west-1")
    refused = stratos("servers", "--account")
    assert refused.returncode == 1 and refused.stderr.strip() == snapshot
    aws(tmp_path, "eu-west-1", "us-east-1", jobs=("stratos-b-distill",))
    program = tmp_path / "aws"
    program.write_text(program.read_text().replace("UnauthorizedOperation", "RequestLimitExceeded"))
    busy = stratos("servers", "--account")
    assert busy.returncode == 1 and "so that servers may be missing" in busy.stderr


def test_the_users_own_region_says_which_regions_there_are(tmp_path, monkeypatch):
    """A policy denies us-east-1, where the account's servers may not be."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path / "cache"))
    aws(tmp_path, "us-east-1", "us-west-2")
    program = tmp_path / "aws"
    program.write_text(program.read_text().replace("eu-west-1", "us-east-1", 1))
    listing = json.loads(stratos("servers", "--account", "--json").stdout)
    assert listing["left_out"] == {"aws/us-east-1": "An error occurred (UnauthorizedOperation)"}
