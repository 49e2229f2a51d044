"""A job of Ray: what it asks of a node, its files in the run folder, the script that Ray runs."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stratos.contrib.ray.nodes import GPU_TYPE
from stratos.core.atomic_files import write_atomically
from stratos.executors import handed, started
from stratos.executors.job import Job, JobSpec

NO_FOLDER, NO_PYTHON = 78, 79
"""How the script ends where the node cannot run the command."""
_MIB, _MIB_A_GIB = 2**20, 1024
_MARK = "mark"


@dataclass(frozen=True)
class Ask:
    """What a job asks of a node."""

    cpus: float
    gpus: float
    memory_mib: float
    more: Mapping[str, float] = field(default_factory=dict)
    """Other resources, by their names."""
    is_any_cpu: bool = False
    """Whether nobody chose the number of CPUs: it may use what the node has."""

    @property
    def memory_bytes(self) -> int:
        """As Ray counts it."""
        return round(self.memory_mib * _MIB)

    @property
    def resources(self) -> dict[str, float]:
        """All of it by Ray's names."""
        own = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_bytes}
        return {**{name: amount for name, amount in own.items() if amount}, **self.more}

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        if self.gpus:
            parts.append(f"{self.gpus:g} GPU")
        if self.memory_mib:
            parts.append(f"{self.memory_mib / _MIB_A_GIB:.3g} GiB of memory")
        for name, amount in self.more.items():
            parts.append(name if name.startswith(GPU_TYPE) else f"{amount:g} {name}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Attempt:
    """One of the jobs that were submitted for a stage, one after another."""

    folder: Path
    """In which its files lie."""
    id: str
    """As Ray knows it."""

    @property
    def log(self) -> Path:
        """What it prints; it is there from when the job is submitted."""
        return self.folder / f"{self.id}.log"

    @property
    def wanted(self) -> Path:
        """A file that is there for as long as the job is to run."""
        return self.folder / f"{self.id}.wanted"

    @property
    def _began(self) -> Path:
        return self.folder / f"{self.id}.began"

    @property
    def is_wanted(self) -> bool:
        """Return whether the job is to run."""
        return self.wanted.exists()

    @property
    def began_at(self) -> float | None:
        """When its node was handed to it, in seconds since the epoch; None if it was not."""
        try:
            return float(self._began.read_text())
        except (OSError, ValueError):
            return None

    def want(self) -> None:
        """Write down that the job is to run."""
        self.log.touch()
        self.wanted.touch()

    def revoke(self) -> None:
        """Take back that it is: where it waits, it ends when it starts."""
        self.wanted.unlink(missing_ok=True)

    def script(self, command: tuple[str, ...], ask: Ask) -> str:
        """Return what Ray runs: the command, where the node can, and it still is to."""
        log, wanted, began = (shlex.quote(str(one)) for one in (self.log, self.wanted, self._began))
        # Ray sets it to the CPUs that were asked for, which were nobody's choice.
        threads = ["unset OMP_NUM_THREADS"] if ask.is_any_cpu else []
        return "\n".join((
            f"test -e {log} || exit {NO_FOLDER}",
            f"test -e {wanted} || exit 0",
            f"command -v {shlex.quote(command[0])} >/dev/null || exit {NO_PYTHON}",
            f"date +%s >{began}",
            f"echo Its output is in {log}",
            *threads,
            f"exec {shlex.join(command)} >>{log} 2>&1",
        ))  # fmt: skip


def attempts(spec: JobSpec) -> list[Attempt]:
    """Return the jobs that were submitted for a stage, the first one first."""
    folder = _folder(spec)
    try:
        prefix = _prefix(spec)
    except FileNotFoundError:
        n, prefix = 0, ""
    else:
        n = sum(1 for _ in folder.glob(f"{prefix}*.log"))
    # The folder of the run may be gone, and then one job is known.
    known = started.id_of(spec.name)
    ids = [f"{prefix}{i}" for i in range(1, n + 1)] or ([known] if known else [])
    return [Attempt(folder, id) for id in ids]


def attempt(job: Job) -> Attempt:
    """Return a job."""
    return Attempt(_folder(job.spec), job.id)


def next_attempt(spec: JobSpec) -> Attempt:
    """Return the job that is submitted next.

    A cluster has many users and Ray knows none of them: two that have a run folder of one path, on
    disks of their own, are told apart by what is drawn here.
    """
    folder = _folder(spec)
    if not (folder / _MARK).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _MARK, secrets.token_hex(3).encode())
    prefix = _prefix(spec)
    n = sum(1 for _ in folder.glob(f"{prefix}*.log"))
    return Attempt(folder, f"{prefix}{n + 1}")


def _prefix(spec: JobSpec) -> str:
    """Return how the ids of a stage's jobs begin."""
    return f"{spec.name}-{(_folder(spec) / _MARK).read_text()}-"


def _folder(spec: JobSpec) -> Path:
    return handed.folder_of(spec.folder) / "ray"
