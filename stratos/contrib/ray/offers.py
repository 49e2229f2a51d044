"""The nodes of a Ray cluster as offers, so that `cloud=ray` is planned like any cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratos.catalog.cluster import Manager, Nodes, cluster_nodes
from stratos.contrib.ray.nodes import CLOUD, expected_waits, shares_of_cluster

if TYPE_CHECKING:
    from stratos.config import CloudConfig


def ray_nodes(cloud: CloudConfig) -> Nodes:
    """Return the offers of the cluster of `cloud.ray_address`, their waits, and warnings.

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
        waits=lambda shares: expected_waits(cloud.ray_address, shares),
    )
    return cluster_nodes(ray, cloud)
