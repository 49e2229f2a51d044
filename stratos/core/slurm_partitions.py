"""The partitions of a SLURM cluster, and how long a job may run there."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from stratos.core.slurm_nodes import minutes_of, run


class Limit(NamedTuple):
    """Of a partition."""

    minutes: int | None
    """Longest that a job may run there; None for no limit."""
    is_default: bool


def partitions() -> subprocess.CompletedProcess[str]:
    """Ask sinfo for the partitions and their limits."""
    return run("sinfo", "-h", "-o", "%P %l")


def limits(told: str) -> dict[str, Limit]:
    """Read the partitions, each once for each state of its nodes, from what sinfo says."""
    found = {}
    for line in told.splitlines():
        name, _, limit = line.rpartition(" ")
        found[name.removesuffix("*")] = Limit(minutes_of(limit), name.endswith("*"))
    return found


def longest(told: str, partition: str | None) -> int | None:
    """Return how many minutes a job may run in partitions; None for any number.

    Args:
        told: by sinfo, of all of them.
        partition: one, or several; None for the default one.
    """
    found = limits(told)
    names = [one for one in found if found[one].is_default]
    if partition is not None:
        names = partition.split(",")
    minutes = [found[one].minutes for one in names if one in found]
    return None if None in minutes else max((one for one in minutes if one), default=None)
