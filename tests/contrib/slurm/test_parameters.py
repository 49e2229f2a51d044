"""From a plan to a job of SLURM: hours, limits and what submitit is told."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.slurm.executor import Slurm
from stratos.contrib.slurm.limits import Allowance
from stratos.contrib.slurm.nodes import limits
from stratos.contrib.slurm.queue import signal_of
from stratos.core.errors import StratosError
from stratos.executors.job import job_spec
from stratos.records import Offer, Plan, RoleChoice

GPU = Offer(
    "aws", "us-east-1", "g5.xlarge", "A10G", 1, 4, 16, 24, usd_per_hour=1.0, usd_per_hour_spot=0.4
)
TRAIN = RoleChoice("train", GPU, 1, False, hours=3.0, usd=6.0, hours_range=(2.0, 5.0))


def plan(*roles: RoleChoice) -> Plan:
    fields: dict = dict.fromkeys(Plan.__dataclass_fields__)
    return Plan(**fields | {"roles": roles})


@pytest.mark.parametrize(
    ("code", "signal"),
    [("0:9", 9), ("137:0", 9), ("1:0", None), ("0:53", None), ("0:125", None), ("", None)],
)
def test_what_killed_a_job_of_slurm(code: str, signal: int | None) -> None:
    assert signal_of(code) == signal


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("2:00:00", 120), ("1-00:00:00", 1440), ("30:00", 30), ("infinite", None), ("n/a", None)],
)
def test_limits_as_slurm_writes_them(text: str, minutes: int | None) -> None:
    assert limits(f"gpu* {text} n/a\nlong 7-00:00:00 1:00:00\n") == {
        "gpu": (minutes, True, None), "long": (10080, False, 60)
    }  # fmt: skip


def test_more_hours_than_a_partition_gives_are_several_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.CompletedProcess((), 0, "short* 2:00:00 30:00\nlong infinite n/a\n", "")
    monkeypatch.setattr("stratos.contrib.slurm.executor.partitions", lambda: answer)
    spec = job_spec(plan(TRAIN), "distill", tmp_path, Slurm())
    assert spec.hours == 10
    assert Slurm()._parts(spec) == (5, 120)
    assert Slurm(partition="long")._parts(spec) == (1, 600)
    assert Slurm(partition="short,long")._parts(spec) == (1, 600)
    assert Slurm()._parts(replace(spec, hours=1.01)) == (1, 61)
    # Without hours it is what the partition gives a job that asks for none (submitit: 5 minutes).
    unknown = replace(spec, hours=None)
    assert Slurm()._parts(unknown) == (1, 30)
    assert Slurm(partition="short,long")._parts(unknown) == (1, 30)
    assert Slurm(partition="long")._parts(unknown) == (1, 365 * 24 * 60)


def test_slurm_ends_a_job_where_its_money_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    answer = subprocess.CompletedProcess((), 0, "short* 2:00:00 30:00\nlong infinite n/a\n", "")
    monkeypatch.setattr("stratos.contrib.slurm.executor.partitions", lambda: answer)
    spec = job_spec(plan(TRAIN), "distill", tmp_path, Slurm())

    def starts(paid_hours: float | None, **settings) -> tuple[int, int]:
        n, minutes, said = Slurm(**settings)._starts(replace(spec, paid_hours=paid_hours), None)
        assert paid_hours is None or n * minutes <= max(3, paid_hours * 60)
        assert bool(said) == ((n, minutes) != Slurm(**settings)._starts(spec, None)[:2])
        return n, minutes

    # Ten hours are five jobs after each other, and each may reach its limit three times more.
    assert starts(None) == starts(100.0) == (20, 120)
    assert starts(5.0) == (2, 120) and starts(0.51) == (1, 30) and starts(0.0) == (1, 3)
    assert starts(9.0, partition="long", max_timeouts=0) == (1, 540)
    said = Slurm()._starts(replace(spec, paid_hours=0.3), None)[2]
    assert said == snapshot


def test_an_account_that_gives_a_job_no_time_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.CompletedProcess((), 0, "short* 2:00:00 n/a\n", "")
    none = Allowance("account lab, QOS normal", minutes=0)
    monkeypatch.setattr("stratos.contrib.slurm.executor.partitions", lambda: answer)
    monkeypatch.setattr("stratos.contrib.slurm.executor.allowance_of_user", lambda *_: (none, ""))
    with pytest.raises(StratosError, match=r"account lab.*MaxWall=0 give a job no time\. Type"):
        Slurm()._parts(job_spec(plan(TRAIN), "distill", tmp_path, Slurm()))


def test_what_submitit_is_told(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit.slurm.slurm")
    slurm = Slurm(qos="low", account="lab", cpus=4, memory_gib=1.5, constraint="ib")
    spec = job_spec(plan(TRAIN), "distill", tmp_path, slurm)
    told = submitit._make_sbatch_string("work", tmp_path, **slurm._parameters(spec, 600))
    lines = set(told.splitlines())
    assert {
        f"#SBATCH --job-name={spec.name}", "#SBATCH --nodes=1", "#SBATCH --ntasks-per-node=1",
        "#SBATCH --qos=low", "#SBATCH --account=lab", "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=1536M", "#SBATCH --constraint=ib", "#SBATCH --gpus-per-node=1",
        "#SBATCH --time=600", "#SBATCH --requeue", "#SBATCH --open-mode=append",
        "#SBATCH --signal=USR2@90",
    } <= lines  # fmt: skip
    assert "--wckey" not in told and "--cpus-per-task=4 work" in told
    assert "kill-on-bad-exit" not in told
    two = replace(spec, nodes=2)
    told = submitit._make_sbatch_string("work", tmp_path, **slurm._parameters(two, 600))
    assert "#SBATCH --nodes=2" in told.splitlines()
    assert "--cpus-per-task=4 --kill-on-bad-exit=0 work" in told
    other = Slurm(gres="gpu:h100:2")._parameters(spec, 600)
    assert other["gres"] == "gpu:h100:2" and "gpus_per_node" not in other
