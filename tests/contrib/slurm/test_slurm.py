"""Stages on a real SLURM: the same student as here, whatever is lost on the way."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from cluster_stages import (
    OnCluster,
    test_a_second_command_follows_the_job_of_the_first,
    test_a_second_command_of_other_inputs_ends_the_job_of_the_first,
    test_a_stage_that_is_killed_goes_on_and_one_that_always_is_ends,
    test_all_other_stages_leave_what_they_leave_here,
    test_an_error_of_the_stage_is_the_same_as_here,
)
from one_cluster import Cluster
from one_run import Command, files
from whole import WHOLE

ON = ("executor=slurm", "executor.partition=main")

__all__ = [
    "test_a_second_command_follows_the_job_of_the_first",
    "test_a_second_command_of_other_inputs_ends_the_job_of_the_first",
    "test_a_stage_that_is_killed_goes_on_and_one_that_always_is_ends",
    "test_all_other_stages_leave_what_they_leave_here",
    "test_an_error_of_the_stage_is_the_same_as_here",
]


@pytest.fixture
def on(on_slurm: Command, slurm: Cluster) -> OnCluster:
    return OnCluster(on_slurm, slurm, ON, r"SLURM job \d+", r"n\d", lambda: len(slurm.jobs()))


def test_a_student_of_slurm_is_the_student_of_here(on_slurm, trained, slurm):
    assert on_slurm.start(*ON, "executor.gpus=1").wait(300) == 0, on_slurm.said
    assert on_slurm.student() == trained.student()
    assert files(on_slurm.weights) == files(trained.weights)
    said = on_slurm.said
    assert re.search(r"distill: submitted as SLURM job \d+ \(stratos-run-\w{12}-distill\)", said)
    assert slurm.jobs() == []
    # Servers at the price of the plan's offer, from the start of the job to its end.
    rented = [one for one in on_slurm.ledger() if one.get("kind") == "rented"]
    assert [(one["role"], one["stage"]) for one in rented] == [("train", "distill")]
    assert rented[0]["usd_per_hour"] > 0
    [settled] = [one for one in on_slurm.ledger() if one.get("id") == rented[0]["id"]
                 and one["kind"] == "settled"]  # fmt: skip
    assert (
        0 < settled["usd"] == pytest.approx(settled["seconds"] / 3600 * rented[0]["usd_per_hour"])
    )
    # The record is there: nothing is submitted again.
    assert on_slurm.start(*ON).wait(120) == 0
    assert "(made before)" in on_slurm.said and "submitted" not in on_slurm.said


@WHOLE
def test_a_node_that_dies_in_the_middle_changes_nothing(on_slurm, trained, slurm):
    process = on_slurm.start(*ON, "executor.usd_per_hour=0")
    on_slurm.until(on_slurm.has_checkpoint)
    with slurm.frozen(on_slurm.run):
        node = slurm.node_of_the_job()
        slurm.lose(node)
    try:
        assert slurm.processes(on_slurm.run) == []
        assert process.wait(300) == 0, on_slurm.said
    finally:
        slurm.back(node)
    assert on_slurm.student() == trained.student()
    assert files(on_slurm.weights) == files(trained.weights)
    assert ", gone on 1×: " in on_slurm.said
    rented = [one for one in on_slurm.ledger() if one.get("kind") == "rented"]
    assert [one["usd_per_hour"] for one in rented] == [0] * len(rented)


@pytest.fixture(scope="session")
def trained_by_two(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return a run whose student was trained by two processes of this machine."""
    folder = tmp_path_factory.mktemp("by-two") / "run"
    shutil.copytree(prepared, folder)
    command = Command(folder)
    assert command.start("trainer=ddp", "trainer.devices=2").wait(300) == 0, command.said
    return command


TWO_NODES = ("trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2")


def test_two_nodes_train_together(on_slurm, trained_by_two, slurm):
    process = on_slurm.start(*ON, *TWO_NODES, "executor.usd_per_hour=3")
    on_slurm.until(lambda: slurm.jobs() == ["RUNNING"])
    told = slurm.run("scontrol", "show", "job", "-o")
    assert " NumNodes=2 " in told.splitlines()[-1]
    assert process.wait(300) == 0, on_slurm.said
    assert on_slurm.student() == trained_by_two.student()
    assert files(on_slurm.weights) == files(trained_by_two.weights)
    rented = [one for one in on_slurm.ledger() if one.get("kind") == "rented"]
    assert [one["usd_per_hour"] for one in rented] == [6]


