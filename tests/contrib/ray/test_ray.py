"""Stages on a real Ray cluster: the same student as here, whatever is lost on the way."""

from __future__ import annotations

import re
import shutil
import signal
import time

import pytest
from cluster_stages import (
    OnCluster,
    test_a_second_command_follows_the_job_of_the_first,
    test_a_second_command_of_other_inputs_ends_the_job_of_the_first,
    test_a_stage_that_is_killed_goes_on_and_one_that_always_is_ends,
    test_all_other_stages_leave_what_they_leave_here,
    test_an_error_of_the_stage_is_the_same_as_here,
)
from one_ray import RayCluster
from one_run import Command, files
from whole import IS_WHOLE, WHOLE

ON = ("executor=ray",)

__all__ = [
    "test_a_second_command_follows_the_job_of_the_first",
    "test_a_second_command_of_other_inputs_ends_the_job_of_the_first",
    "test_a_stage_that_is_killed_goes_on_and_one_that_always_is_ends",
    "test_all_other_stages_leave_what_they_leave_here",
    "test_an_error_of_the_stage_is_the_same_as_here",
]


@pytest.fixture
def on(on_ray: Command, ray_cluster: RayCluster) -> OnCluster:
    def n_active() -> int:
        return len(ray_cluster.jobs(on_ray.run, "PENDING", "RUNNING"))

    return OnCluster(on_ray, ray_cluster, ON, r"Ray job stratos-run-\S+", r"[\d.]+", n_active)


def test_a_student_of_ray_is_the_student_of_here(on_ray, trained, ray_cluster):
    on_ray.env = {**on_ray.env, "RAY_API_SERVER_ADDRESS": "", "RAY_ADDRESS": "10.9.9.9:6379"}
    on = (*ON, f"executor.address={ray_cluster.address}", "executor.gpus=1")
    assert on_ray.start(*on).wait(300) == 0, on_ray.said
    assert on_ray.student() == trained.student()
    assert files(on_ray.weights) == files(trained.weights)
    name = r"stratos-run-\w{12}-distill"
    assert re.search(rf"distill: submitted as Ray job {name}-\w{{6}}-1 \({name}\)", on_ray.said)
    [job] = ray_cluster.jobs(on_ray.run)
    assert job["status"] == "SUCCEEDED" and job["metadata"]["stage"] == "distill"
    # Servers at the price of the plan's offer, from the start of the job to its end.
    [rented] = [one for one in on_ray.ledger() if one.get("kind") == "rented"]
    assert (rented["role"], rented["stage"]) == ("train", "distill")
    assert rented["usd_per_hour"] > 0
    [settled] = [one for one in on_ray.ledger() if one.get("kind") == "settled"]
    assert 0 < settled["usd"] == pytest.approx(settled["seconds"] / 3600 * rented["usd_per_hour"])
    # The record is there: nothing is submitted again.
    assert on_ray.start(*on).wait(120) == 0
    assert "(made before)" in on_ray.said and "submitted" not in on_ray.said


@WHOLE
def test_a_node_that_dies_in_the_middle_changes_nothing(on_ray, trained, ray_cluster):
    process = on_ray.start(*ON, "executor.usd_per_hour=0")
    on_ray.until(on_ray.has_checkpoint)
    with ray_cluster.frozen(on_ray.run):
        [job] = ray_cluster.jobs(on_ray.run)
        node = ray_cluster.node_of(job)
        ray_cluster.lose(node)
    try:
        assert process.wait(300) == 0, on_ray.said
    finally:
        ray_cluster.back(node)
    assert on_ray.student() == trained.student()
    assert files(on_ray.weights) == files(trained.weights)
    assert ", gone on 1×: " in on_ray.said
    assert f"{job['submission_id']} has lost its node; it is submitted again." in on_ray.said
    states = [one["status"] for one in ray_cluster.jobs(on_ray.run)]
    assert states == ["FAILED", "SUCCEEDED"]
    rented = [one for one in on_ray.ledger() if one.get("kind") == "rented"]
    assert [one["usd_per_hour"] for one in rented] == [0] * len(rented)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=WHOLE)])
def test_a_command_that_is_told_to_end_leaves_nothing_running(on_ray, trained, ray_cluster, number):
    process = on_ray.start(*ON)
    on_ray.until(on_ray.has_checkpoint)
    with ray_cluster.frozen(on_ray.run):
        process.send_signal(number)
        on_ray.until(lambda: "is told to end; waiting until it is gone" in on_ray.said)
    assert process.wait(120) == 128 + number, on_ray.said
    assert [one["status"] for one in ray_cluster.jobs(on_ray.run)] == ["STOPPED"]
    assert ray_cluster.processes(on_ray.run) == []
    if not IS_WHOLE:
        return
    # What it had done is kept, and goes on wherever the next command has it run.
    where = ("executor=here",) if number == signal.SIGINT else ON
    assert on_ray.start(*where).wait(300) == 0, on_ray.said
    assert on_ray.student() == trained.student()
    assert ", gone on 1×: " in on_ray.said


@WHOLE
def test_a_job_is_ended_where_the_folder_of_its_run_is_gone(on_ray, ray_cluster):
    process = on_ray.start(*ON, "executor.usd_per_hour=3.6", "trainer.max_tokens=400000")
    on_ray.until(on_ray.has_checkpoint)
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = on_ray.servers().stdout
    assert "running, for " in told and "Ray job stratos-run-" in told and "$3.60 an hour" in told
    shutil.move(on_ray.run, on_ray.run.with_name("elsewhere"))
    down = on_ray.servers("down", "--all")
    assert down.returncode == 0 and "-distill: gone." in down.stdout, down.stderr
    assert [one["status"] for one in ray_cluster.jobs(on_ray.run)] == ["STOPPED"]
    assert ray_cluster.processes(on_ray.run) == []


