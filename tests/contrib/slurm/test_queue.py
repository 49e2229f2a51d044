"""What SLURM says of jobs: silence is no answer, and no variable or path changes what is read."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stratos.cli.commands import servers
from stratos.contrib.slurm import limits as slurm_limits
from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm import queue as slurm_queue
from stratos.contrib.slurm.executor import Slurm, pattern, slurm_folder
from stratos.contrib.slurm.nodes import limits
from stratos.contrib.slurm.queue import expected_start, expected_waits
from stratos.core.errors import StratosError
from stratos.core.machine import Share
from stratos.executors import submission
from stratos.executors.handover import end_other
from stratos.executors.job import Job, JobSpec, State, folder_of
from stratos.executors.job_costs import JobCosts, settle_unseen
from stratos.executors.submission import Submission
from stratos.ledger import Ledger

NAME = "stratos-run-abc-distill"
SHOWN = (
    "JobId={id} JobName=" + NAME + " UserId=me(7) JobState={state} Reason=None Requeue=1 "
    "Restarts=0 ExitCode={code} SubmitTime=2026-11-27T10:00:00 StartTime={start} EndTime={end} "
    "NodeList=n1 Command={path}/submit.sh WorkDir={path} StdOut={path}/out"
)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes commands of SLURM that say something, by their names."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    monkeypatch.setenv(submission.STATE, str(tmp_path / "state"))

    def say(**scripts: str) -> None:
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f"#!/bin/bash\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    say(sinfo="echo 'main* 2:00:00 30:00'", sbatch="touch \"$(dirname $0)/submitted\"; exit 1",
        scontrol="echo 'Invalid job id specified' >&2; exit 1", squeue="true")  # fmt: skip
    return say


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    return JobSpec(
        name=NAME, stage="distill", folder=tmp_path / "run", role="train", nodes=1, offer=None,
        hours=None, planned_hours=1.0, usd_per_hour=2.0, command=("python",), env={},
    )  # fmt: skip


def shown(path: str = "/run", **changes: str) -> str:
    fields = {"id": "7", "state": "RUNNING", "code": "0:0", "start": "2026-11-27T10:00:05",
              "end": "2026-11-27T10:01:00", "path": path}  # fmt: skip
    return SHOWN.format(**fields | changes)


@pytest.mark.parametrize("which", ["squeue", "scontrol"])
def test_a_silent_slurm_is_not_one_without_a_job(fakes, spec, tmp_path, which, snapshot):
    pytest.importorskip("submitit")
    folder_of(spec.folder).mkdir(parents=True)
    one = Submission.of(Slurm(), spec, id="7", label="SLURM job 7", mark="a mark")
    submission.write(spec.folder, one)
    fakes(**{which: "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1"})
    with pytest.raises(StratosError) as refused:
        Slurm().submit(spec)
    assert str(refused.value).replace(str(NAME), "<NAME>") == snapshot
    assert not (tmp_path / "bin" / "submitted").exists()


def test_a_job_that_the_queue_does_not_show_is_asked_for_by_its_id(fakes, spec):
    pytest.importorskip("submitit")
    fakes(scontrol=f"echo '{shown()}'")
    submission.add_to_list(Submission.of(Slurm(), spec, id="7", label="SLURM job 7"))
    job = Slurm().submit(spec)
    assert (job.id, job.is_new) == ("7", False)
    # SLURM may count from the start again: another job has the id now.
    fakes(scontrol=f"echo '{shown().replace(NAME, 'another')}'")
    assert Slurm()._active(spec) is None
    fakes(scontrol=f"echo '{shown(state='COMPLETED')}'")
    assert Slurm()._active(spec) is None


def test_variables_do_not_change_what_slurm_is_asked(fakes, spec, monkeypatch):
    for name in ("SQUEUE_STATES", "SINFO_FORMAT", "SCANCEL_STATE", "SBATCH_PARTITION",
                 "SLURM_TIME_FORMAT"):  # fmt: skip
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/kept")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody")
    fakes(squeue="env; echo $*")
    said = slurm_nodes.run("squeue", "-h").stdout.splitlines()
    assert [one for one in said if one.startswith(("S", "L")) and "x" in one.split("=")] == []
    assert "SLURM_CONF=/kept" in said
    assert slurm_nodes.user() != "somebody"
    fakes(squeue='[[ "$*" != *somebody* ]] && echo "7 RUNNING"')
    assert slurm_queue.listed(NAME) == [("7", "RUNNING")]
    # What is a user's choice of sbatch, and no setting, is said to submitit.
    assert slurm_limits.usual_account() == "lab"
    assert Slurm()._parameters(spec, 10)["account"] == "lab"
    assert Slurm(account="mine")._parameters(spec, 10)["account"] == "mine"


def test_an_hour_that_a_clock_has_twice_is_one_hour(fakes, monkeypatch):
    """Berlin's clock says 02:30 an hour apart, in the night of 2026-10-25."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    asked = []
    for hour in (0, 1):
        seconds = datetime(2026, 10, 25, hour, 30, tzinfo=UTC).timestamp()
        fakes(squeue=f'exec date -d "@{seconds:.0f}" +%Y-%m-%dT%H:%M:%S')
        asked.append(slurm_nodes.time_of(slurm_nodes.run("squeue").stdout.strip()))
        assert asked[-1] == seconds
    assert slurm_nodes.time_of("Unknown") is None