@WHOLE
@pytest.mark.parametrize("which", [0, 1])
def test_a_node_of_two_that_dies_changes_nothing(on_slurm, trained_by_two, slurm, which):
    process = on_slurm.start(*ON, *TWO_NODES)
    on_slurm.until(on_slurm.has_checkpoint)
    with slurm.frozen(on_slurm.run):
        node = ("n1", "n2")[which]
        slurm.lose(node)
    try:
        assert process.poll() is None, on_slurm.said
    finally:
        slurm.back(node)
    assert process.wait(300) == 0, on_slurm.said
    assert on_slurm.student() == trained_by_two.student()
    assert files(on_slurm.weights) == files(trained_by_two.weights)
    assert ", gone on 1×: " in on_slurm.said


@WHOLE
def test_two_nodes_are_told_to_end_and_go_on(on_slurm, trained_by_two, slurm):
    process = on_slurm.start(*ON, *TWO_NODES)
    on_slurm.until(on_slurm.has_checkpoint)
    with slurm.frozen(on_slurm.run):
        process.send_signal(signal.SIGINT)
        on_slurm.until(lambda: slurm.jobs() != ["RUNNING"])
    assert process.wait(120) == 128 + signal.SIGINT, on_slurm.said
    assert slurm.jobs() == [] and slurm.processes(on_slurm.run) == []
    assert on_slurm.start(*ON, *TWO_NODES).wait(300) == 0, on_slurm.said
    assert on_slurm.student() == trained_by_two.student()
    assert ", gone on 1×: " in on_slurm.said


@WHOLE
@pytest.mark.parametrize("n_nodes", [1, 2])
def test_a_job_that_reaches_its_time_limit_goes_on(
    on_slurm, trained, trained_by_two, slurm, n_nodes
):
    """SLURM warns it 90 seconds before three minutes have passed, give or take one."""
    nodes, like = ((), trained) if n_nodes == 1 else (TWO_NODES, trained_by_two)
    process = on_slurm.start(*ON, *nodes, "executor.hours=0.05")
    on_slurm.until(on_slurm.has_checkpoint)
    logs = on_slurm.run / "jobs" / "slurm"
    with slurm.frozen(on_slurm.run):
        on_slurm.until(lambda: "this job is timed-out" in _logged(logs), 200)
    assert process.wait(300) == 0, on_slurm.said
    assert on_slurm.student() == like.student()
    assert files(on_slurm.weights) == files(like.weights)
    assert ", gone on 1×: " in on_slurm.said and on_slurm.said.count("submitted as") == 1
    assert slurm.jobs() == [] and slurm.processes(on_slurm.run) == []


@WHOLE
def test_a_limit_that_is_reached_too_often_says_what_to_type(on_slurm, slurm):
    limits = ("executor.hours=0.05", "executor.max_timeouts=0")
    process = on_slurm.start(
        *ON, *limits, "trainer.max_tokens=100000000", "limits.train_hours=null"
    )
    assert process.wait(400) == 1
    last = on_slurm.said.strip().splitlines()[-1]
    assert "has reached its time limit as often as executor.max_timeouts lets it" in last
    assert "executor.hours=<more hours>" in last and "Traceback" not in on_slurm.said
    assert slurm.jobs() == []
    process = on_slurm.start(*ON, "executor.hours=0.01")
    assert process.wait(100) == 2
    assert "Type executor.hours=0.05 or more" in on_slurm.said


def _logged(folder: Path) -> str:
    return "".join(one.read_text(errors="replace") for one in folder.glob("*.out"))


@WHOLE
def test_an_error_of_a_stage_of_two_nodes_ends_both(on_slurm, slurm):
    """The first node fails before it calls the other."""
    broken = (*ON, "trainer=fsdp", "trainer.devices=1", "trainer.num_nodes=2")
    assert on_slurm.start(*broken).wait(120) == 1
    assert "needs a GPU, and this machine has none" in on_slurm.said.splitlines()[-1]
    assert slurm.jobs() == []


@WHOLE
def test_a_job_of_more_weight_changes_nothing(on_slurm, trained, slurm):
    process = on_slurm.start(*ON)
    on_slurm.until(on_slurm.has_checkpoint)
    with slurm.frozen(on_slurm.run):
        urgent = ("-p", "urgent", "--exclusive", "-N2", "-o", "/dev/null", "--wrap=sleep 2")
        slurm.run("sbatch", *urgent)
    assert process.wait(300) == 0, on_slurm.said
    assert on_slurm.student() == trained.student()
    assert ", gone on 1×: " in on_slurm.said
    assert on_slurm.said.count("submitted as") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=WHOLE)])
def test_a_command_that_is_told_to_end_leaves_nothing_running(on_slurm, trained, slurm, number):
    process = on_slurm.start(*ON)
    on_slurm.until(on_slurm.has_checkpoint)
    with slurm.frozen(on_slurm.run):
        process.send_signal(number)
        on_slurm.until(lambda: slurm.jobs() != ["RUNNING"])
    assert process.wait(120) == 128 + number, on_slurm.said
    assert slurm.jobs() == [] and slurm.processes(on_slurm.run) == []
    if number == signal.SIGTERM:
        return
    # What it had done is kept, and goes on wherever the next command has it run.
    assert on_slurm.start("executor=here").wait(300) == 0, on_slurm.said
    assert on_slurm.student() == trained.student()
    assert ", gone on 1×: " in on_slurm.said


