"""Stages on a real SkyPilot, with servers that boot: the same student as here, nothing left behind.

Each test takes minutes: they run where STRATOS_SKY names an environment with SkyPilot.
"""

from __future__ import annotations

import json
import re
import signal
from datetime import datetime

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


def test_a_student_of_skypilot_is_the_student_of_here(on_sky, trained, sky):
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


def test_all_other_stages_leave_what_they_leave_here(on_sky, trained, sky, tmp_path):
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


def test_an_interruption_goes_on_from_the_checkpoint_that_came_back(on_sky, trained, sky):
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


def test_a_killed_command_is_followed_by_the_next(on_sky, trained, sky):
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


def test_ctrl_c_leaves_nothing_and_what_was_done_goes_on_here(on_sky, trained, sky):
    process = on_sky.start(*ON)
    on_sky.until(on_sky.has_checkpoint, 15 * MINUTES)
    process.send_signal(signal.SIGINT)
    assert process.wait(5 * MINUTES) == 128 + signal.SIGINT, on_sky.said
    assert sky.instances() == [] and sky.clusters() == "[]"
    assert on_sky.start("executor=here").wait(5 * MINUTES) == 0, on_sky.said
    assert ", gone on 1×: " in on_sky.said
    assert files(on_sky.weights) == files(trained.weights)


def test_ctrl_c_during_the_launch_leaves_nothing(on_sky, sky):
    process = on_sky.start(*ON)
    on_sky.until(lambda: bool(sky.instances()), 10 * MINUTES)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5 * MINUTES) == 128 + signal.SIGTERM, on_sky.said
    assert sky.instances() == [] and sky.clusters() == "[]"
    paid_from_its_launch(on_sky, sky)


def paid_from_its_launch(on_sky: Command, sky: Sky) -> None:
    """Check that the latest server is paid from when AWS launched it, or from little before."""
    at = max(datetime.fromisoformat(one["LaunchTime"]).timestamp() for one in sky.launched())
    [rented] = [one for one in on_sky.ledger() if one["kind"] == "rented" and one["at"] < at]
    [settled] = [one for one in on_sky.ledger() if one["kind"] == "settled" and one["seconds"]]
    ran_s, before_s = settled["at"] - at, at - rented["at"]
    assert 0 < ran_s - 1 <= settled["seconds"] <= ran_s + before_s + 1
    assert 0 < settled["usd"] == pytest.approx(settled["seconds"] / 3600 * rented["usd_per_hour"])


def test_a_server_that_starts_when_its_command_is_killed_is_seen_and_ended(on_sky, sky, tmp_path):
    """From another home, too, where a policy denies a region of the account."""
    process = on_sky.start(*ON)
    on_sky.until(lambda: bool(sky.instances()), 10 * MINUTES)
    process.send_signal(signal.SIGKILL)
    process.wait()
    other = Command(tmp_path / "other" / "run")
    other.prefix = sky.prefix
    with sky.denying("us-west-2"):
        told = other.servers("--account", "--json", seconds=5 * MINUTES)
    assert told.returncode == 0, told.stderr
    listing = json.loads(told.stdout)
    assert listing["jobs"] == [] and [*listing["left_out"]] == ["aws/us-west-2"]
    assert "UnauthorizedOperation" in listing["left_out"]["aws/us-west-2"]
    [server], [id] = listing["elsewhere"], sky.instances()
    assert server["name"].startswith("stratos-run-") and server["role"] == "train"
    assert server["end"].endswith(f"--region us-east-1 --instance-ids {id}")
    ended = on_sky.servers("down", "--all", seconds=5 * MINUTES)
    assert ended.returncode == 0 and "is booked for it" in ended.stdout, ended.stderr
    assert sky.instances() == [] and sky.clusters() == "[]"
    paid_from_its_launch(on_sky, sky)


def test_spot_is_rented_and_paid_at_its_price(on_sky, sky):
    """At the prices of SkyPilot's catalog: that of Stratos has none of AWS."""
    spot = (
        "cloud.spot=true", "cloud.regions=[us-east-1]",
        f"cloud.catalog=[{sky.folder}/home/.sky/catalogs/v8/aws/vms.csv]",
        "stages=[plan,synthesize,distill]",
    )  # fmt: skip
    process = on_sky.start(*ON, *spot)
    on_sky.until(lambda: bool(sky.instances()), 10 * MINUTES)
    *_, server = sorted(sky.launched(), key=lambda one: one["LaunchTime"])
    process.send_signal(signal.SIGINT)
    assert process.wait(5 * MINUTES) == 128 + signal.SIGINT, on_sky.said
    [train] = [one for one in on_sky.record("plan")["roles"] if one["role"] == "train"]
    assert train["spot"] and server["InstanceLifecycle"] == "spot"
    assert server["InstanceType"] == train["offer"]["instance_type"]
    [rented] = [one for one in on_sky.ledger() if one["kind"] == "rented"]
    assert rented["usd_per_hour"] == train["offer"]["usd_per_hour_spot"]
    assert rented["usd_per_hour"] < train["offer"]["usd_per_hour"]
    assert sky.instances() == [] and sky.clusters() == "[]"
    paid_from_its_launch(on_sky, sky)


def test_another_type_and_another_zone_of_the_region_are_tried(on_sky, sky):
    [planned] = {one["offer"]["instance_type"] for one in on_sky.record("plan")["roles"]
                 if one["role"] == "train"}  # fmt: skip
    with sky.refusing(planned, "us-east-1a"):
        process = on_sky.start(*ON, "stages=[plan,synthesize,distill]")
        on_sky.until(lambda: bool(sky.instances()), 15 * MINUTES)
    *_, server = sorted(sky.launched(), key=lambda one: one["LaunchTime"])
    process.send_signal(signal.SIGINT)
    assert process.wait(5 * MINUTES) == 128 + signal.SIGINT, on_sky.said
    said = " ".join(on_sky.said.split())
    assert f"distill: SkyPilot gets no aws/us-east-1 {planned}: " in said
    assert "The plan is solved again without it (1 of 5 at most; " in said
    [train] = [one for one in on_sky.record("plan")["roles"] if one["role"] == "train"]
    assert server["InstanceType"] == train["offer"]["instance_type"] != planned
    assert server["Placement"]["AvailabilityZone"] == "us-east-1b"
    # What was refused cost nothing.
    paid = [one["server"] for one in on_sky.ledger() if one["kind"] == "settled" and one["usd"]]
    assert len(paid) == 1 and server["InstanceType"] in paid[0]
    assert sky.instances() == [] and sky.clusters() == "[]"


def test_a_server_that_nobody_has(on_sky, sky):
    with sky.refusing():
        assert on_sky.start(*ON).wait(10 * MINUTES) == 1
    said = on_sky.said.splitlines()[-1]
    assert said.startswith("distill: SkyPilot gets no aws/us-east-1 ")
    assert said.endswith(f"To try it again, delete {on_sky.run}/refused.json.")
    assert sky.instances() == [] and sky.clusters() == "[]"
    settled = [one for one in on_sky.ledger() if one.get("kind") == "settled"]
    assert [(one["role"], one["usd"]) for one in settled] == [("train", 0), ("egress", 0)]


def test_an_error_of_the_stage_is_the_same_as_here(on_sky, sky):
    assert on_sky.start("trainer.strategy=fsdp").wait(2 * MINUTES) == 1
    here = on_sky.said.splitlines()[-1]
    assert on_sky.start("trainer.strategy=fsdp", *ON).wait(15 * MINUTES) == 1
    assert on_sky.said.splitlines()[-1] == here
    assert sky.instances() == [] and sky.clusters() == "[]"
