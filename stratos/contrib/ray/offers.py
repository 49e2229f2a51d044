"""The nodes of a Ray cluster as offers, so that `cloud=ray` is planned like any cloud."""

from __future__ import annotations

from stratos.catalog.cluster import Cluster
from stratos.contrib.ray.nodes import CLOUD, expected_waits, shares_of_cluster
from stratos.core.shares import Share


class RayNodes(Cluster):
    """The cluster of `cloud.ray_address`."""

    cloud = CLOUD
    name = "Ray"
    types = "Ray's accelerator_type"
    nothing = "It has no node with a CPU: see ray status."
    source = "ray"

    def shares(self) -> list[Share]:
        """Ask the dashboard for the nodes."""
        return shares_of_cluster(self.config.ray_address)

    def waits(self, shares: list[Share]) -> tuple[dict[tuple[str, str], float], str]:
        """Return 0 hours for each share that is free, and why the others are not known."""
        return expected_waits(self.config.ray_address, shares)
