"""The nodes of a SLURM cluster as offers, so that `cloud=slurm` is planned like any cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratos.catalog.cluster import Manager, Nodes, cluster_nodes
from stratos.contrib.slurm.limits import allowances_of_user, within
from stratos.contrib.slurm.nodes import CLOUD, shares_of_cluster
from stratos.contrib.slurm.preemption import preempted_by
from stratos.contrib.slurm.waits import expected_waits
from stratos.core.counted import counted
from stratos.core.shares import Share

if TYPE_CHECKING:
    from stratos.config import CloudConfig


def _allowed(shares: list[Share]) -> tuple[list[Share], list[str]]:
    """Return the shares that the limits of account and QOS leave, and what they leave out."""
    allowances, why = allowances_of_user({one.partition for one in shares})
    if why:
        return shares, [
            f"SLURM: the limits of your account and QOS cannot be read ({why}); those of the "
            "partitions are kept alone. See sacctmgr show assoc."
        ]
    if not allowances:
        return shares, []
    kept, said, n_left_out = list[Share](), dict[str, None](), 0
    for one in shares:
        allowance = allowances[one.partition]
        some, left_out = within([one], allowance)
        kept += some
        n_left_out += len(left_out)
        said |= dict.fromkeys(str(allowance) for _ in left_out)
    if not n_left_out:
        return kept, []
    return kept, [
        f"SLURM: {counted(n_left_out, 'kind')} of servers are left out, which the limits of "
        f"{'; '.join(said)} do not give. Set SBATCH_ACCOUNT or SBATCH_QOS for others of yours."
    ]


_SLURM = Manager(
    cloud=CLOUD,
    name="SLURM",
    shares=lambda: shares_of_cluster(),
    types="SLURM's GRES",
    nothing="It has no node that is up: see sinfo -R.",
    source="sinfo",
    waits=expected_waits,
    within=_allowed,
    preempts=preempted_by,
)


def slurm_nodes(cloud: CloudConfig) -> Nodes:
    """Return the offers of the cluster that this machine submits to, their waits, and warnings.

    Raises:
        CatalogError: SLURM does not answer, or no node of it can be planned with.
    """
    return cluster_nodes(_SLURM, cloud)
