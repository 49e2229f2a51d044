"""The waits that decided between partitions of a cluster, and whose jobs make room for the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stratos.core.counted import listed
from stratos.plan.problem import Choice, Problem
from stratos.records import Offer

_ROLES = {"teacher": "the teacher", "train": "the training"}


def queued(problem: Problem, chosen: Choice) -> Iterator[str]:
    """Yield a sentence for each partition that the plan waits for where others have such servers.

    Args:
        problem: what was chosen from.
        chosen: the plan.
    """
    roles: dict[Offer, list[str]] = {}
    for role in chosen.roles():
        if role.role in _ROLES and role.offer is not None and role.wait_hours is not None:
            roles.setdefault(role.offer, []).append(_ROLES[role.role])
    for offer, names in roles.items():
        waits = {
            region: hours
            for (cloud, region, kind), hours in problem.wait_hours.items()
            if (cloud, kind) == (offer.cloud, offer.instance_type)
        }
        others = problem.preempts.get((offer.cloud, offer.region), {})
        others = {name: mode for name, mode in others.items() if name in waits}
        is_decided = waits.get(offer.region, 0.0) < max(waits.values(), default=0.0)
        if is_decided or others:
            yield _said(offer, names, waits, others)


def _said(
    offer: Offer, names: list[str], waits: Mapping[str, float], others: Mapping[str, str]
) -> str:
    by_wait = sorted(waits.items(), key=lambda one: (one[1], one[0]))
    told = listed([f"{name} about {hours:.2g} h" for name, hours in by_wait])
    said = (
        f"A job of {offer.instance_type} waits by partition: {told}; {offer.region} was chosen for "
        f"{listed(names)}."
    )
    if not others:
        return said
    modes = listed([f"{name} (PreemptMode={mode})" for name, mode in sorted(others.items())])
    free = ",".join(sorted(name for name in waits if name != offer.region))
    return (
        f"{said} Jobs of {offer.region} may preempt those of {modes}: cloud.regions=[{free}] "
        f"leaves {offer.region} out."
    )
