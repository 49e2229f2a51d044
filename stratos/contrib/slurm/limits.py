"""What SLURM's accounting lets a user have: limits of the association and of the QOS.

Of a limit of one job or user (Max…) the nearest holds: the user's own, else that of the account,
else those above. A limit of a group (Grp…) holds for all below it. One of the QOS takes the place
of the associations' of the same kind and resource, and of no other. SLURM keeps to none of it
unless AccountingStorageEnforce says so.

With PreemptType=preempt/partition_prio a job preempts those of partitions with a lower
PriorityTier; what becomes of them is the PreemptMode of their partition.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from stratos.catalog.cluster import Cluster
from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.nodes import CLOUD, last_line, minutes_of, shares_of_cluster
from stratos.contrib.slurm.queue import expected_waits
from stratos.core import extras
from stratos.core.errors import did_you_mean
from stratos.core.formats import counted
from stratos.core.machine import Share
from stratos.core.reasons import Reason


class NoSbatch(Reason):
    """This machine is no login node."""

    says = (
        "executor=slurm: there is no sbatch on the PATH, so that this machine cannot submit to "
        "SLURM. Give the command on a login node of the cluster, or type executor=here."
    )


class NoSubmitit(Reason):
    """The package that writes batch scripts is not installed."""

    def __str__(self) -> str:
        return f"executor=slurm: submitit is not installed. Type: {extras.install('slurm')}"


class Silent(Reason):
    """SLURM does not answer."""

    error: str
    """In its own words."""

    says = "executor=slurm: SLURM does not answer ({error}). Try sinfo, or type executor=here."


class NoPartition(Reason):
    """The cluster has no partition of that name."""

    partition: str
    """As it is set: one, or several with commas."""
    unknown: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"executor.partition={self.partition}: there is no partition {self.unknown}."
            f"{did_you_mean(self.unknown, self.known)} There are: {', '.join(self.known)}."
        )


class TooFewHours(Reason):
    """A job would be told to save before it has started."""

    hours: float
    least_hours: float
    saves_s: float
    """Seconds before its limit at which a job is told to save."""

    says = (
        "executor.hours={hours:g}: a job is told to save {saves_s:g} s before its "
        "limit, and has to start before that. Type executor.hours="
        "{least_hours:g} or more."
    )


class TooManyHours(Reason):
    """The partition lets no job run for so long."""

    hours: float
    most_hours: float

    says = (
        "executor.hours={hours:g}: the partition lets a job run {most_hours:g} h. "
        "Type executor.hours={most_hours:g}: a job that reaches it goes back into the "
        "queue and on from its checkpoint, executor.max_timeouts times."
    )


class NoNodeTakes(Reason):
    """No node has what the settings ask for."""

    request: Mapping[str, str | float]
    """Setting to its value."""
    refusal: str
    """In SLURM's words."""

    def __str__(self) -> str:
        typed = " ".join(f"executor.{key}={value}" for key, value in self.request.items())
        keys = " or ".join(f"executor.{key}" for key in self.request)
        return (
            f"{typed}: no node of SLURM can take such a job ({self.refusal}). See sinfo -o "
            f"'%P %D %c %m %G' for what nodes have, and change {keys}, or executor.partition."
        )


_ASSOCIATION = (
    "Account,User,ParentName,DefaultQOS,QOS,MaxJobs,GrpJobs,MaxTRES,GrpTRES,MaxWall,Partition"
)
_QOS = "Name,MaxJobsPU,GrpJobs,MaxTRES,MaxTRESPU,GrpTRES,MaxWall"
_DEFAULT_QOS = "normal"
_SUFFIXES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
_LEVELS = 16
"""Accounts above each other."""

Amounts = Mapping[str, float]
"""Most of a resource by SLURM's name: cpu, node, gres/gpu, gres/gpu:h100; mem in MiB."""