@pytest.mark.parametrize("how", ["command", pytest.param("down", marks=WHOLE)])
def test_hours_of_a_job_that_nobody_saw_are_booked(on_slurm, slurm, how):
    """The command dies while its job waits; the job runs, and ends."""
    on = (*ON, "executor.usd_per_hour=100", "executor.hours=1", "limits.budget_usd=60")
    with slurm.drained():
        process = on_slurm.start(*on)
        on_slurm.until(lambda: slurm.jobs() == ["PENDING"])
        minutes, _ = slurm.run("squeue", "-h", "-o", "%l").split(":")
        assert 2 <= int(minutes) <= 36  # for which there is money
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = time.monotonic() + 120
    while slurm.jobs():
        assert time.monotonic() < last, slurm.jobs()
        time.sleep(0.2)
    told = slurm.run("scontrol", "show", "job", "-o").splitlines()[-1]
    [h, m, s] = re.findall(r" RunTime=(\d+):(\d+):(\d+) ", told)[0]
    assert not any(one["kind"] == "launched" for one in on_slurm.ledger())
    if how == "command":
        assert on_slurm.start(*on).wait(120) == 0, on_slurm.said
        assert "submitted as" not in on_slurm.said
    else:
        said = on_slurm.servers("down", "--all")
        assert said.returncode == 0 and "is booked for it" in said.stdout, said.stderr
    [settled] = [one for one in on_slurm.ledger() if one["kind"] == "settled"]
    ran_s = int(h) * 3600 + int(m) * 60 + int(s)
    assert settled["seconds"] == pytest.approx(ran_s, abs=1.5) and ran_s > 1
    assert settled["usd"] == pytest.approx(settled["seconds"] / 36)


def test_a_queue_that_is_too_long(on_slurm, slurm):
    with slurm.drained():
        process = on_slurm.start(*ON, "executor.max_pending_hours=0.0005")
        assert process.wait(120) == 1
    said = on_slurm.said.splitlines()[-1]
    assert re.fullmatch(
        r"distill: SLURM job \d+ waits in the queue of main \(\S+\), 1 of 1.* It has waited .* s, "
        r"and may wait 0\.0005 h \(executor\.max_pending_hours, or limits\.deadline_hours\): the "
        r"job is cancelled\. Type executor\.max_pending_hours=<more hours>\. Or run it on this "
        r"machine: executor=here\.",
        said,
    ), said
    assert slurm.jobs() == []
    assert [one["usd"] for one in on_slurm.ledger() if one.get("kind") == "settled"] == [0]


def test_variables_and_folders_change_nothing(on_slurm, slurm, tmp_path):
    folder = tmp_path / "a 50% of it"
    folder.mkdir()
    on_slurm.run.rename(folder / "run")
    command = Command(folder / "run")
    command.env = {
        **slurm.env, "SLURM_TIME_FORMAT": "%F", "SBATCH_PARTITION": "urgent",
        "SBATCH_TIMELIMIT": "3", "SQUEUE_STATES": "COMPLETED", "SQUEUE_PARTITION": "urgent",
        "LOGNAME": "somebody", "USER": "somebody",
    }  # fmt: skip
    short = command.lack_corpus()
    process = command.start(*ON, *short, "executor.usd_per_hour=100", "limits.budget_usd=100")
    command.until(lambda: slurm.jobs() == ["RUNNING"])
    told = slurm.run("squeue", "-h", "-o", "%P %l")
    assert told.startswith("main ") and told != "main 3:00"
    assert process.wait(120) == 0, command.said
    [settled] = [one for one in command.ledger() if one.get("kind") == "settled"]
    assert 0 < settled["seconds"] < 120
    [log] = (folder / "run" / "jobs" / "slurm").glob("*_log.out")
    assert log.stat().st_size > 0


