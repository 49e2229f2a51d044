"""What a job takes of a cluster where the plan chose among the nodes of that cluster."""

from __future__ import annotations

from collections.abc import Callable

from stratos.core.errors import StratosError
from stratos.core.shares import Share
from stratos.executors.job import JobSpec


def chosen_share(
    spec: JobSpec, cloud: str, shares: Callable[[], list[Share]], manager: str
) -> Share | None:
    """Return what the plan chose of a cluster; None where it chose another cloud's server.

    Args:
        spec: of the job.
        cloud: of the offers that are nodes of the cluster.
        shares: asks the cluster, nodes that run no jobs now included.
        manager: of the cluster, for messages.

    Raises:
        StratosError: there is no such node any more.
    """
    offer = spec.offer
    if offer is None or offer.cloud != cloud:
        return None
    for one in shares():
        if (one.partition, one.name) == (offer.region, offer.instance_type):
            return one
    raise StratosError(
        f"{spec.stage}: {manager} has no node any more that is {offer.name}, which the plan chose. "
        "Delete plan.json in the folder of the run, and give the same command again with plan "
        "among its stages."
    )