@dataclass(frozen=True)
class Allowance:
    """What a user's jobs may have."""

    of: str
    """Account and QOS, for messages."""
    per_job: Amounts = field(default_factory=dict)
    at_once: Amounts = field(default_factory=dict)
    """Of all jobs together."""
    jobs: int | None = None
    """Most that run at once."""
    minutes: int | None = None
    """Longest that a job may run."""

    def count(self, share: Share) -> int:
        """Return how many jobs of a share may run at once; 0 where there may be none."""
        needs = _needs(share)
        if self.minutes == 0 or any(
            self.per_job.get(name, need) < need for name, need in needs.items()
        ):
            return 0
        most = [int(self.at_once[name] // need) for name, need in needs.items()
                if need and name in self.at_once]  # fmt: skip
        return min([share.count, *most, *([] if self.jobs is None else [self.jobs])])

    def __str__(self) -> str:
        """Write what is limited as SLURM does."""
        parts = [f"{name}={value:g} per job" for name, value in sorted(self.per_job.items())]
        parts += [f"{name}={value:g} at once" for name, value in sorted(self.at_once.items())]
        parts += [] if self.jobs is None else [f"jobs={self.jobs}"]
        parts += ["MaxWall=0"] if self.minutes == 0 else []
        return f"{self.of}: {', '.join(parts)}"


def within(shares: Iterable[Share], allowance: Allowance) -> tuple[list[Share], list[Share]]:
    """Return the shares that jobs may have, so often as they may at once, and those left out."""
    usable, left_out = [], []
    for share in shares:
        n = allowance.count(share)
        if n > 0:
            usable.append(replace(share, count=n))
        else:
            left_out.append(share)
    return usable, left_out


def allowance_of_user(
    account: str | None = None, qos: str | None = None, partition: str | None = None
) -> tuple[Allowance | None, str]:
    """Ask SLURM for the limits of this user in one partition; see `allowances_of_user`."""
    by_partition, why = allowances_of_user([partition or ""], account, qos)
    return next(iter(by_partition.values()), None), why


def allowances_of_user(
    partitions: Iterable[str], account: str | None = None, qos: str | None = None
) -> tuple[dict[str, Allowance], str]:
    """Ask SLURM for the limits of this user, and return why they are not known.

    Args:
        partitions: of the jobs; "" for one that is not known.
        account: of the jobs; None for that of sbatch's variables, else the user's default.
        qos: of the jobs; None for that of sbatch's variables, else the association's default.

    Returns:
        The limits by partition, empty where there are none or they are not known; and why they are
        not known, "" where they are.
    """
    answer = slurm_nodes.run("scontrol", "show", "config")
    if answer.returncode:
        return {}, last_line(answer.stderr or answer.stdout)
    enforced = re.search(r"^AccountingStorageEnforce\s*=\s*(.*)$", answer.stdout, re.MULTILINE)
    if enforced is None or not {"limits", "safe"} & {*enforced[1].strip().split(",")}:
        return {}, ""
    account, qos = account or usual_account(), qos or usual_qos()
    if account is None:
        user = ("user", "where", f"name={slurm_nodes.user()}")
        rows_of_user, why = _listed(*user, "format=DefaultAccount")
        if why or not rows_of_user.strip():
            return {}, why or f"{slurm_nodes.user()} has no default account"
        account = rows_of_user.split("\n")[0]
    cluster = re.search(r"^ClusterName\s*=\s*(\S+)", answer.stdout, re.MULTILINE)
    where = f"cluster={'' if cluster is None else cluster[1]}"
    rows, above = [], account
    for _ in range(_LEVELS):
        rows_of_user, why = _listed(
            "assoc", "where", where, f"account={above}", f"format={_ASSOCIATION}"
        )
        if why:
            return {}, why
        rows.append(rows_of_user)
        listed = _rows(rows_of_user, _ASSOCIATION)
        above = next((entry["ParentName"] for entry in listed if not entry["User"]), "")
        if not above:
            break
    classes, why = _listed("qos", f"format={_QOS}")
    if why:
        return {}, why
    associations = "\n".join(rows)
    return {
        entry: allowance(associations, classes, account, qos, partition=entry)
        for entry in partitions
    }, ""


def usual_account() -> str | None:
    """Return the account that a variable of sbatch names; None for the user's default."""
    return os.environ.get("SBATCH_ACCOUNT") or os.environ.get("SLURM_ACCOUNT")


def usual_qos() -> str | None:
    """Return the QOS that a variable of sbatch names; None for the association's default."""
    return os.environ.get("SBATCH_QOS")


def allowance(
    associations: str,
    classes: str,
    account: str,
    qos: str | None,
    user: str | None = None,
    partition: str = "",
) -> Allowance:
    """Return the limits of a user from what sacctmgr lists.

    Args:
        associations: of the account and of those above it, from below.
        classes: every QOS.
        account: of the jobs.
        qos: of the jobs; None for the association's default.
        user: whose; None for this one.
        partition: of the jobs; "" for one that is not known.
    """
    user = user or slurm_nodes.user()
    rows = list(_rows(associations, _ASSOCIATION))
    mine = [row for row in rows if row["Account"] == account and row["User"] == user]
    own = [row for row in mine if row["Partition"] == partition]
    own = own or [row for row in mine if not row["Partition"]]
    chain = [*own[:1], *(row for row in rows if not row["User"])]
    if qos is None:
        qos = next((row["DefaultQOS"] for row in chain if row["DefaultQOS"]), _DEFAULT_QOS)
    of_qos = next((row for row in _rows(classes, _QOS) if row["Name"] == qos), {})
    per_job = _nearest(
        [_amounts(of_qos.get("MaxTRES", "")), *(_amounts(a["MaxTRES"]) for a in chain)]
    )
    of_groups = _lowest(_amounts(row["GrpTRES"]) for row in chain)
    of_groups |= _amounts(of_qos.get("GrpTRES", ""))
    walls = (minutes_of(row["MaxWall"]) for row in ({"MaxWall": "", **of_qos}, *chain))
    jobs_of_user = _first(of_qos.get("MaxJobsPU", ""), *(row["MaxJobs"] for row in chain))
    jobs_of_groups = _least([of_qos.get("GrpJobs", "")])
    if jobs_of_groups is None:
        jobs_of_groups = _least(row["GrpJobs"] for row in chain)
    return Allowance(
        of=f"account {account}, QOS {qos}",
        per_job=per_job,
        at_once=_lowest([of_groups, _amounts(of_qos.get("MaxTRESPU", ""))]),
        jobs=min((n for n in (jobs_of_user, jobs_of_groups) if n is not None), default=None),
        minutes=next((row for row in walls if row is not None), None),
    )


def _needs(share: Share) -> dict[str, float]:
    """Return what a job of a share takes, by SLURM's names."""
    needs = {"cpu": share.cpus, "mem": share.memory_mib, "node": 1, "gres/gpu": share.n_gpus}
    return {**needs, **({f"gres/gpu:{share.gpu}": share.n_gpus} if share.gpu else {})}


def _listed(*what: str) -> tuple[str, str]:
    """Return what sacctmgr lists, or why it does not."""
    answer = slurm_nodes.run("sacctmgr", "-n", "-P", "-r", "show", *what)
    return (
        ("", last_line(answer.stderr or answer.stdout))
        if answer.returncode
        else (answer.stdout, "")
    )


def _rows(listing: str, columns: str) -> list[dict[str, str]]:
    names = columns.split(",")
    lines = (line.strip().split("|") for line in listing.splitlines() if "|" in line)
    return [dict(zip_longest(names, cells[: len(names)], fillvalue="")) for cells in lines]


def _amounts(text: str) -> dict[str, float]:
    """Read "cpu=64,mem=100G,gres/gpu:h100=4"."""
    amounts = {}
    for pair in filter(None, text.split(",")):
        name, _, value = pair.partition("=")
        amount = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)", value)
        if amount is not None:
            amounts[name] = float(amount[1]) * _SUFFIXES.get(amount[2], 1.0)
    return amounts


