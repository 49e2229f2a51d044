"""What an earlier command left on a real SLURM: no job is forgotten, none is paid twice."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time

import pytest
from one_cluster import Cluster
from one_run import Command, files
from whole import WHOLE

ON = ("executor=slurm", "executor.partition=main", "executor.usd_per_hour=100")
LONG = ("trainer.max_tokens=100000000", "limits.train_hours=1000")
"""A training that does not end within a test."""


def kill(command: Command) -> None:
    assert command.process is not None
    command.process.send_signal(signal.SIGKILL)
    command.process.wait()


def left_running(command: Command, slurm: Cluster, *argv: str) -> str:
    """Start a job, kill its command, hold its stage, and return the job's id."""
    command.start(*ON, *argv)
    command.until(command.has_checkpoint)
    kill(command)
    for pid in slurm.processes(command.run):
        os.kill(pid, signal.SIGSTOP)
    return slurm.run("squeue", "-h", "-t", "R", "-o", "%i")


def seconds_of(slurm: Cluster, id: str) -> int:
    told = slurm.run("scontrol", "show", "job", "-o", id)
    [(h, m, s)] = re.findall(r" RunTime=(\d+):(\d+):(\d+) ", told)
    return int(h) * 3600 + int(m) * 60 + int(s)


def settled(command: Command) -> list[float]:
    return [one["seconds"] for one in command.ledger() if one.get("kind") == "settled"]


def open_leases(command: Command) -> set[str]:
    kinds = {"rented": set[str](), "settled": set[str]()}
    for one in command.ledger():
        if one.get("kind") in kinds:
            kinds[one["kind"]].add(one["id"])
    return kinds["rented"] - kinds["settled"]


def test_a_command_that_is_refused_changes_nothing_of_the_job_of_another(on_slurm, prepared, slurm):
    short = on_slurm.lack_corpus()
    other = Command(on_slurm.run)
    other.env = on_slurm.env
    with slurm.drained():
        first = on_slurm.start(*ON, *short)
        on_slurm.until(lambda: slurm.jobs() == ["PENDING"])
        log = on_slurm.said
        assert other.start(*ON, *short, "strategy.n_items=200").wait(60) == 1
        assert "another process is working in this folder" in other.said
    (on_slurm.run.parent / "log").write_text(log)
    assert first.wait(300) == 0, on_slurm.said
    assert files(on_slurm.run / "corpus") == files(prepared / "corpus")


@WHOLE
def test_a_job_of_other_inputs_is_ended_where_an_earlier_record_fits_again(on_slurm, slurm):
    assert on_slurm.start(*ON).wait(300) == 0, on_slurm.said
    student, kept = on_slurm.student(), on_slurm.run.with_name("kept")
    shutil.copytree(on_slurm.run / "distill", kept)
    shutil.copy(on_slurm.run / "distill.json", kept)
    shutil.rmtree(on_slurm.run / "distill" / "checkpoints", ignore_errors=True)
    assert left_running(on_slurm, slurm, *LONG)
    shutil.rmtree(on_slurm.run / "distill")
    shutil.copytree(kept, on_slurm.run / "distill")
    (on_slurm.run / "distill" / "distill.json").rename(on_slurm.run / "distill.json")
    assert on_slurm.start(*ON).wait(300) == 0, on_slurm.said
    assert slurm.jobs() == [] and on_slurm.student() == student
    assert "was submitted for other inputs" in on_slurm.said and open_leases(on_slurm) == set()


@WHOLE
def test_the_job_of_a_folder_that_was_deleted_is_ended(on_slurm, prepared, slurm):
    id = left_running(on_slurm, slurm, *LONG)
    shutil.rmtree(on_slurm.run)
    shutil.copytree(prepared, on_slurm.run)
    assert on_slurm.start(*ON).wait(300) == 0, on_slurm.said
    assert f"SLURM job {id} was submitted for this folder, which does not know it" in on_slurm.said
    assert slurm.jobs() == [] and "submitted as SLURM job" in on_slurm.said


@WHOLE
def test_a_job_of_a_folder_that_was_moved_is_ended_and_settled(on_slurm, slurm):
    id = left_running(on_slurm, slurm, *LONG)
    moved = on_slurm.run.with_name("moved")
    on_slurm.run.rename(moved)
    on_slurm.run = moved
    assert on_slurm.start(*ON).wait(300) == 0, on_slurm.said
    assert "it is cancelled" in on_slurm.said
    assert slurm.jobs() == [] and open_leases(on_slurm) == set()
    assert settled(on_slurm)[0] == pytest.approx(seconds_of(slurm, id), abs=3)


@WHOLE
def test_a_job_that_is_followed_costs_what_it_was_submitted_at(on_slurm, slurm):
    left_running(on_slurm, slurm)
    process = on_slurm.start(*ON, "executor.usd_per_hour=7", "stages=[plan,distill]")
    on_slurm.until(lambda: "follows SLURM job" in on_slurm.said)
    on_slurm.until(lambda: "it goes on at $100.00 an hour, as it was submitted" in on_slurm.said)
    assert "$100.00 an hour" in on_slurm.servers().stdout
    for pid in slurm.processes(on_slurm.run):
        os.kill(pid, signal.SIGCONT)
    assert process.wait(300) == 0, on_slurm.said
    assert open_leases(on_slurm) == set()
    [rented] = [one for one in on_slurm.ledger() if one.get("kind") == "rented"]
    assert rented["usd_per_hour"] == 100


@WHOLE
def test_a_job_that_waited_ran_and_was_cancelled_unseen_is_booked(on_slurm, slurm):
    with slurm.drained():
        on_slurm.start(*ON, *LONG)
        on_slurm.until(lambda: slurm.jobs() == ["PENDING"])
        kill(on_slurm)
        id = slurm.run("squeue", "-h", "-o", "%i")
    last = time.monotonic() + 60
    while slurm.jobs() != ["RUNNING"] and time.monotonic() < last:
        time.sleep(0.2)
    time.sleep(8)
    slurm.run("scontrol", "update", f"jobid={id}", "requeue=0")
    slurm.run("scancel", id)
    while slurm.jobs():
        time.sleep(0.2)
    ran_s = seconds_of(slurm, id)
    assert ran_s >= 8
    time.sleep(20)
    assert on_slurm.start(*ON).wait(300) == 0, on_slurm.said
    first, *_ = settled(on_slurm)
    assert first == pytest.approx(ran_s, abs=2)


@WHOLE
def test_a_job_that_was_queued_again_unseen_pays_each_start_and_no_wait(on_slurm, slurm):
    id = left_running(on_slurm, slurm)
    for pid in slurm.processes(on_slurm.run):
        os.kill(pid, signal.SIGCONT)
    slurm.run("scontrol", "requeuehold", id)
    while slurm.jobs() != ["PENDING"]:
        time.sleep(0.2)
    time.sleep(45)
    process = on_slurm.start(*ON)
    on_slurm.until(lambda: "follows SLURM job" in on_slurm.said)
    slurm.run("scontrol", "release", id)
    assert process.wait(300) == 0, on_slurm.said
    first, second = settled(on_slurm)
    assert first < 40 and open_leases(on_slurm) == set()
    assert second == pytest.approx(seconds_of(slurm, id), abs=2)
