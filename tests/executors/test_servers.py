"""What was started is listed and ended from outside, by whoever started it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest
from in_process import stratos
from one_run import Command
from whole import IS_WHOLE

from stratos.cli.commands import servers
from stratos.core.process import Process
from stratos.deploy.hosted_server import CACHE
from stratos.executors import submission
from stratos.executors.here import Here
from stratos.executors.job import JobSpec
from stratos.executors.submission import Submission
from stratos.ledger import Ledger
from stratos.ledger.reserves import rent

ON = ("executor.stages=[distill]", "executor.usd_per_hour=3.6", "trainer.max_tokens=120000")


@pytest.fixture
def left(command: Command) -> Command:
    """Return the command of a run that was killed while its job trains."""
    process = command.start(*ON)
    command.until(command.has_checkpoint)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return command


def test_a_job_that_was_left_is_listed_and_ended(left):
    job = int(_jobs(left)[0].id.split()[0])
    os.kill(job, signal.SIGSTOP)  # a fast machine would end it before it is looked at
    told = left.servers()
    assert told.returncode == 0, told.stderr
    [name] = [one.split(":")[0] for one in told.stdout.splitlines() if not one.startswith(" ")][:1]
    assert name.startswith("stratos-run-") and name.endswith("-distill")
    assert f"{name}: distill of {left.run}" in told.stdout
    assert "running, for " in told.stdout and "$3.60 an hour" in told.stdout
    assert f"end it: stratos servers down {name}" in told.stdout
    assert "1 job, $3.60 an hour, $0." in told.stdout

    wrong = left.servers("down", name.replace("distill", "distil"))
    assert wrong.returncode == 1
    assert f"Did you mean {name}?" in wrong.stderr

    os.kill(job, signal.SIGCONT)
    told = left.servers("down", name)
    assert told.returncode == 0, told.stderr
    assert f"{name}: gone. $0.0" in told.stdout and "is booked for it" in told.stdout
    assert left.servers().stdout == "No job that was started from here is running.\n"
    # Once down, it is paid for until that moment, and goes on from what it has done.
    [settled] = [one for one in left.ledger() if one.get("kind") == "settled"]
    assert settled["usd"] == pytest.approx(settled["seconds"] / 1000)
    if not IS_WHOLE:
        return
    assert left.start(*ON).wait(300) == 0, left.said
    assert ", gone on 1×: " in left.said
    assert left.servers().stdout == "No job that was started from here is running.\n"


def test_a_job_is_found_where_the_folder_of_its_run_is_gone(left):
    [one] = _jobs(left)
    process = Process.of(int(one.id.split()[0]))
    assert not process.is_dead()
    shutil.move(left.run, left.run.with_name("elsewhere"))
    told = left.servers("down", "--all")
    assert told.returncode == 0 and f"{one.name}: gone." in told.stdout, told.stderr
    assert process.is_dead()


def test_what_cannot_be_loaded_is_said_and_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(submission.STATE, str(tmp_path))
    spec = JobSpec(
        "stratos-a-distill", "distill", tmp_path / "run", "train", 1, 2.0, planned_hours=1.0
    )
    executor = Here(stages=("distill",))
    submission.add_to_list(Submission.of(executor, spec, id="1 boot 2", label="process 1"))
    [kept] = submission.listed()
    assert kept.executor == Here(stages=("distill",))
    assert (kept.name, kept.job().label, kept.usd_per_hour) == (spec.name, "process 1", 2.0)
    path = next(submission.list_folder().glob("*.json"))
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(kept, target="gone.Engine")))
    command = Command(tmp_path / "run")
    command.state.rename(tmp_path / "unused") if command.state.exists() else None
    shutil.copytree(tmp_path / "stratos", command.state / "stratos")
    told = command.servers()
    assert "gone.Engine cannot be loaded" in told.stdout and "$2.00 an hour" in told.stdout
    down = command.servers("down", "--all")
    assert down.returncode == 1 and "gone.Engine cannot be loaded" in down.stderr
    assert "stratos-a-distill" in command.servers().stdout


def _jobs(command: Command) -> list[Submission]:
    paths = (command.state / "stratos" / "jobs").glob("*.json")
    return [msgspec.json.decode(one.read_bytes(), type=Submission) for one in paths]


def _kept(folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch, id: str) -> JobSpec:
    """Write down a job of `here` whose run has a folder."""
    monkeypatch.setenv(submission.STATE, str(state))
    monkeypatch.setenv(CACHE, str(state))
    folder.mkdir(exist_ok=True)
    spec = JobSpec("stratos-a-distill", "distill", folder, "train", 1, 2.0, planned_hours=1.0)
    submission.add_to_list(Submission.of(Here(), spec, id=id, label="process 1"))
    return spec


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_job_that_had_ended_unseen_is_not_paid_until_it_is_looked_for(
    tmp_path, monkeypatch, has_ended
):
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    one, booked = Process.of(process.pid), []
    threading.Thread(target=process.wait, daemon=True).start()
    _kept(tmp_path / "run", tmp_path, monkeypatch, f"{one.pid} {one.boot} {one.started}")
    monkeypatch.setattr(servers, "settle_unseen", lambda *_, since, at: booked.append(at) or "")
    if has_ended:
        process.kill()
        process.wait()
    assert servers._down([], is_all=True)
    assert one.is_dead()
    assert [at is None for at in booked] == [has_ended]


def test_a_process_of_another_machine_is_not_called_gone(tmp_path, monkeypatch, capsys):
    """A home folder that machines share has one list."""
    _kept(tmp_path / "run", tmp_path, monkeypatch, "1 anotherboot 2")
    [path] = submission.list_folder().glob("*.json")
    there = msgspec.structs.replace(next(submission.listed()), host="elsewhere")
    path.write_bytes(msgspec.json.encode(there))
    servers._list()
    assert "it is a process of elsewhere" in capsys.readouterr().out
    assert not servers._down([], is_all=True)
    assert list(submission.listed()) == [there]


def test_a_job_of_a_deleted_folder_is_known_until_the_next_one_of_its_name_is_submitted(
    tmp_path, monkeypatch
):
    spec = _kept(tmp_path / "run", tmp_path, monkeypatch, "1 boot 2")
    submission.add_to_list(Submission.of(Here(), spec))  # about to submit
    assert submission.id_of(spec.name) == "1 boot 2"
    submission.add_to_list(Submission.of(Here(), spec, id="3 boot 4", label="process 3"))
    assert submission.id_of(spec.name) == "3 boot 4"


def test_a_command_that_is_about_to_submit_is_not_called_cut_short(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    spec = JobSpec("stratos-run-1-distill", "distill", tmp_path / "run", "train", 1, 1.0)
    submission.add_to_list(Submission.of(Here(), spec))
    told = stratos("servers").stdout
    assert f"process {os.getpid()} is about to submit it" in told and "cut short" not in told


def test_what_a_job_has_cost_so_far_and_what_is_reserved_is_listed(tmp_path, monkeypatch):
    me = Process.this()
    spec = _kept(tmp_path / "run", tmp_path, monkeypatch, f"{me.pid} {me.boot} {me.started}")
    ledger = Ledger(spec.folder / "ledger.jsonl", 10.0, stage="distill")
    lease = rent(ledger, "train", f"train 1 × a server for {spec.name}", 2.0, hours=3.0)
    lease.launch(time.time() - 1800)
    listing = json.loads(stratos("servers", "--json").stdout)
    [job] = listing["jobs"]
    assert (job["name"], job["stage"], job["state"]) == (spec.name, "distill", "running")
    assert job["spent_usd"] == pytest.approx(1.0, abs=0.05) == listing["spent_usd"]
    assert (job["reserved_usd"], job["usd_per_hour"], listing["usd_per_hour"]) == (6.0, 2.0, 2.0)
    assert job["end"] == f"stratos servers down {spec.name}" and listing["elsewhere"] == []
    said = stratos("servers").stdout
    assert re.search(r"\$2\.00 an hour; \$1\.0\d+ spent so far of \$6\.0000 reserved", said), said
    assert re.search(r"1 job, \$2\.00 an hour, \$1\.0\d+ spent so far\.\n$", said), said
