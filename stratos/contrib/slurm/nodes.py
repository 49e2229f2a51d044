"""The nodes of a SLURM cluster, equal ones counted together, and the shares that jobs take of them.

`sinfo -e` merges nodes that are equal in all that is asked for, so that a cluster of thousands is a
few lines; and its output is the same in all versions, which that of `--json` is not.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from stratos.core.errors import StratosError
from stratos.core.machine import Share, shares_of_node, together

FORMAT = "%R|%a|%T|%h|%D|%c|%m|%G|%f"
"""Partition, availability, state, sharing, how many, and CPUs, MiB, GRES and features of one."""
_N_CELLS = FORMAT.count("|") + 1
CLOUD = "slurm"
"""Cloud of the offers that are nodes of SLURM."""
ANSWERS_S = 30.0
"""How long a command of SLURM may take."""
_USABLE = frozenset(("idle", "mixed", "allocated", "completing", "planned", "reserved"))
"""States of nodes that run jobs, now or later."""
_MARKS = "~#%@^-+"
"""Behind a state: the node is asleep and woken up for a job, or reboots; not `*`, which is that it
does not answer."""
_OVERRIDES = re.compile(r"(SQUEUE|SINFO|SCANCEL|SBATCH|SACCT)_\w+|SLURM_TIME_FORMAT")
"""Variables that change what commands of SLURM ask, do or print behind the back of their caller."""
_GPUS = re.compile(r"gpu(?::(?P<type>[^:(]+))??(?::(?P<n>\d+))?(?:\(.*\))?")


def run(*command: str, timeout_s: float = ANSWERS_S) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM; Ctrl-C does not reach it, nor do the variables of `overrides`.

    It writes its times in UTC, which `time_of` reads: an hour that a clock has twice is none of it.
    """
    ignored = {*overrides()}
    env = {name: value for name, value in os.environ.items() if name not in ignored}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True, env=env | {"TZ": "UTC"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def cluster() -> str:
    """Return the name of the cluster that answers here and its controller; "" if none does."""
    config = run("scontrol", "show", "config").stdout
    matches = (re.search(rf"(?m)^{key}\s*=\s*(\S+)", config)
             for key in ("ClusterName", r"SlurmctldHost\[0\]"))  # fmt: skip
    return " at ".join(match[1] for match in matches if match is not None)


def overrides() -> tuple[str, ...]:
    """Return the variables of this environment that no command of SLURM is to see."""
    return tuple(name for name in os.environ if _OVERRIDES.fullmatch(name))


def user() -> str:
    """Return the user that SLURM knows this process by, whatever LOGNAME says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def unreadable(command: str, output: str) -> StratosError:
    """Return the error of an answer of SLURM of which no line can be read."""
    first = next((line for line in output.splitlines() if line.strip()), "")
    return StratosError(
        f"{command} says what cannot be read: {first[:200]!r}. Type {command} to see all of it."
    )


def last_line(text: str) -> str:
    """Return the last line of what SLURM said, without the name of the command."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]).rstrip(".") if lines else "it says nothing"


def time_of(text: str) -> float | None:
    """Return a time as SLURM writes it to `run`, in seconds since the epoch; None if not known."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:  # Unknown, N/A
        return None


def minutes_of(text: str) -> int | None:
    """Return the minutes of a time as SLURM writes it: [days-][[hours:]minutes:]seconds."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:  # infinite, n/a
        return None
    days, hours, minutes, _ = (int(number or 0) for number in match.groups())
    return (days * 24 + hours) * 60 + minutes


def shares_of_cluster(is_any: bool = False) -> list[Share]:
    """Ask SLURM what jobs may take of its nodes.

    Args:
        is_any: those of nodes that run no jobs now, too.

    Raises:
        StratosError: it does not answer.
    """
    answer = run("sinfo", "-h", "-e", "-o", FORMAT)
    if answer.returncode:
        raise StratosError(
            f"SLURM does not answer ({last_line(answer.stderr or answer.stdout)}). Give the "
            "command on a login node of the cluster, and try sinfo there."
        )
    return shares(answer.stdout, is_any)


def gres_of(share: Share) -> str | None:
    """Return how a job asks for the GPUs of a share; None where it has none."""
    if not share.n_gpus:
        return None
    return ":".join(["gpu", *([share.gpu] if share.gpu else []), str(share.n_gpus)])


def constraint_of(share: Share) -> str | None:
    """Return how a job asks for nodes of a share's features; None where it has none."""
    return "&".join(share.features) or None


def shares(listing: str, is_any: bool = False) -> list[Share]:
    """Return the shares of the nodes that `sinfo` tells, by partition and name.

    Where a partition gives a node to one job alone, a job takes all of it. Lines of something else
    are left out.

    Raises:
        StratosError: there are no other lines.
    """
    return together(_shares(listing, is_any))


def _shares(listing: str, is_any: bool) -> Iterator[Share]:
    n_read = 0
    for line in listing.splitlines():
        cells = line.split("|", _N_CELLS - 1)
        if len(cells) < _N_CELLS or not all(cell.isdecimal() for cell in cells[4:7]):
            continue  # a banner of the site
        n_read += 1
        partition, available, state, sharing, nodes, cpus, memory, gres, features = cells
        if not is_any and (available != "up" or state.rstrip(_MARKS) not in _USABLE):
            continue
        yield from shares_of_node(
            partition,
            int(cpus),
            int(memory),
            list(_cards(gres)),
            features=() if features in ("", "(null)") else tuple(sorted(features.split(","))),
            nodes=int(nodes),
            is_whole=sharing == "EXCLUSIVE",
        )
    if listing.strip() and not n_read:
        raise unreadable(f"sinfo -h -e -o '{FORMAT}'", listing)


def _cards(gres: str) -> Iterator[tuple[str, int]]:
    """Yield type and number of GPUs: "gpu:h100:8(S:0-1),nvme:1" has eight h100."""
    for entry in re.split(r",(?![^(]*\))", gres):
        match = _GPUS.fullmatch(entry)
        if match is not None and int(match["n"] or 1) > 0:
            yield match["type"] or "", int(match["n"] or 1)


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


def limits(listing: str) -> dict[str, Limit]:
    """Read the partitions, each once for each state of its nodes, from what sinfo says.

    Raises:
        StratosError: no line of it is one of a partition.
    """
    lines = (_LINE.fullmatch(line.strip()) for line in listing.splitlines())
    by_name = {
        line["name"]: Limit(
            minutes_of(line["longest"]), bool(line["default"]), minutes_of(line["usual"])
        )
        for line in lines
        if line is not None  # a banner of the site
    }
    if listing.strip() and not by_name:
        raise unreadable(f"sinfo -h -o '{_FORMAT}'", listing)
    return by_name


def longest(listing: str, partition: str | None) -> int | None:
    """Return how many minutes a job may run in partitions; None for any number.

    Args:
        listing: by sinfo, of all of them.
        partition: one, or several; None for the default one.
    """
    minutes = [limit.minutes for limit in _named(listing, partition)]
    return None if None in minutes else max((limit for limit in minutes if limit), default=None)


def usual(listing: str, partition: str | None) -> int | None:
    """Return how many minutes a job runs in partitions that asks for none; None without end.

    Args:
        listing: by sinfo, of all of them.
        partition: one, or several, of which the shortest counts; None for the default one.
    """
    usual_minutes = [
        limit.usual_minutes if limit.usual_minutes is not None else limit.minutes
        for limit in _named(listing, partition)
    ]
    return min((limit for limit in usual_minutes if limit is not None), default=None)


def _named(listing: str, partition: str | None) -> list[Limit]:
    by_name = limits(listing)
    names = [name for name in by_name if by_name[name].is_default]
    if partition is not None:
        names = partition.split(",")
    return [by_name[name] for name in names if name in by_name]