@WHOLE
def test_a_job_that_reaches_its_limit_goes_on(on_ray, trained, ray_cluster):
    process = on_ray.start(*ON, "executor.hours=0.015")
    on_ray.until(on_ray.has_checkpoint)
    with ray_cluster.frozen(on_ray.run):
        time.sleep(0.015 * 3600)
    assert process.wait(300) == 0, on_ray.said
    assert re.search(
        r"-1 has reached its limit of 54(\.\d)? s; it is submitted again\.", on_ray.said
    )
    assert on_ray.student() == trained.student()


def test_a_job_that_waited_too_long_never_runs(on_ray, ray_cluster):
    with ray_cluster.busy():
        process = on_ray.start(*ON, "executor.max_pending_hours=0.0005")
        assert process.wait(120) == 1
    assert re.fullmatch(
        r"distill: Ray job stratos-run-\S+-1 waits for 1 CPU \(\d of 4 CPU in use\)\. It has "
        r"waited .* s, and may wait 0\.0005 h \(executor\.max_pending_hours, or "
        r"limits\.deadline_hours\): the job is cancelled\. Type executor\.max_pending_hours=<more "
        r"hours>\. Or run it on this machine: executor=here\.",
        on_ray.said.splitlines()[-1],
    ), on_ray.said
    assert [one["usd"] for one in on_ray.ledger() if one.get("kind") == "settled"] == [0]
    # Ray starts it nevertheless when it can, and it ends without having run anything.
    ray_cluster.until(lambda: bool(ray_cluster.jobs(on_ray.run, "SUCCEEDED")))
    assert not list((on_ray.run / "jobs" / "ray").glob("*.began"))


@WHOLE
def test_a_job_that_ray_gives_up_waits_again(on_ray, ray_cluster):
    with ray_cluster.busy():
        process = on_ray.start(*ON)
        ray_cluster.until(lambda: len(ray_cluster.jobs(on_ray.run)) == 2)
    assert process.wait(120) == 0, on_ray.said
    told = [(one["status"], one["error_type"]) for one in ray_cluster.jobs(on_ray.run)]
    assert told == [("FAILED", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"), ("SUCCEEDED", None)]


def test_what_cannot_be_submitted(on_ray, ray_cluster):
    def told(*argv: str) -> str:
        assert on_ray.start(*ON, *argv).wait(60) in (1, 2)
        return on_ray.said.splitlines()[-1]

    assert told("executor.gpus=9", "executor.resources={disk: 2}") == (
        "distill: no node of the Ray cluster has what the job asks for (1 CPU, 9 GPU, 2 disk). "
        "Change executor.gpus, executor.cpus, executor.memory_gib or executor.resources, see ray "
        "status, or type executor=here. Or, where the cluster adds nodes when jobs wait, type "
        "executor.autoscales=true."
    )
    assert ray_cluster.jobs(on_ray.run) == []
    assert told("trainer.num_nodes=2").startswith(
        "trainer.num_nodes=2: executor=ray runs a stage on one node. Type trainer.num_nodes=1"
    )
    assert told("executor.address=127.0.0.1:6379") == (
        "executor=ray: 127.0.0.1:6379 is no address of a dashboard. Type "
        "executor.address=http://<head>:8265, as ray start prints it on the head node. Or type "
        "executor=here."
    )
    assert re.fullmatch(
        r"executor=ray: no Ray dashboard answers at http://127\.0\.0\.1:9 \(.*\)\. Start the "
        r"cluster with ray start --head, make its dashboard reachable \(--dashboard-host, ssh "
        r"-L\), and type executor\.address=http://<head>:8265, or set RAY_API_SERVER_ADDRESS\. Or "
        r"type executor=here\.",
        told("executor.address=http://127.0.0.1:9"),
    ), on_ray.said
    # A node that lacks the Python of this machine says so.
    assert re.fullmatch(
        r"distill: 127\.0\.\d+\.[23] of the Ray cluster has no /no/python\. Install Stratos on the "
        r"nodes, and type executor\.python=<its Python there>\. Or run it on this machine: "
        r"executor=here\.",
        told("executor.python=/no/python"),
    ), on_ray.said


def test_the_cluster_is_the_catalog_and_a_job_asks_for_what_the_plan_chose(on_ray, ray_cluster):
    chosen = ("cloud=ray", "cloud.usd_per_gpu_hour=2", "cloud.usd_per_cpu_hour=0.5")
    assert on_ray.start(*chosen, "stages=[plan]").wait(120) == 0, on_ray.said
    roles = on_ray.record("plan")["roles"]
    for one in (role["offer"] for role in roles):
        assert (one["cloud"], one["region"], one["accelerator"]) == ("ray", "cluster", "H100")
        assert one["instance_type"] == "1xH100-2cpu-4gib"
        assert (one["vcpus"], one["memory_gib"], one["usd_per_hour"]) == (2, 4, 3)
    with ray_cluster.busy():
        process = on_ray.start(*chosen, "stages=[distill]", *ON, "executor.max_pending_hours=0.001")
        ray_cluster.until(lambda: bool(ray_cluster.jobs(on_ray.run)))
        [job] = ray_cluster.jobs(on_ray.run)
        ray_cluster.until(lambda: ray_cluster.asked(job) != {})
        assert ray_cluster.asked(job) == {
            "CPU": 2, "GPU": 1, "memory": 4 * 2**30, "accelerator_type:H100": 0.001
        }  # fmt: skip
        assert process.wait(120) == 1
    assert "waits for 2 CPU, 1 GPU, 4 GiB of memory, accelerator_type:H100 (" in on_ray.said
