"""The nodes of a Ray cluster as offers, so that `cloud=ray` is planned like any cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratos.catalog.cluster import Manager, cluster_table
from stratos.catalog.table import Table
from stratos.core.ray_nodes import CLOUD, shares_of_cluster

if TYPE_CHECKING:
    from stratos.config import CloudConfig


def ray_table(cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers of the cluster whose dashboard is at `cloud.ray_address`, and warnings.

    Raises:
        CatalogError: it does not answer, or no node of it can be planned with.
    """
    ray = Manager(
        cloud=CLOUD,
        name="Ray",
        shares=lambda: shares_of_cluster(cloud.ray_address),
        types="Ray's accelerator_type",
        nothing="It has no node with a CPU: see ray status.",
        source="ray",
    )
    return cluster_table(ray, cloud)
