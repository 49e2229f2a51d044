"""Whether some node of SLURM has what the settings of a job ask for, before anything is paid."""

from __future__ import annotations

import re

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm.executor import Slurm
from stratos.contrib.slurm.nodes import last_line, shares_of_cluster
from stratos.core.errors import StratosError
from stratos.executors.job import Executor

_MIB_A_GIB = 1024
_GPUS = re.compile(r"gpu(?::(?P<type>[^:]*[^:\d][^:]*))?(?::(?P<n>\d+))?")


def no_node_takes(executor: Executor) -> str | None:
    """Return why no node can take a job of the settings; None where one can, or may later.

    `sbatch --test-only` judges by the nodes that are up. A node that is drained has to be waited
    for, so that one that has enough, up or not, is no reason to refuse.

    Args:
        executor: the settings; what is null asks for nothing, and others than SLURM's are not
            looked at.
    """
    if not isinstance(executor, Slurm):
        return None
    slurm, gib = executor, executor.memory_gib
    asks = (
        ("gpus", None if slurm.gres else slurm.gpus, f"--gpus-per-node={slurm.gpus}"),
        ("gres", slurm.gres, f"--gres={slurm.gres}"),
        ("cpus", slurm.cpus, f"--cpus-per-task={slurm.cpus}"),
        ("memory_gib", gib, f"--mem={(gib or 0.0) * _MIB_A_GIB:.0f}M"),
    )
    asked = [(f"executor.{key}", value, word) for key, value, word in asks if value]
    if not asked:
        return None
    places = (
        ("partition", slurm.partition),
        ("qos", slurm.qos),
        ("account", slurm.account),
        ("constraint", slurm.constraint),
    )
    where = [f"--{key}={value}" for key, value in places if value]
    said = _refusal(*where, *(word for _, _, word in asked))
    if said is None or _refusal(*where) is not None or _has_enough(slurm):
        return None
    typed = " ".join(f"{key}={value}" for key, value, _ in asked)
    keys = " or ".join(key for key, _, _ in asked)
    return (
        f"{typed}: no node of SLURM can take such a job ({said}). See sinfo -o '%P %D %c %m %G' "
        f"for what nodes have, and change {keys}, or executor.partition."
    )


def _refusal(*words: str) -> str | None:
    """Return why SLURM refuses a job; None where it takes it."""
    asked = slurm_nodes.run("sbatch", "--test-only", *words, "--wrap=true")
    return last_line(asked.stderr + asked.stdout) if asked.returncode else None


def _has_enough(slurm: Slurm) -> bool:
    """Return whether some node has as much, be it up or not."""
    found = _GPUS.fullmatch(slurm.gres or "")
    if slurm.gres and found is None:
        return False
    kind = "" if found is None else found["type"] or ""
    gpus = (slurm.gpus or 0) if found is None else int(found["n"] or 1)
    partitions = slurm.partition.split(",") if slurm.partition else None
    try:
        shares = shares_of_cluster(is_any=True)
    except StratosError:
        return True  # nobody knows
    return any(
        (partitions is None or one.partition in partitions)
        and one.n_gpus >= gpus
        and (not kind or one.gpu == kind)
        and one.cpus >= (slurm.cpus or 0)
        and one.memory_mib >= (slurm.memory_gib or 0.0) * _MIB_A_GIB
        for one in shares
    )
