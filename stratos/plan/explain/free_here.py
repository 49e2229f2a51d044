"""Servers that a plan counts at $0 an hour, and the key that gives them a price."""

from __future__ import annotations

from collections.abc import Iterable

from stratos.plan.words import FreeServers
from stratos.records import RoleChoice


def free_servers(roles: Iterable[RoleChoice]) -> FreeServers | None:
    """Return which servers of one's own count as $0 an hour; None where none does.

    Args:
        roles: of the plan.
    """
    clouds = dict.fromkeys(
        role.offer.cloud
        for role in roles
        if role.offer is not None and not role.offer.is_rented and not role.offer.usd_per_hour
    )
    return FreeServers(tuple(clouds)) if clouds else None