def test_a_path_is_no_field_of_a_job(fakes, spec):
    fakes(scontrol=f"echo '{shown(path='/a JobState=FAILED ExitCode=7:0 b')}'")
    status = Slurm().status(Job(spec, "7", "SLURM job 7", Path("log")))
    assert (status.state, status.text) == (State.RUNNING, "SLURM job 7 on n1")


@pytest.mark.parametrize("banner", ["NOTE: maintenance on Sunday, see https://cluster", "a b", ""])
def test_a_banner_is_no_answer(fakes, banner):
    fakes(squeue=f"echo '{banner}'; echo '7 RUNNING'")
    assert slurm_queue.listed(NAME) == [("7", "RUNNING")]
    assert limits(f"{banner}\nmain* 2:00:00 30:00\n") == {"main": (120, True, 30)}
    node = "main|up|idle|OVERSUBSCRIBE:NO|2|4|8000|gpu:h100:2|(null)"
    [_, *more] = slurm_nodes.shares(f"{banner}\n{node}\n")
    assert more == slurm_nodes.shares(node)[1:]
    if banner:
        with pytest.raises(StratosError, match=rf"^sinfo -h -o '.*' says .*'{banner}'\. Type"):
            limits(banner)
        with pytest.raises(StratosError, match=r"^sinfo -h -e -o '.*' says what cannot be read"):
            slurm_nodes.shares(banner)


@pytest.fixture
def at(spec: JobSpec) -> Iterator[Callable[[str], JobSpec]]:
    from dataclasses import replace

    yield lambda folder: replace(spec, folder=Path(folder))


def test_what_slurm_would_replace_in_a_path(at):
    assert pattern(at("/a 50% of/run"), "0") == "/a 50%% of/run/jobs/slurm/%j_0_log.out"
    for folder in ("/a\nb", "/50%job", "/a\\b"):
        with pytest.raises(StratosError, match=r"which a batch script of SLURM cannot name\. Type"):
            slurm_folder(at(folder))


def test_a_job_of_another_cluster_is_not_taken_for_gone(fakes, spec, monkeypatch):
    def says(name: str) -> str:
        config = f"ClusterName             = {name}\\nSlurmctldHost[0]        = head"
        return (
            f"[ \"$2\" = config ] && printf '{config}\\n' && exit; echo Invalid job id >&2; exit 1"
        )

    fakes(scontrol=says("one"))
    assert Slurm().where() == "one at head"
    (spec.folder / "jobs").mkdir(parents=True)
    seventh = Submission.of(
        Slurm(), spec, id="7", label="SLURM job 7", mark="mark", cluster="one at head"
    )
    submission.add_to_list(seventh)
    submission.write(spec.folder, seventh)
    ledger = Ledger(spec.folder / "ledger.jsonl", 100.0, stage="distill")
    fakes(scontrol=says("two"))
    with pytest.raises(StratosError, match="SLURM job 7 of one at head, and two at head answers"):
        end_other(Slurm(), spec, "mark", ledger, print, print)
    submission.forget(spec.folder, "distill")
    with pytest.raises(StratosError, match=r"stratos servers down"):
        end_other(Slurm(), spec, "mark", ledger, print, print)
    assert submission.find_listed(spec.name) is not None
    [one] = submission.listed()
    assert servers._status(one).state is State.UNKNOWN


