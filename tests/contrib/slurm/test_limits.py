"""What SLURM's accounting lets a user have, as sacctmgr of SLURM 24.11 with a slurmdbd lists it."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from stratos.contrib.slurm import limits as slurm_limits
from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.executor import Slurm
from stratos.contrib.slurm.limits import (
    Allowance,
    allowance,
    allowance_of_user,
    preempted_by,
    within,
)
from stratos.contrib.slurm.nodes import constraint_of, gres_of, limits, shares
from stratos.contrib.slurm.queue import signal_of
from stratos.core.errors import StratosError
from stratos.core.machine import Share
from stratos.executors.job import job_spec
from stratos.records import Offer, Plan, RoleChoice

ASSOCIATIONS = {
    "lab": "lab||root||normal||20||cpu=64,gres/gpu=6|\n"
    "lab|ann|||long,normal|2||cpu=4|gres/gpu=3|01:30:00\n",
    "root": "root||||normal|||||\nroot|root|||long,normal|||||\n",
}
CLASSES = "normal||||||\nlong|1||gres/gpu:h100=1,node=1|gres/gpu=2|cpu=64,mem=100G|12:00:00\n"
CONFIG = "AccountingStorageEnforce = associations,limits,qos\nClusterName             = stratos\n"
BOTH = ASSOCIATIONS["lab"] + ASSOCIATIONS["root"]


def test_limits_of_the_account_and_of_those_above_it():
    assert allowance(BOTH, CLASSES, "lab", None, "ann") == Allowance(
        "account lab, QOS normal", {"cpu": 4}, {"cpu": 64, "gres/gpu": 3}, 2, 90
    )
    assert allowance(BOTH, CLASSES, "lab", None, "bob") == Allowance(
        "account lab, QOS normal", {}, {"cpu": 64, "gres/gpu": 6}, 20, None
    ), "of whom nothing is written, the account's hold"


def test_limits_of_the_qos_take_the_place_of_the_accounts(snapshot):
    found = allowance(BOTH, CLASSES, "lab", "long", "ann")
    assert found == Allowance(
        "account lab, QOS long", {"cpu": 4, "gres/gpu:h100": 1, "node": 1},
        {"cpu": 64, "gres/gpu": 2, "mem": 102400}, 1, 720,
    )  # fmt: skip
    assert str(found) == snapshot


def test_a_limit_of_the_qos_replaces_only_those_of_its_kind():
    told = "lab|me||normal|normal|9||||\nlab||root|normal|normal||2||cpu=64,gres/gpu=4|\n"
    found = allowance(told, "normal|100|||gres/gpu=64|cpu=128|\n", "lab", None, "me")
    assert (found.at_once, found.jobs) == ({"cpu": 128, "gres/gpu": 4}, 2)
    assert allowance(told, "normal|||||||\n", "lab", None, "me").jobs == 2
    assert allowance(told, "normal|3|50||||\n", "lab", None, "me").jobs == 3


def test_of_limits_of_a_job_the_nearest_holds():
    told = (
        "lab|me||normal|normal|20||cpu=64||3-00:00:00\n"
        "lab||root|normal|normal|2||cpu=8,node=2||1-00:00:00\n"
    )
    found = allowance(told, "normal||||||\n", "lab", None, "me")
    assert (found.jobs, found.per_job, found.minutes) == (20, {"cpu": 64, "node": 2}, 3 * 1440)
    assert allowance(told, "normal||||||\n", "lab", None, "bob").minutes == 1440


def test_a_partition_may_have_an_association_of_its_own():
    told = (
        "lab|me||normal|normal|1||gres/gpu=1||00:30:00|short\n"
        "lab|me||normal|normal|5|||||\n"
        "lab||root|normal|normal|||||2-00:00:00|\n"
    )
    jobs = {
        name: allowance(told, "", "lab", None, "me", name).jobs for name in ("short", "main", "")
    }
    assert jobs == {"short": 1, "main": 5, "": 5}
    assert allowance(told, "", "lab", None, "me", "short").minutes == 30


def test_no_job_fits_where_none_may_take_time():
    told = "lab|me||normal|normal|||||00:00:00|\n"
    found = allowance(told, "", "lab", None, "me")
    assert found.minutes == 0 and str(found).endswith("MaxWall=0")
    assert found.count(Share("main", 1, 1024, "", 0, (), 9)) == 0


def test_a_share_is_left_out_or_taken_as_often_as_the_limits_allow():
    def share(cpus: int, gpus: int, count: int = 9, mib: int = 1024) -> Share:
        return Share("main", cpus, mib, "h100" if gpus else "", gpus, (), count)

    def counts(limits: Allowance, *of: Share) -> list[int]:
        return [limits.count(one) for one in of]

    of = (share(2, 1), share(4, 2), share(8, 4), share(2, 0))
    assert counts(Allowance("a", at_once={"gres/gpu": 3}), *of) == [3, 1, 0, 9]
    assert counts(Allowance("a", per_job={"gres/gpu:h100": 1}), *of) == [9, 0, 0, 9]
    assert counts(Allowance("a", per_job={"cpu": 4}, jobs=2), *of) == [2, 2, 0, 2]
    assert counts(Allowance("a", at_once={"mem": 2500}), share(1, 0)) == [2]
    kept, left_out = within(of, Allowance("a", at_once={"gres/gpu": 3}))
    assert [one.count for one in kept] == [3, 1, 9] and left_out == [of[2]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch):
    """Have SLURM's commands answer as a slurmdbd had them answer, or as is given."""
    monkeypatch.setattr(slurm_limits.slurm_nodes, "user", lambda: "ann")
    for name in ("SBATCH_ACCOUNT", "SLURM_ACCOUNT", "SBATCH_QOS"):
        monkeypatch.delenv(name, raising=False)

    def answers(config: str = CONFIG, error: str = "") -> None:
        def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
            if command[0] == "scontrol":
                return subprocess.CompletedProcess(command, 0, config, "")
            if error:
                return subprocess.CompletedProcess(command, 1, "", error)
            words = [one for one in command if one.startswith("account=")]
            account = words[0].removeprefix("account=") if words else ""
            shown = {"user": "lab\n", "qos": CLASSES, "assoc": ASSOCIATIONS.get(account, "")}
            return subprocess.CompletedProcess(command, 0, shown[command[5]], "")

        monkeypatch.setattr(slurm_nodes, "run", run)

    return answers