def _lowest(limits: Iterable[Amounts]) -> dict[str, float]:
    lowest: dict[str, float] = {}
    for limit in limits:
        for name, value in limit.items():
            lowest[name] = min(value, lowest.get(name, value))
    return lowest


def _nearest(limits: Sequence[Amounts]) -> dict[str, float]:
    """Return the first limit of each resource."""
    return {name: value for limit in reversed(limits) for name, value in limit.items()}


def _first(*values: str) -> int | None:
    return next((int(text) for text in values if text.isdecimal()), None)


def _least(values: Iterable[str]) -> int | None:
    numbers: Sequence[int] = [int(text) for text in values if text.isdecimal()]
    return min(numbers, default=None)


_TYPE = re.compile(r"^PreemptType\s*=\s*\S*partition_prio\s*$", re.MULTILINE)
_FIELD = re.compile(r"(\S+?)=(\S*)")


def preempted_by(partitions: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return each partition to those whose jobs its own may preempt, and their PreemptMode.

    Args:
        partitions: those that are asked about; where SLURM tells nothing, none preempts.
    """
    if len(partitions) < 2:
        return {}
    config = slurm_nodes.run("scontrol", "show", "config")
    if config.returncode or not _TYPE.search(config.stdout):
        return {}
    answer = slurm_nodes.run("scontrol", "show", "partition", "-o")
    return {} if answer.returncode else _by_tier(answer.stdout, partitions)


def _by_tier(listing: str, partitions: Sequence[str]) -> dict[str, dict[str, str]]:
    tiers, modes = {}, {}
    for line in listing.splitlines():
        fields = dict(_FIELD.findall(line))
        name, tier = fields.get("PartitionName", ""), fields.get("PriorityTier", "")
        if name in partitions and tier.isdecimal():
            tiers[name] = int(tier)
            modes[name] = fields.get("PreemptMode", "OFF").upper()
    above = {
        name: {
            rival: modes[rival]
            for rival in partitions
            if rival in tiers and tiers[rival] < tier and modes[rival] != "OFF"
        }
        for name, tier in tiers.items()
    }
    return {name: rivals for name, rivals in above.items() if rivals}


class SlurmNodes(Cluster):
    """The cluster that this machine submits to."""

    cloud = CLOUD
    name = "SLURM"
    types = "SLURM's GRES"
    nothing = "It has no node that is up: see sinfo -R."
    source = "sinfo"

    def shares(self) -> list[Share]:
        """Ask sinfo for the nodes."""
        return shares_of_cluster()

    def waits(self, shares: list[Share]) -> tuple[dict[tuple[str, str], float], str]:
        """Return the hours that SLURM expects, or that jobs of the last days have waited."""
        return expected_waits(shares)

    def within(self, shares: list[Share]) -> tuple[list[Share], list[str]]:
        """Return the shares that the limits of account and QOS leave, and what they leave out."""
        allowances, reason = allowances_of_user({share.partition for share in shares})
        if reason:
            return shares, [
                f"SLURM: the limits of your account and QOS cannot be read ({reason}); those of "
                "the partitions are kept alone. See sacctmgr show assoc."
            ]
        if not allowances:
            return shares, []
        allowed, limits, n_left_out = list[Share](), dict[str, None](), 0
        for share in shares:
            allowance = allowances[share.partition]
            some, left_out = within([share], allowance)
            allowed += some
            n_left_out += len(left_out)
            limits |= dict.fromkeys(str(allowance) for _ in left_out)
        if not n_left_out:
            return allowed, []
        return allowed, [
            f"SLURM: {counted(n_left_out, 'kind')} of servers are left out, which the limits of "
            f"{'; '.join(limits)} do not give. Set SBATCH_ACCOUNT or SBATCH_QOS for others of "
            "yours."
        ]

    def preempts(self, partitions: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return each partition to those whose jobs its own may preempt, and what becomes of those.

        Args:
            partitions: that are planned with.
        """
        return preempted_by(partitions)
