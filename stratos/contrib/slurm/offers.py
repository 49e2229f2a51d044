"""The nodes of a SLURM cluster as offers, so that `cloud=slurm` is planned like any cloud."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stratos.catalog.cluster import Cluster
from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.limits import allowances_of_user, within
from stratos.contrib.slurm.nodes import CLOUD, shares_of_cluster
from stratos.contrib.slurm.queue import expected_waits
from stratos.core.counted import counted
from stratos.core.shares import Share

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
    asked = slurm_nodes.run("scontrol", "show", "partition", "-o")
    return {} if asked.returncode else _by_tier(asked.stdout, partitions)


def _by_tier(told: str, partitions: Sequence[str]) -> dict[str, dict[str, str]]:
    tiers, modes = {}, {}
    for line in told.splitlines():
        fields = dict(_FIELD.findall(line))
        name, tier = fields.get("PartitionName", ""), fields.get("PriorityTier", "")
        if name in partitions and tier.isdecimal():
            tiers[name] = int(tier)
            modes[name] = fields.get("PreemptMode", "OFF").upper()
    found = {
        name: {
            other: modes[other]
            for other in partitions
            if other in tiers and tiers[other] < tier and modes[other] != "OFF"
        }
        for name, tier in tiers.items()
    }
    return {name: others for name, others in found.items() if others}


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