def test_they_are_asked_of_the_default_account_and_of_that_of_sbatch(said, monkeypatch):
    said()
    assert allowance_of_user() == (allowance(BOTH, CLASSES, "lab", None, "ann"), "")
    monkeypatch.setenv("SBATCH_ACCOUNT", "root")
    monkeypatch.setenv("SBATCH_QOS", "long")
    found, _ = allowance_of_user()
    assert found is not None and (found.of, found.jobs) == ("account root, QOS long", 1)


def test_where_none_are_kept_to_there_are_none_and_unread_ones_are_said(said):
    said(config="AccountingStorageEnforce = none\n")
    assert allowance_of_user() == (None, "")
    said(error="sacctmgr: error: Connection refused")
    assert allowance_of_user() == (None, "Connection refused")


# What sinfo says of nodes, as shares that jobs take.


def names(told: str) -> dict[str, int]:
    return {f"{one.partition}/{one.name}": one.count for one in shares(told)}


def test_a_job_takes_part_of_a_node_and_equal_nodes_count_together():
    told = "gpu|up|idle|NO|3|32|65536|gpu:h100:4(S:0-1)|ib,fast\ngpu|up|mixed|NO|2|32|65536|"
    found = shares(f"{told}gpu:h100:4(S:0-1)|fast,ib\n")
    assert found == [
        Share("gpu", 8, 16384, "h100", 1, ("fast", "ib"), 20),
        Share("gpu", 16, 32768, "h100", 2, ("fast", "ib"), 10),
        Share("gpu", 32, 65536, "h100", 4, ("fast", "ib"), 5),
    ]
    assert [gres_of(one) for one in found] == ["gpu:h100:1", "gpu:h100:2", "gpu:h100:4"]
    assert constraint_of(found[0]) == "fast&ib"
    assert found[0].name == "1xh100-8cpu-16gib+fast+ib"


def test_a_node_without_gpus_is_shared_by_cpus_and_one_of_its_own_is_whole():
    assert names("main|up|idle|NO|2|6|6144|(null)|(null)\n") == {
        "main/1cpu-1gib": 12, "main/2cpu-2gib": 6, "main/4cpu-4gib": 2, "main/6cpu-6gib": 2
    }  # fmt: skip
    assert names("main|up|idle|EXCLUSIVE|2|6|6144|gpu:2|(null)\n") == {"main/2xgpu-6cpu-6gib": 2}


