"""Whether some node of SLURM has what the settings of a job ask for, before anything is paid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.nodes import last_line, shares_of_cluster
from stratos.contrib.slurm.words import NoNodeTakes
from stratos.core.errors import StratosError

_MIB_A_GIB = 1024
_GPUS = re.compile(r"gpu(?::(?P<type>[^:]*[^:\d][^:]*))?(?::(?P<n>\d+))?")


@dataclass(frozen=True)
class Wanted:
    """What a job asks of a node; None asks for nothing."""

    gpus: int | None
    gres: str | None
    """In SLURM's words, in place of `gpus`."""
    cpus: int | None
    memory_gib: float | None

    def options(self) -> dict[str, tuple[str | float, str]]:
        """Return each setting that asks for something: its value, and the option of sbatch."""
        options = (
            ("gpus", None if self.gres else self.gpus, f"--gpus-per-node={self.gpus}"),
            ("gres", self.gres, f"--gres={self.gres}"),
            ("cpus", self.cpus, f"--cpus-per-task={self.cpus}"),
            ("memory_gib", self.memory_gib, f"--mem={(self.memory_gib or 0) * _MIB_A_GIB:.0f}M"),
        )
        return {key: (value, option) for key, value, option in options if value}


def no_node_takes(wanted: Wanted, places: Mapping[str, str | None]) -> NoNodeTakes | None:
    """Return why no node can take a job of the settings; None where one can, or may later.

    `sbatch --test-only` judges by the nodes that are up. A node that is drained has to be waited
    for, so that one that has enough, up or not, is no reason to refuse.

    Args:
        wanted: what the job asks of a node.
        places: options of sbatch that tell where it may run, such as "partition".
    """
    options = wanted.options()
    if not options:
        return None
    where = [f"--{key}={value}" for key, value in places.items() if value]
    refusal = _refusal(*where, *(option for _, option in options.values()))
    if refusal is None or _refusal(*where) is not None:
        return None
    if _has_enough(wanted, places.get("partition")):
        return None
    return NoNodeTakes({key: value for key, (value, _) in options.items()}, refusal)


def _refusal(*options: str) -> str | None:
    """Return why SLURM refuses a job; None where it takes it."""
    answer = slurm_nodes.run("sbatch", "--test-only", *options, "--wrap=true")
    return last_line(answer.stderr + answer.stdout) if answer.returncode else None


def _has_enough(wanted: Wanted, partition: str | None) -> bool:
    """Return whether some node has as much, be it up or not."""
    match = _GPUS.fullmatch(wanted.gres or "")
    if wanted.gres and match is None:
        return False
    card = "" if match is None else match["type"] or ""
    gpus = (wanted.gpus or 0) if match is None else int(match["n"] or 1)
    partitions = partition.split(",") if partition else None
    try:
        shares = shares_of_cluster(is_any=True)
    except StratosError:
        return True  # nobody knows
    return any(
        (partitions is None or share.partition in partitions)
        and share.n_gpus >= gpus
        and (not card or share.gpu == card)
        and share.cpus >= (wanted.cpus or 0)
        and share.memory_mib >= (wanted.memory_gib or 0.0) * _MIB_A_GIB
        for share in shares
    )
