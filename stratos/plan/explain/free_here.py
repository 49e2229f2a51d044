"""Servers that a plan counts at $0 an hour, and the key that gives them a price."""

from __future__ import annotations

from collections.abc import Iterable

from stratos.catalog.table import LOCAL
from stratos.core.counted import listed
from stratos.records import RoleChoice


def free_servers(roles: Iterable[RoleChoice]) -> str:
    """Say which servers of one's own count as $0 an hour and what to type; "" where none does.

    Args:
        roles: of the plan.
    """
    clouds = dict.fromkeys(
        role.offer.cloud
        for role in roles
        if role.offer is not None and not role.offer.is_rented and not role.offer.usd_per_hour
    )
    if not clouds:
        return ""
    names = ["this machine" if one == LOCAL else f"a node of {one}" for one in clouds]
    keys = ["cloud.usd_per_cpu_hour=<dollars per core>"]
    if {*clouds} - {LOCAL}:
        keys.append("cloud.usd_per_gpu_hour=<dollars per GPU>")
    said = f"{listed(names)} {'counts' if len(names) == 1 else 'count'} as $0 an hour"
    return f"{said[0].upper()}{said[1:]}. To give it a price: {' '.join(keys)}."
