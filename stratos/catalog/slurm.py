"""The nodes of a SLURM cluster as offers, so that `cloud=slurm` is planned like any cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratos.catalog.cluster import Manager, cluster_table
from stratos.catalog.table import Table
from stratos.core.slurm_nodes import CLOUD, shares_of_cluster

if TYPE_CHECKING:
    from stratos.config import CloudConfig

_SLURM = Manager(
    cloud=CLOUD,
    name="SLURM",
    shares=lambda: shares_of_cluster(),
    types="SLURM's GRES",
    nothing="It has no node that is up: see sinfo -R.",
    source="sinfo",
)


def slurm_table(cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers of the cluster that this machine submits to, and warnings.

    Raises:
        CatalogError: SLURM does not answer, or no node of it can be planned with.
    """
    return cluster_table(_SLURM, cloud)
