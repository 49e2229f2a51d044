"""Stages on a real SkyPilot, with servers that boot: the same student as here, nothing left behind.

Each test takes minutes: they run where STRATOS_SKY names an environment with SkyPilot.
"""

from __future__ import annotations

import re
import signal

import pytest
from one_run import Command, files
from one_sky import SETUP, Sky

ON = (
    "executor=skypilot",
    "executor.env=[OMP_NUM_THREADS]",
    "executor.fetch_every_minutes=0",
    SETUP,
)
MINUTES = 60


def test_a_student_of_skypilot_is_the_student_of_here(
    on_sky: Command, trained: Command, sky: Sky
) -> None:
    assert on_sky.start(*ON).wait(15 * MINUTES) == 0, on_sky.said
    assert on_sky.student() == trained.student()
    assert files(on_sky.weights) == files(trained.weights)
    assert "distill: submitted as cluster stratos-run-" in on_sky.said
    assert sky.instances() == [] and sky.clusters() == "[]"
    # The server of the plan at its price, from its launch to its end.
    [rented] = [one for one in on_sky.ledger() if one.get("kind") == "rented"]
    [settled] = [one for one in on_sky.ledger() if one["kind"] == "settled"]
    assert rented["usd_per_hour"] > 0
    assert settled["seconds"] > MINUTES
    assert settled["usd"] == pytest.approx(settled["seconds"] / 3600 * rented["usd_per_hour"])
    # The record is there: nothing is launched again.
    boots = sky.boots()
    assert on_sky.start(*ON).wait(2 * MINUTES) == 0
    assert "(made before)" in on_sky.said and sky.boots() == boots


def test_an_interruption_goes_on_from_the_checkpoint_that_came_back(
    on_sky: Command, trained: Command, sky: Sky
) -> None:
    process = on_sky.start(*ON)
    on_sky.until(on_sky.has_checkpoint, 15 * MINUTES)
    sky.interrupt()
    assert process.wait(20 * MINUTES) == 0, on_sky.said
    assert re.search(
        r"distill: its server is gone \(cluster \S+\); it is submitted again", on_sky.said
    )
    assert ", gone on 1×: " in on_sky.said
    assert files(on_sky.weights) == files(trained.weights)
    assert sky.instances() == [] and sky.clusters() == "[]"


def test_a_killed_command_is_followed_by_the_next(
    on_sky: Command, trained: Command, sky: Sky
) -> None:
    process = on_sky.start(*ON)
    on_sky.until(on_sky.has_checkpoint, 15 * MINUTES)
    boots = sky.boots()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(sky.instances()) == 1
    listed = on_sky.servers().stdout
    assert "  running" in listed and "1 job, $0." in listed, listed
    assert on_sky.start(*ON).wait(15 * MINUTES) == 0, on_sky.said
    assert "distill: follows cluster stratos-run-" in on_sky.said
    assert files(on_sky.weights) == files(trained.weights)
    assert sky.instances() == [] and sky.clusters() == "[]" and sky.boots() == boots


def test_ctrl_c_leaves_nothing_and_what_was_done_goes_on_here(
    on_sky: Command, trained: Command, sky: Sky
) -> None:
    process = on_sky.start(*ON)
    on_sky.until(on_sky.has_checkpoint, 15 * MINUTES)
    process.send_signal(signal.SIGINT)
    assert process.wait(5 * MINUTES) == 128 + signal.SIGINT, on_sky.said
    assert sky.instances() == [] and sky.clusters() == "[]"
    assert on_sky.start("executor=here").wait(5 * MINUTES) == 0, on_sky.said
    assert ", gone on 1×: " in on_sky.said
    assert files(on_sky.weights) == files(trained.weights)


def test_ctrl_c_during_the_launch_leaves_nothing(on_sky: Command, sky: Sky) -> None:
    process = on_sky.start(*ON)
    on_sky.until(lambda: bool(sky.instances()), 10 * MINUTES)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5 * MINUTES) == 128 + signal.SIGTERM, on_sky.said
    assert sky.instances() == [] and sky.clusters() == "[]"


def test_a_server_that_nobody_has(on_sky: Command, sky: Sky) -> None:
    with sky.refusing():
        assert on_sky.start(*ON).wait(10 * MINUTES) == 1
    said = on_sky.said.splitlines()[-1]
    assert said.startswith("distill: SkyPilot gets no aws/us-east-1 ")
    assert said.endswith(f"To try it again, delete {on_sky.run}/refused.json.")
    assert sky.instances() == [] and sky.clusters() == "[]"
    assert [one["usd"] for one in on_sky.ledger() if one.get("kind") == "settled"] == [0]


def test_an_error_of_the_stage_is_the_same_as_here(on_sky: Command, sky: Sky) -> None:
    assert on_sky.start("trainer.strategy=fsdp").wait(2 * MINUTES) == 1
    here = on_sky.said.splitlines()[-1]
    assert on_sky.start("trainer.strategy=fsdp", *ON).wait(15 * MINUTES) == 1
    assert on_sky.said.splitlines()[-1] == here
    assert sky.instances() == [] and sky.clusters() == "[]"