@pytest.fixture
def slurm_says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what sets the answers of SLURM by the command; one without an answer fails."""

    def say(**answers: str) -> None:
        def run(command: str, *_: str, **__: object) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess((), command not in answers, answers.get(command, ""),
                                               "it does not answer")  # fmt: skip

        monkeypatch.setattr(slurm_queue, "run", run)

    return say


def test_slurm_knows_when_a_job_ran(slurm_says):
    def clock(minute: int) -> float:
        return slurm_nodes.time_of(f"2026-01-01T10:{minute:02}:00") or 0.0

    kept = ("JobId=7 JobName=a UserId=me(7) JobState=COMPLETED Restarts=1 "
            "StartTime=2026-01-01T10:30:00 EndTime=2026-01-01T10:40:00 Command=x")  # fmt: skip
    slurm_says(scontrol=kept)
    assert slurm_queue.running_spans("a", "7") == [(clock(30), clock(40))]
    assert (
        slurm_queue.running_spans("another", "7") is None
        and slurm_queue.running_spans("a", "") is None
    )
    # Of a submission that was cut short the name is known.
    slurm_says(scontrol=kept, squeue="a banner\n7 COMPLETED\n")
    assert slurm_queue.running_spans("a", "") == [(clock(30), clock(40))]
    slurm_says(scontrol=kept.replace("10:40:00", "10:30:00"))
    assert slurm_queue.running_spans("a", "7") == []
    # Accounting knows every start.
    rows = (
        "a|2026-01-01T10:00:00|2026-01-01T10:05:00\na|2026-01-01T10:30:00|2026-01-01T10:40:00\n"
        "a|None|Unknown\n"
    )
    slurm_says(scontrol=kept, sacct=rows)
    assert slurm_queue.running_spans("a", "7") == [(clock(0), clock(5)), (clock(30), clock(40))]
    slurm_says()
    assert slurm_queue.running_spans("a", "7") is None


@pytest.mark.parametrize("who", ["scontrol", "sacct"])
def test_a_job_of_90_seconds_costs_what_90_seconds_do(who, spec, slurm_says, tmp_path):
    """Limits are of whole minutes, times are of seconds."""
    submitted = time.time() - 600
    start, end = (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(submitted + seconds))
                  for seconds in (30, 120))  # fmt: skip
    if who == "sacct":
        slurm_says(sacct=f"{NAME}|{start}|{end}\n")
    else:
        shown = SHOWN.format(id=7, state="COMPLETED", code="0:0", start=start, end=end, path="/x")
        slurm_says(scontrol=f"{shown} TimeLimit=00:03:00")
    path = tmp_path / "ledger.jsonl"
    JobCosts(Ledger(path, 10.0, stage="distill"), Slurm(), spec)
    [line] = path.read_text().splitlines()
    path.write_text(json.dumps(json.loads(line) | {"at": round(submitted, 3)}) + "\n")
    job = Job(spec, "7", "SLURM job 7", tmp_path / "log")
    settle_unseen(tmp_path, "distill", Ledger(path), Slurm().spans(job))
    *_, settled = map(json.loads, path.read_text().splitlines())
    assert settled["seconds"] == 90
    assert settled["usd"] == pytest.approx(90 / 3600 * spec.usd_per_hour)


def test_a_start_by_a_clock_that_is_ahead_is_not_no_start(slurm_says):
    ahead = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 240))
    kept = f"JobId=7 JobName=a UserId=me(7) JobState=%s StartTime={ahead} EndTime={ahead} Command=x"
    slurm_says(scontrol=kept % "COMPLETED")
    assert slurm_queue.running_spans("a", "7") is None, "its own words count"
    slurm_says(scontrol=kept % "PENDING")
    assert slurm_queue.running_spans("a", "7") == []


# How long jobs wait, by what sbatch of SLURM 24.11 expects.


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch):
    def answers(sbatch: str) -> list[tuple[str, ...]]:
        asked: list[tuple[str, ...]] = []

        def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            return subprocess.CompletedProcess(command, int(not sbatch), "", sbatch)

        monkeypatch.setattr(slurm_nodes, "run", run)
        return asked

    return answers


def begins_in(seconds: float) -> str:
    when = datetime.fromtimestamp(time.time() + seconds, UTC)
    when = f"{when:%Y-%m-%dT%H:%M:%S}"
    return f"sbatch: Job 3 to start at {when} using 1 processors on nodes n1 in partition main"


SHARES = [Share("main", 2, 4000, "h100", 1, ("ib",), 2), Share("urgent", 4, 8000, "", 0, (), 1)]


def test_what_sbatch_expects(says):
    asked = says(begins_in(7200 + 30))
    assert expected_start(["-p", "main"]) == pytest.approx(7230, abs=2)
    assert expected_waits(SHARES) == (
        {("main", SHARES[0].name): 2.0, ("urgent", SHARES[1].name): 2.0}, ""
    )  # fmt: skip
    assert set(asked[1:]) == {
        ("sbatch", "--test-only", "-p", "main", "-c", "2", "--mem=4000M", "--gres=gpu:h100:1",
         "--constraint=ib", "--wrap=true"),
        ("sbatch", "--test-only", "-p", "urgent", "-c", "4", "--mem=8000M", "--wrap=true"),
    }  # fmt: skip


def test_where_sbatch_says_nothing_the_wait_is_not_known(says):
    says("")
    assert expected_waits(SHARES) == ({}, "sbatch --test-only does not tell it")