def test_what_cannot_be_submitted(on_slurm, tmp_path):
    def told(*argv: str) -> str:
        assert on_slurm.start(*argv).wait(60) in (1, 2)
        return on_slurm.said.splitlines()[-1]

    assert told("executor=slurm", "executor.partition=mian") == (
        "executor.partition=mian: there is no partition mian. Did you mean main? There are: main, "
        "urgent."
    )
    assert told("executor=slurm", "executor.gpus=9").startswith(
        "executor.gpus=9: no node of SLURM can take such a job (allocation failure: Requested node "
        "configuration is not available)."
    )
    running = dict(on_slurm.env)
    (tmp_path / "slurm.conf").write_text("This is none.\n")
    on_slurm.env = running | {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    assert "executor=slurm: SLURM does not answer (" in told("executor=slurm")
    on_slurm.env = running | {"PATH": str(tmp_path)}
    assert told("executor=slurm") == (
        "executor=slurm: there is no sbatch on the PATH, so that this machine cannot submit to "
        "SLURM. Give the command on a login node of the cluster, or type executor=here."
    )


def test_the_cluster_is_the_catalog_and_a_job_asks_for_what_the_plan_chose(on_slurm, slurm):
    chosen = (
        "cloud=slurm", "cloud.usd_per_gpu_hour=2", "cloud.usd_per_cpu_hour=0.5",
        "cloud.regions=[urgent]",
    )  # fmt: skip
    with slurm.drained():
        # What is drained is nothing to plan with.
        assert on_slurm.start(*chosen, "stages=[plan]").wait(120) == 2
        assert "there is nothing to plan with. It has no node that is up" in on_slurm.said
    assert on_slurm.start(*chosen, "stages=[plan]").wait(120) == 0, on_slurm.said
    roles = on_slurm.record("plan")["roles"]
    offers = [one["offer"] for one in roles]
    assert {(one["cloud"], one["region"], one["accelerator"]) for one in offers} == {
        ("slurm", "urgent", "H100")
    }
    for one in offers:
        n = one["accelerator_count"]
        assert (one["vcpus"], one["memory_gib"], one["usd_per_hour"]) == (2 * n, 3.9 * n, 3 * n)
    [train] = [one["offer"] for one in roles if one["role"] == "train"]
    with slurm.drained():
        process = on_slurm.start(
            *chosen, "stages=[distill]", "executor=slurm", "executor.max_pending_hours=0.0005"
        )
        on_slurm.until(lambda: slurm.jobs() == ["PENDING"])
        told = slurm.run("scontrol", "show", "job", "-o")
        assert process.wait(120) == 1
    n = train["accelerator_count"]
    [job] = [one for one in told.splitlines() if "JobState=PENDING" in one]
    assert " Partition=urgent " in job and f" TresPerNode=gres/gpu:h100:{n} " in job
    assert f" CPUs/Task={2 * n} " in job and f" MinMemoryNode={4000 * n}M " in job


def test_the_wait_for_a_partition_is_part_of_the_deadline(on_slurm, slurm):
    here = ("cloud=slurm", "cloud.regions=[main]", "stages=[plan]", "plan.explain=true")
    taken = ("-p", "main", "--exclusive", "-N2", "-t", "60", "-o", "/dev/null", "--wrap=sleep 600")
    id = slurm.run("sbatch", "--parsable", *taken)
    try:
        last = time.monotonic() + 60
        while slurm.jobs() != ["RUNNING"]:
            assert time.monotonic() < last, slurm.jobs()
            time.sleep(0.2)
        assert on_slurm.start(*here).wait(120) == 0, on_slurm.said
        plan = on_slurm.record("plan")
        [train] = [one for one in plan["roles"] if one["role"] == "train"]
        assert train["wait_hours"] == pytest.approx(1.0, abs=0.051)
        assert plan["hours"] >= 2 * train["wait_hours"] + train["hours"]
        assert "the training waits about 1.0 h of them for nodes of slurm/main" in on_slurm.said
        assert on_slurm.start(*here, "limits.deadline_hours=1.5").wait(120) != 0
        assert "deadline" in on_slurm.said and "limits.deadline_hours=" in on_slurm.said
        # And what is submitted says what it waits for.
        process = on_slurm.start(*ON, "executor.gpus=1", "executor.max_pending_hours=0.001")
        assert process.wait(120) == 1
        assert re.search(
            r"submitted as SLURM job \d+ \(\S+\); it waits about 5\d min \d\d s for partition "
            r"main, as SLURM expects\.",
            on_slurm.said,
        ), on_slurm.said
    finally:
        slurm.run("scancel", id)


def test_a_job_that_no_queue_would_ever_start(on_slurm, slurm):
    with slurm.drained():
        process = on_slurm.start(*ON, "executor.hours=1.5")
        on_slurm.until(lambda: slurm.jobs() == ["PENDING"])
        slurm.run("scontrol", "update", "partitionname=main", "maxtime=60")
        assert process.wait(120) == 1
        slurm.run("scontrol", "update", "partitionname=main", "maxtime=120")
    assert re.fullmatch(
        r"distill: SLURM job \d+ would wait forever \(PartitionTimeLimit\)\. Change "
        r"executor\.partition, executor\.qos, executor\.gpus, executor\.cpus, executor\.memory_gib "
        r"or executor\.hours\. The job is cancelled\. Or run it on this machine: executor=here\.",
        on_slurm.said.splitlines()[-1],
    ), on_slurm.said
    assert slurm.jobs() == []
