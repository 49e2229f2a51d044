"""What SLURM's accounting lets a user have, as sacctmgr of SLURM 24.11 with a slurmdbd lists it."""

from __future__ import annotations

import subprocess

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.slurm import limits as slurm_limits
from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.limits import Allowance, allowance, allowance_of_user, within
from stratos.core.shares import Share

ASSOCIATIONS = {
    "lab": "lab||root||normal||20||cpu=64,gres/gpu=6|\n"
    "lab|ann|||long,normal|2||cpu=4|gres/gpu=3|01:30:00\n",
    "root": "root||||normal|||||\nroot|root|||long,normal|||||\n",
}
CLASSES = "normal||||||\nlong|1||gres/gpu:h100=1,node=1|gres/gpu=2|cpu=64,mem=100G|12:00:00\n"
CONFIG = "AccountingStorageEnforce = associations,limits,qos\nClusterName             = stratos\n"
BOTH = ASSOCIATIONS["lab"] + ASSOCIATIONS["root"]


def test_limits_of_the_account_and_of_those_above_it() -> None:
    assert allowance(BOTH, CLASSES, "lab", None, "ann") == Allowance(
        "account lab, QOS normal", {"cpu": 4}, {"cpu": 64, "gres/gpu": 3}, 2, 90
    )
    assert allowance(BOTH, CLASSES, "lab", None, "bob") == Allowance(
        "account lab, QOS normal", {}, {"cpu": 64, "gres/gpu": 6}, 20, None
    ), "of whom nothing is written, the account's hold"


def test_limits_of_the_qos_take_the_place_of_the_accounts(snapshot: SnapshotAssertion) -> None:
    found = allowance(BOTH, CLASSES, "lab", "long", "ann")
    assert found == Allowance(
        "account lab, QOS long", {"cpu": 4, "gres/gpu:h100": 1, "node": 1},
        {"cpu": 64, "gres/gpu": 2, "mem": 102400}, 1, 720,
    )  # fmt: skip
    assert str(found) == snapshot


def test_a_limit_of_the_qos_replaces_only_those_of_its_kind() -> None:
    told = "lab|me||normal|normal|9||||\nlab||root|normal|normal||2||cpu=64,gres/gpu=4|\n"
    found = allowance(told, "normal|100|||gres/gpu=64|cpu=128|\n", "lab", None, "me")
    assert (found.at_once, found.jobs) == ({"cpu": 128, "gres/gpu": 4}, 2)
    assert allowance(told, "normal|||||||\n", "lab", None, "me").jobs == 2
    assert allowance(told, "normal|3|50||||\n", "lab", None, "me").jobs == 3


def test_of_limits_of_a_job_the_nearest_holds() -> None:
    told = (
        "lab|me||normal|normal|20||cpu=64||3-00:00:00\n"
        "lab||root|normal|normal|2||cpu=8,node=2||1-00:00:00\n"
    )
    found = allowance(told, "normal||||||\n", "lab", None, "me")
    assert (found.jobs, found.per_job, found.minutes) == (20, {"cpu": 64, "node": 2}, 3 * 1440)
    assert allowance(told, "normal||||||\n", "lab", None, "bob").minutes == 1440


def test_a_partition_may_have_an_association_of_its_own() -> None:
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


def test_no_job_fits_where_none_may_take_time() -> None:
    told = "lab|me||normal|normal|||||00:00:00|\n"
    found = allowance(told, "", "lab", None, "me")
    assert found.minutes == 0 and str(found).endswith("MaxWall=0")
    assert found.count(Share("main", 1, 1024, "", 0, (), 9)) == 0


def test_a_share_is_left_out_or_taken_as_often_as_the_limits_allow() -> None:
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


def test_they_are_asked_of_the_default_account_and_of_that_of_sbatch(
    said, monkeypatch: pytest.MonkeyPatch
) -> None:
    said()
    assert allowance_of_user() == (allowance(BOTH, CLASSES, "lab", None, "ann"), "")
    monkeypatch.setenv("SBATCH_ACCOUNT", "root")
    monkeypatch.setenv("SBATCH_QOS", "long")
    found, _ = allowance_of_user()
    assert found is not None and (found.of, found.jobs) == ("account root, QOS long", 1)


def test_where_none_are_kept_to_there_are_none_and_unread_ones_are_said(said) -> None:
    said(config="AccountingStorageEnforce = none\n")
    assert allowance_of_user() == (None, "")
    said(error="sacctmgr: error: Connection refused")
    assert allowance_of_user() == (None, "Connection refused")
