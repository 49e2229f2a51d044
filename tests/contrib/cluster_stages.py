"""Stages as jobs of a real cluster: what the tests of SLURM and of Ray share.

A module of tests imports the tests from here. Its fixture `on` is the cluster with the command of a
run that uses it.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from job_processes import kill
from one_run import Command, all_but_distill, files
from whole import IS_WHOLE, WHOLE


class Running(Protocol):
    """A cluster of this machine."""

    def processes(self, run: Path) -> list[int]: ...

    def frozen(self, run: Path) -> AbstractContextManager[object]: ...


@dataclass(frozen=True)
class OnCluster:
    """A command whose stages are jobs of a cluster."""

    command: Command
    cluster: Running
    settings: tuple[str, ...]
    job: str
    """How messages call a job: a pattern."""
    node: str
    """The same of a node."""
    n_active: Callable[[], int]
    """Counts jobs of the run that wait or run."""

    @property
    def title(self) -> str:
        """What its jobs are jobs of."""
        return self.job.partition(" job")[0]


@WHOLE
def test_a_second_command_follows_the_job_of_the_first(on: OnCluster, trained: Command) -> None:
    command = on.command
    process = command.start(*on.settings)
    command.until(command.has_checkpoint)
    with on.cluster.frozen(command.run):
        process.send_signal(signal.SIGKILL)
        process.wait()
        refused = command.start("executor=here")
        assert refused.wait(60) == 1
        assert f"distill was handed to {on.title} job" in command.said
        process = command.start(*on.settings)
        command.until(lambda: f"follows {on.title} job" in command.said)
    assert process.wait(300) == 0, command.said
    assert re.search(rf"distill: follows {on.job} \(stratos-run-", command.said)
    assert command.student() == trained.student()
    kinds = [line["kind"] for line in command.ledger() if "kind" in line]
    assert kinds.count("rented") == kinds.count("launched") == 1


@WHOLE
def test_a_second_command_of_other_inputs_ends_the_job_of_the_first(on: OnCluster) -> None:
    command = on.command
    process = command.start(*on.settings)
    command.until(command.has_checkpoint)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = command.start(*on.settings, "seed=1", "executor.max_pending_hours=1")
    command.until(lambda: "was submitted for other inputs than those of now" in command.said)
    command.until(lambda: f"submitted as {on.title} job" in command.said)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert on.n_active() == 0


@WHOLE
def test_a_stage_that_is_killed_goes_on_and_one_that_always_is_ends(
    on: OnCluster, trained: Command
) -> None:
    command, by_signal = on.command, rf"was killed by signal 9 on {on.node}"
    process = command.start(*on.settings)
    command.until(command.has_checkpoint)
    kill(on.cluster.processes(command.run))
    assert process.wait(120) == 0, command.said
    again = rf"distill: {on.job} {by_signal}; it is submitted again\."
    assert re.search(again, command.said), command.said
    assert command.student() == trained.student()
    assert ", gone on 1×: " in command.said
    (command.run / "distill.json").unlink()
    process = command.start(*on.settings, "seed=1")
    while process.poll() is None:
        kill(on.cluster.processes(command.run))
        time.sleep(0.2)
    assert process.wait() == 1
    assert re.search(
        rf"distill: its job was lost 4 times, the last time because {on.job} {by_signal}\. Where "
        r"its memory was at its end, type executor\.memory_gib=<more GiB>\. What it has done is "
        r"kept: the same command goes on\. Or run it on this machine: executor=here\. "
        r"(The end of \S+:\n    |It left no log)",
        command.said,
    ), command.said
    assert on.n_active() == 0


def test_an_error_of_the_stage_is_the_same_as_here(on: OnCluster) -> None:
    """Whether there is a GPU, the node alone can say."""
    command = on.command
    assert command.start("trainer.strategy=fsdp").wait(120) == 1
    here = command.said.splitlines()[-1]
    assert "needs a GPU, and this machine has none" in here
    assert command.start("trainer.strategy=fsdp", *on.settings).wait(120) == 1
    assert f"submitted as {on.title} job" in command.said
    assert command.said.splitlines()[-1] == here
    assert on.n_active() == 0


def test_all_other_stages_leave_what_they_leave_here(
    on: OnCluster, trained: Command, tmp_path: Path
) -> None:
    """Corpus and answers byte for byte; the server of `deploy` is one of the node."""
    small = all_but_distill(trained.weights)
    here = Command(tmp_path / "here" / "run")
    for command in (here, on.command):
        command.begin_with_student_of(trained)
    jobs = ("probe", "synthesize", "evaluate", "deploy") if IS_WHOLE else ("evaluate", "deploy")
    process = on.command.start(*small, *on.settings, f"executor.stages=[{','.join(jobs)}]")
    assert here.start(*small).wait(300) == 0, here.said
    assert process.wait(300) == 0, on.command.said
    for stage in jobs:
        assert re.search(rf"{stage}: submitted as {on.job} ", on.command.said)
        assert on.command.record(stage) == here.record(stage)
    assert on.command.rows("probe/answers.jsonl") == here.rows("probe/answers.jsonl")
    for folder in ("corpus", "evaluate"):
        assert files(on.command.run / folder) == files(here.run / folder)
    assert on.command.record("deploy")["n_equal"] == 2
    ledger = on.command.ledger()
    paid = [(line["stage"], line["role"]) for line in ledger if line["kind"] == "settled"]
    roles = {"probe": "teacher", "synthesize": "teacher", "evaluate": "serve", "deploy": "serve"}
    assert paid == [(stage, roles[stage]) for stage in jobs]
    assert on.n_active() == 0
