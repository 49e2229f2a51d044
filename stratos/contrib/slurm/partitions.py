"""The partitions of a SLURM cluster, and how long a job may run there."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

from stratos.contrib.slurm.nodes import minutes_of, run, unreadable

_FORMAT = "%P %l %L"
_TIME = r"[\d:-]+|infinite|n/a"
_LINE = re.compile(rf"(?P<name>\S+?)(?P<default>\*?) (?P<longest>{_TIME}) (?P<usual>{_TIME})")


class Limit(NamedTuple):
    """Of a partition."""

    minutes: int | None
    """Longest that a job may run there; None for no limit."""
    is_default: bool
    usual_minutes: int | None = None
    """How long one may run that asks for no time; None where the partition does not say."""


def partitions() -> subprocess.CompletedProcess[str]:
    """Ask sinfo for the partitions and their limits."""
    return run("sinfo", "-h", "-o", _FORMAT)


def limits(told: str) -> dict[str, Limit]:
    """Read the partitions, each once for each state of its nodes, from what sinfo says.

    Raises:
        StratosError: no line of it is one of a partition.
    """
    lines = (_LINE.fullmatch(line.strip()) for line in told.splitlines())
    found = {
        one["name"]: Limit(
            minutes_of(one["longest"]), bool(one["default"]), minutes_of(one["usual"])
        )
        for one in lines
        if one is not None  # a banner of the site
    }
    if told.strip() and not found:
        raise unreadable(f"sinfo -h -o '{_FORMAT}'", told)
    return found


def longest(told: str, partition: str | None) -> int | None:
    """Return how many minutes a job may run in partitions; None for any number.

    Args:
        told: by sinfo, of all of them.
        partition: one, or several; None for the default one.
    """
    minutes = [one.minutes for one in _named(told, partition)]
    return None if None in minutes else max((one for one in minutes if one), default=None)


def usual(told: str, partition: str | None) -> int | None:
    """Return how many minutes a job runs in partitions that asks for none; None without end.

    Args:
        told: by sinfo, of all of them.
        partition: one, or several, of which the shortest counts; None for the default one.
    """
    found = [
        one.usual_minutes if one.usual_minutes is not None else one.minutes
        for one in _named(told, partition)
    ]
    return min((one for one in found if one is not None), default=None)


def _named(told: str, partition: str | None) -> list[Limit]:
    found = limits(told)
    names = [one for one in found if found[one].is_default]
    if partition is not None:
        names = partition.split(",")
    return [found[one] for one in names if one in found]