@pytest.mark.parametrize(
    ("state", "counts"),
    [("idle", 1), ("idle~", 1), ("allocated#", 1), ("mixed-", 1), ("reserved", 1), ("down*", 0),
     ("drained", 0), ("draining", 0), ("unknown*", 0), ("maint", 0), ("fail", 0), ("inval", 0)],
)  # fmt: skip
def test_nodes_that_run_jobs_now_or_later(state, counts):
    assert len(shares(f"main|up|{state}|NO|1|1|1024|(null)|(null)\n")) == counts
    assert shares(f"main|down|{state}|NO|1|1|1024|(null)|(null)\n") == []


def test_gpus_as_clusters_write_them():
    told = "gpu|up|idle|EXCLUSIVE|1|8|8192|gpu:a100:2(S:0,1),gpu:v100:1,nvme:1,shard:8|(null)\n"
    assert [(one.gpu, one.n_gpus, one.cpus) for one in shares(told)] == [
        ("v100", 1, 8), ("a100", 2, 8)
    ]  # fmt: skip
    [bare] = shares("gpu|up|idle|EXCLUSIVE|1|8|8192|gpu:2(S:0)|(null)\n")
    assert (bare.gpu, bare.n_gpus, gres_of(bare)) == ("", 2, "gpu:2")
    [cpu] = shares("gpu|up|idle|EXCLUSIVE|1|8|8192|gpu:0|(null)\n")
    assert (cpu.n_gpus, gres_of(cpu)) == (0, None)


# Whose jobs preempt whose, as scontrol tells it.

PARTITIONS = "".join(
    f"PartitionName={name} AllowGroups=ALL Default=NO GraceTime=5 PriorityJobFactor=1 "
    f"PriorityTier={tier} OverSubscribe=NO PreemptMode={mode} State=UP\n"
    for name, tier, mode in (
        ("main", 1, "REQUEUE"), ("urgent", 10, "OFF"), ("kept", 1, "OFF"), ("top", 11, "OFF"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "asked", "found"),
    [
        ("partition_prio", ["main", "urgent", "kept"], {"urgent": {"main": "REQUEUE"}}),
        ("partition_prio", ["urgent", "top"], {}),
        ("partition_prio", ["urgent"], {}),
        ("qos", ["main", "urgent"], {}),
        ("none", ["main", "urgent"], {}),
    ],
)
def test_higher_tiers_preempt_partitions_that_let_them(monkeypatch, kind, asked, found):
    config = f"PreemptMode             = REQUEUE\nPreemptType             = preempt/{kind}\n"

    def run(*command: str, **_: float) -> subprocess.CompletedProcess[str]:
        text = config if command[2] == "config" else PARTITIONS
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(slurm_nodes, "run", run)
    assert preempted_by(asked) == found


# From a plan to a job of SLURM: hours, limits and what submitit is told.

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
def test_what_killed_a_job_of_slurm(code, signal):
    assert signal_of(code) == signal


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("2:00:00", 120), ("1-00:00:00", 1440), ("30:00", 30), ("infinite", None), ("n/a", None)],
)
def test_limits_as_slurm_writes_them(text, minutes):
    assert limits(f"gpu* {text} n/a\nlong 7-00:00:00 1:00:00\n") == {
        "gpu": (minutes, True, None), "long": (10080, False, 60)
    }  # fmt: skip


def test_more_hours_than_a_partition_gives_are_several_jobs(tmp_path, monkeypatch):
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


def test_slurm_ends_a_job_where_its_money_does(tmp_path, monkeypatch, snapshot):
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


def test_an_account_that_gives_a_job_no_time_is_one_clear_error(tmp_path, monkeypatch):
    answer = subprocess.CompletedProcess((), 0, "short* 2:00:00 n/a\n", "")
    none = Allowance("account lab, QOS normal", minutes=0)
    monkeypatch.setattr("stratos.contrib.slurm.executor.partitions", lambda: answer)
    monkeypatch.setattr("stratos.contrib.slurm.executor.allowance_of_user", lambda *_: (none, ""))
    with pytest.raises(StratosError, match=r"account lab.*MaxWall=0 give a job no time\. Type"):
        Slurm()._parts(job_spec(plan(TRAIN), "distill", tmp_path, Slurm()))


def test_what_submitit_is_told(tmp_path):
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
