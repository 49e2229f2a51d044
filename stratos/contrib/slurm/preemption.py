"""Which partitions of SLURM have jobs that preempt those of others, and what becomes of those.

With PreemptType=preempt/partition_prio a job preempts those of partitions with a lower
PriorityTier; what becomes of them is the PreemptMode of their partition.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stratos.contrib.slurm import nodes as slurm_nodes

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
