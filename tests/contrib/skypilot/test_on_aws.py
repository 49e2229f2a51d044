"""Stages on a real SkyPilot, with servers that boot: the same student as here, nothing left behind.

Each test takes minutes: they run where STRATOS_SKY names an environment with SkyPilot.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from one_run import Command, all_but_distill, files
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
    assert "distill: submitted as SkyPilot job stratos-run-" in on_sky.said
    assert sky.instances() == [] and sky.clusters() == "[]"
    # The server of the plan at its price, from its launch to its end.
    [rented] = [one for one in on_sky.ledger() if one.get("kind") == "rented"]
    [settled, egress] = [one for one in on_sky.ledger() if one["kind"] == "settled"]
    assert rented["usd_per_hour"] > 0
    assert settled["seconds"] > MINUTES
    assert settled["usd"] == pytest.approx(settled["seconds"] / 3600 * rented["usd_per_hour"])
    # What it sent here, at the list price, is within what was set aside for it before the launch.
    [leaving] = [one for one in on_sky.ledger() if one["kind"] == "leaving"]
    sent = sum(map(len, files(on_sky.run / "distill").values()))
    assert sent / 2 < egress["n_bytes"] and egress["role"] == "egress"
    assert egress["usd"] == pytest.approx(egress["n_bytes"] / 1e9 * 0.09)
    assert egress["usd"] <= leaving["reserved_usd"]
    # The record is there: nothing is launched again.
    boots = sky.boots()
    assert on_sky.start(*ON).wait(2 * MINUTES) == 0
    assert "(made before)" in on_sky.said and sky.boots() == boots


def test_all_other_stages_leave_what_they_leave_here(
    on_sky: Command, trained: Command, sky: Sky, tmp_path: Path
) -> None:
    """Before there is a plan, the probe's server is named; those of the others the plan chooses."""
    small = all_but_distill(trained.weights)
    here = Command(tmp_path / "here" / "run")
    for command in (here, on_sky):
        command.begin_with_student_of(trained)
    assert here.start(*small).wait(5 * MINUTES) == 0, here.said
    named = (
        "executor.infra=aws/us-east-1", "executor.instance_type=c7i.large",
        "executor.usd_per_hour=0.1", "executor.stages=[probe]",
    )  # fmt: skip
    assert on_sky.start(*small, "stages=[probe]", *ON, *named).wait(10 * MINUTES) == 0, on_sky.said
    assert "probe: submitted as SkyPilot job stratos-run-" in on_sky.said
    jobs = ("synthesize", "evaluate", "deploy")
    process = on_sky.start(*small, *ON, f"executor.stages=[{','.join(jobs)}]")
    assert process.wait(20 * MINUTES) == 0, on_sky.said
    for stage in jobs:
        assert f"{stage}: submitted as SkyPilot job stratos-run-" in on_sky.said
    for stage in ("probe", *jobs):
        assert on_sky.record(stage) == here.record(stage)
    assert on_sky.rows("probe/answers.jsonl") == here.rows("probe/answers.jsonl")
    for folder in ("corpus", "evaluate"):
        assert files(on_sky.run / folder) == files(here.run / folder)
    # The bundle tells its speed, and a digest of what does.
    ours, theirs = files(on_sky.run / "bundle"), files(here.run / "bundle")
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} <= {"README.md", "manifest.json"}
    assert on_sky.record("deploy")["n_equal"] == 2
    # The read of test items is noted on this machine, once.
    log = (on_sky.run.parent / "cache" / "test_reads.jsonl").read_text().splitlines()
    assert [json.loads(line)["run"] for line in log] == [str(on_sky.run)]
    assert json.loads((on_sky.run / "evaluate.json").read_text())["record"]["earlier_reads"] == {
        "n_runs": 0, "n_seen": 0, "n_items": 4
    }  # fmt: skip
    plan = on_sky.record("plan")["roles"]
    [serve] = {one["offer"]["usd_per_hour"] for one in plan if one["role"] == "serve"}
    rented = [one for one in on_sky.ledger() if one.get("kind") == "rented"]
    assert [(one["stage"], one["role"]) for one in rented] == [
        ("probe", "teacher"), ("synthesize", "teacher"), ("evaluate", "serve"), ("deploy", "serve")
    ]  # fmt: skip
    assert [one["usd_per_hour"] for one in rented][2:] == [serve, serve]
    egress = [one for one in on_sky.ledger()
              if one["kind"] == "settled" and one["role"] == "egress"]  # fmt: skip
    assert [one["stage"] for one in egress] == ["probe", *jobs]
    bundle = sum(map(len, ours.values()))
    assert egress[-1]["n_bytes"] > bundle / 2
    for one in egress:
        assert 0 < one["usd"] == pytest.approx(one["n_bytes"] / 1e9 * 0.09)
        assert one["usd"] <= one["planned_usd"]
    assert sky.instances() == [] and sky.clusters() == "[]"


def test_an_interruption_goes_on_from_the_checkpoint_that_came_back(
    on_sky: Command, trained: Command, sky: Sky
) -> None:
    process = on_sky.start(*ON)
    on_sky.until(on_sky.has_checkpoint, 15 * MINUTES)
    sky.interrupt()
    assert process.wait(20 * MINUTES) == 0, on_sky.said
    assert re.search(
        r"distill: its server is gone \(server \S+\); it is submitted again", on_sky.said
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
    assert "distill: follows SkyPilot job stratos-run-" in on_sky.said
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
    settled = [one for one in on_sky.ledger() if one.get("kind") == "settled"]
    assert settled[0]["role"] == "train" and settled[0]["usd"] > 0


def test_a_server_that_nobody_has(on_sky: Command, sky: Sky) -> None:
    with sky.refusing():
        assert on_sky.start(*ON).wait(10 * MINUTES) == 1
    said = on_sky.said.splitlines()[-1]
    assert said.startswith("distill: SkyPilot gets no aws/us-east-1 ")
    assert said.endswith(f"To try it again, delete {on_sky.run}/refused.json.")
    assert sky.instances() == [] and sky.clusters() == "[]"
    settled = [one for one in on_sky.ledger() if one.get("kind") == "settled"]
    assert [(one["role"], one["usd"]) for one in settled] == [("train", 0), ("egress", 0)]


def test_an_error_of_the_stage_is_the_same_as_here(on_sky: Command, sky: Sky) -> None:
    assert on_sky.start("trainer.strategy=fsdp").wait(2 * MINUTES) == 1
    here = on_sky.said.splitlines()[-1]
    assert on_sky.start("trainer.strategy=fsdp", *ON).wait(15 * MINUTES) == 1
    assert on_sky.said.splitlines()[-1] == here
    assert sky.instances() == [] and sky.clusters() == "[]"
