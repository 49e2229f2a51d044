"""The nodes of a SLURM cluster, equal ones counted together, and the shares that jobs take of them.

`sinfo -e` merges nodes that are equal in all that is asked for, so that a cluster of thousands is a
few lines; and its output is the same in all versions, which that of `--json` is not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from stratos.core.errors import StratosError

FORMAT = "%R|%a|%T|%h|%D|%c|%m|%G|%f"
"""Partition, availability, state, sharing, how many, and CPUs, MiB, GRES and features of one."""
CLOUD = "slurm"
"""Cloud of the offers that are nodes of SLURM."""
ANSWERS_S = 30.0
"""How long a command of SLURM may take."""
_MIB_A_GIB = 1024
_USABLE = frozenset(("idle", "mixed", "allocated", "completing", "planned", "reserved"))
"""States of nodes that run jobs, now or later."""
_MARKS = "~#%@^-+"
"""Behind a state: the node is asleep and woken up for a job, or reboots; not `*`, which is that it
does not answer."""
_GPUS = re.compile(r"gpu(?::(?P<type>[^:(]+))??(?::(?P<n>\d+))?(?:\(.*\))?")


@dataclass(frozen=True)
class Share:
    """What one job takes of a node, and how many such jobs the cluster runs at once."""

    partition: str
    cpus: int
    memory_mib: int
    gpu: str
    """Type of its GPUs as SLURM names it; "" for GPUs without one, and where there are none."""
    n_gpus: int
    features: tuple[str, ...]
    count: int

    @property
    def name(self) -> str:
        """What it is called as an instance type: different shares of a partition differ in it."""
        gpus = f"{self.n_gpus}x{self.gpu or 'gpu'}-" if self.n_gpus else ""
        gib, rest = divmod(self.memory_mib, _MIB_A_GIB)
        memory = f"{self.memory_mib}mib" if rest else f"{gib}gib"
        return "+".join([f"{gpus}{self.cpus}cpu-{memory}", *self.features])

    @property
    def gres(self) -> str | None:
        """As a job asks for its GPUs."""
        if not self.n_gpus:
            return None
        return ":".join(["gpu", *([self.gpu] if self.gpu else []), str(self.n_gpus)])

    @property
    def constraint(self) -> str | None:
        """As a job asks for nodes of these features."""
        return "&".join(self.features) or None


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM; Ctrl-C does not reach it."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWERS_S, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def last_line(text: str) -> str:
    """Return the last line of what SLURM said, without the name of the command."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]).rstrip(".") if lines else "it says nothing"


def shares_of_cluster(is_any: bool = False) -> list[Share]:
    """Ask SLURM what jobs may take of its nodes.

    Args:
        is_any: those of nodes that run no jobs now, too.

    Raises:
        StratosError: it does not answer.
    """
    asked = run("sinfo", "-h", "-e", "-o", FORMAT)
    if asked.returncode:
        raise StratosError(
            f"SLURM does not answer ({last_line(asked.stderr or asked.stdout)}). Give the command "
            "on a login node of the cluster, and try sinfo there."
        )
    return shares(asked.stdout, is_any)


def shares(told: str, is_any: bool = False) -> list[Share]:
    """Return the shares of the nodes that `sinfo` tells, by partition and name.

    A job takes 1, 2, 4 … GPUs of a node and as much of its CPUs and memory, or 1, 2, 4 … CPUs of a
    node without GPUs, or all of it. Where a partition gives a node to one job alone, it takes all.
    """
    found: dict[tuple[str, str], Share] = {}
    for line in told.splitlines():
        partition, available, state, *node = line.split("|", 8)
        if not is_any and (available != "up" or state.rstrip(_MARKS) not in _USABLE):
            continue
        for one in _shares_of(partition, *node):
            key = (one.partition, one.name)
            count = one.count + (found[key].count if key in found else 0)
            found[key] = Share(**{**vars(one), "count": count})
    return [found[key] for key in sorted(found)]


def _shares_of(
    partition: str, sharing: str, nodes: str, cpus: str, memory: str, gres: str, features: str
) -> Iterator[Share]:
    n_cpus, mib = int(cpus), int(memory)
    named = () if features in ("", "(null)") else tuple(sorted(features.split(",")))
    cards = list(_cards(gres))
    # A node of several types of GPUs gives a job those of one.
    for gpu, whole in cards or [("", n_cpus)]:
        for part in [whole] if sharing == "EXCLUSIVE" else _parts(whole):
            yield Share(
                partition=partition,
                cpus=max(1, n_cpus * part // whole),
                memory_mib=mib * part // whole,
                gpu=gpu,
                n_gpus=part if cards else 0,
                features=named,
                count=int(nodes) * (whole // part),
            )


def _cards(gres: str) -> Iterator[tuple[str, int]]:
    """Yield type and number of GPUs: "gpu:h100:8(S:0-1),nvme:1" has eight h100."""
    for one in re.split(r",(?![^(]*\))", gres):
        found = _GPUS.fullmatch(one)
        if found is not None and int(found["n"] or 1) > 0:
            yield found["type"] or "", int(found["n"] or 1)


def _parts(whole: int) -> list[int]:
    return sorted({*(1 << i for i in range(whole.bit_length()) if 1 << i <= whole), whole})
