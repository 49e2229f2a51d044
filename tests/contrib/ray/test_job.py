"""From a plan to a job of Ray: what it asks for, what it gets, and the script that Ray runs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stratos.contrib.ray import nodes as ray_nodes
from stratos.contrib.ray.executor import NO_FOLDER, NO_PYTHON, Ask, Ray, attempts, next_attempt
from stratos.contrib.ray.nodes import Unreachable
from stratos.core import extras
from stratos.core.errors import StratosError
from stratos.core.machine import Share
from stratos.executors import submission
from stratos.executors.job import Job, JobSpec, State, job_spec
from stratos.records import Offer, Plan, RoleChoice

GPU = Offer("ray", "cluster", "2xA100-80G-8cpu-64gib", "A100-80GB", 2, 8, 64, 80, usd_per_hour=1)
AT = 1_700_000_000.0
"""When a job began."""
SHARE = Share("cluster", 8, 65536, "A100-80G", 2, (), 3)


@pytest.fixture(autouse=True)
def _nothing_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    return spec_of(GPU, tmp_path / "my run")


def spec_of(offer: Offer, run: Path) -> JobSpec:
    fields: dict = dict.fromkeys(Plan.__dataclass_fields__)
    roles = (RoleChoice("train", offer, 1, False, hours=1.0, usd=1.0),)
    return job_spec(Plan(**fields | {"roles": roles}), "distill", run, Ray())


def test_a_job_asks_for_what_the_plan_chose_of_the_cluster(spec, monkeypatch, snapshot):
    monkeypatch.setattr("stratos.contrib.ray.executor.shares_of_cluster", lambda *_: [SHARE])
    more = {"accelerator_type:A100-80G": 0.001}
    assert Ray()._ask(spec) == Ask(8, 2, 65536, more)
    assert Ray()._ask(spec).resources == {"CPU": 8, "GPU": 2, "memory": 64 * 2**30, **more}
    assert str(Ray()._ask(spec)) == snapshot
    # Settings go first.
    mine = Ray(cpus=3, gpus=0.5, memory_gib=1.5, resources={"disk": 2})
    assert mine._ask(spec) == Ask(3, 0.5, 1536, {"disk": 2, **more})
    assert Ray(gpus=0)._ask(spec).more == {}
    monkeypatch.setattr("stratos.contrib.ray.executor.shares_of_cluster", lambda *_: [])
    with pytest.raises(StratosError, match="Ray has no node any more that is ray/cluster 2xA100"):
        Ray()._ask(spec)


def test_a_job_of_another_clouds_plan_asks_for_its_gpus(tmp_path):
    spec = spec_of(replace(GPU, cloud="aws", region="us-east-1"), tmp_path)
    assert Ray()._ask(spec) == Ask(1, 2, 0, {}, is_any_cpu=True)
    assert str(Ray(gpus=0)._ask(spec)) == "1 CPU"


def test_a_job_gets_few_variables_and_no_key(spec, monkeypatch):
    for name in ("MY_KEY", "STRATOS_MY_KEY", "STRATOS_CACHE", "MY_URL", "SECRET"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    spec = replace(spec, withheld=("MY_KEY", "STRATOS_MY_KEY"))
    found = Ray(env=("MY_URL", "MY_KEY", "NO_SUCH"))._variables(spec)
    found = {one: found[one] for one in found if one not in ("PYTHONPATH", "HF_HOME")}
    assert not any("KEY" in one or one == "SECRET" for one in found)
    assert found["MY_URL"] == "my_url" and found["STRATOS_CACHE"] == "stratos_cache"
    assert found["STRATOS_JOB"] == spec.name and found["RAY_JOB_STOP_WAIT_TIME_S"] == "120"


@pytest.mark.parametrize(
    ("hours", "paid", "seconds"),
    [(2.0, None, "7260"), (2.0, 0.5, "1860"), (None, 1.0, "3660"), (None, None, None)],
)
def test_a_job_ends_itself_when_its_hours_or_its_money_are_up(spec, hours, paid, seconds):
    found = Ray()._variables(replace(spec, hours=hours, paid_hours=paid))
    assert found.get("STRATOS_JOB_SECONDS") == seconds


def test_the_script_runs_what_the_node_can_and_what_is_wanted(spec):
    (spec.folder / "jobs").mkdir(parents=True)
    one = next_attempt(spec)
    told = (sys.executable, "-c", "import os; print('threads', os.environ.get('OMP_NUM_THREADS'))")

    def run(command: tuple[str, ...] = told, *, is_any_cpu: bool = False) -> int:
        script = one.script(command, Ask(1, 0, 0, is_any_cpu=is_any_cpu))
        env = {**os.environ, "OMP_NUM_THREADS": "7"}
        return subprocess.run(script, shell=True, env=env, check=False).returncode

    assert run() == NO_FOLDER, "another disk is mounted there"
    one.want()
    assert run(("/no/python",)) == NO_PYTHON
    assert one.began_at is None
    assert run() == 0 and run(is_any_cpu=True) == 0
    assert one.log.read_text() == "threads 7\nthreads None\n"
    assert one.began_at is not None
    assert run((sys.executable, "-c", "raise SystemExit(3)")) == 3
    one.revoke()
    assert run(("false",)) == 0, "it is not wanted any more"
    # The next one has another name, and the same beginning of it.
    assert attempts(spec) == [one]
    assert next_attempt(spec).id == one.id.removesuffix("1") + "2"
    assert one.id.startswith(f"{spec.name}-")


def test_folders_of_one_path_on_two_machines_have_jobs_of_two_names(tmp_path):
    run = tmp_path / "run"
    first = next_attempt(spec_of(GPU, run))
    run.rename(tmp_path / "elsewhere")
    assert next_attempt(spec_of(GPU, run)).id != first.id


@pytest.mark.parametrize(
    ("told", "state", "text"),
    [
        ({"driver_exit_code": 1}, State.FAILED, "exit code 1"),
        (
            {"driver_exit_code": -9}, State.LOST, "Ray job a-1 was killed by signal 9 on 10.0.0.2"
        ),
        ({"driver_exit_code": 143}, State.LOST, "Ray job a-1 was told to end on 10.0.0.2"),
        ({"error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, State.LOST, "Ray job a-1 has lost its node"),
        ({"error_type": None}, State.LOST, "Ray job a-1 has lost its node"),
        (
            {"error_type": "RUNTIME_ENV_SETUP_FAILURE", "message": "It is\nbroken"},
            State.FAILED, "RUNTIME_ENV_SETUP_FAILURE: broken",
        ),
    ],
)  # fmt: skip
def test_how_a_job_ended(spec, told, state, text):
    job = Job(spec, "a-1", "Ray job a-1", Path("jobs/ray/a-1.log"))
    status = Ray()._failed(job, told, "10.0.0.2", 5.0)
    assert (status.state, status.text, status.since) == (state, text, 5.0)


def test_a_node_that_does_not_see_the_run(spec, snapshot):
    job = Job(spec, "a-1", "Ray job a-1", Path("a-1.log"))
    with pytest.raises(StratosError) as refused:
        Ray()._failed(job, {"driver_exit_code": NO_FOLDER}, "10.0.0.2", None)
    assert str(refused.value).replace(str(spec.folder), "<spec.folder>") == snapshot


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setattr(ray_nodes.importlib.util, "find_spec", lambda name: None)
    assert Ray().unusable() == Unreachable(
        "a Ray cluster is reached by ray[default], which is not installed. Type: "
        f"{extras.install('ray')}."
    )


def test_ray_knows_when_a_job_ran(tmp_path, monkeypatch):
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))
    spec = JobSpec("a", "distill", tmp_path, "train", 1, 2.0, planned_hours=1.0)
    job = Job(spec, "x", "Ray job x", tmp_path / "log", is_new=False)
    assert Ray().spans(job) is None
    one = next_attempt(spec)
    one.want()
    assert Ray().spans(job) == []  # it waited, and was never started
    one.log.with_suffix(".began").write_text("1700000000\n")
    os.utime(one.log, (AT + 30, AT + 30))

    class Answers:
        def get(self, path: str) -> dict[str, object]:
            assert path == f"/api/jobs/{one.id}"
            return {"status": "SUCCEEDED", "end_time": (AT + 53) * 1000}

    monkeypatch.setattr(Ray, "_connect", lambda _: Answers())
    assert Ray().spans(job) == [(AT, AT + 53)]

    def silent(_: Ray) -> None:
        raise StratosError("It does not answer.")

    monkeypatch.setattr(Ray, "_connect", silent)
    assert Ray().spans(job) == [(AT, AT + 30)]
