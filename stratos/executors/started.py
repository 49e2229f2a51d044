"""The jobs that this user started from this machine, whatever became of their run folders.

A run folder says which job has a stage (`handed`). A folder may be deleted while its job runs and
costs money, so each job is also written down outside of it, from before it is submitted until it is
known to be gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import sweep, write_atomically
from stratos.core.errors import StratosError
from stratos.core.process import Process
from stratos.executors import handed
from stratos.executors.job import Executor, Job, JobSpec

STATE = "XDG_STATE_HOME"
"""Variable with the folder of what programs keep between their runs."""


class Started(msgspec.Struct, frozen=True):
    """A job that was submitted, or was about to be."""

    name: str
    stage: str
    folder: str
    """Of the run."""
    role: str
    nodes: int
    offer: str
    """Name of the server that the plan chose; "" where there is none."""
    usd_per_hour: float
    target: str
    """Class of the executor."""
    settings: dict[str, Any]
    """Of the executor."""
    at: float
    """When it was submitted, in seconds since the epoch."""
    host: str
    """Machine of the command that submitted it."""
    command: Process
    """The command that submitted it."""
    id: str = ""
    """As the engine knows it; "" for one that was about to be submitted."""
    place: str = ""
    """For messages, such as "SLURM job 12"."""
    where: str = ""
    """Cluster that has it; "" where that has no name."""

    @property
    def executor(self) -> Executor:
        """The executor that has it.

        Raises:
            StratosError: its class is not there any more, or takes other settings now.
        """
        module, _, name = self.target.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
            made: Executor = msgspec.convert(self.settings, cls)
        except (ImportError, AttributeError, msgspec.ValidationError) as error:
            raise StratosError(f"{self.name}: {self.target} cannot be loaded: {error}") from error
        return made

    @property
    def spec(self) -> JobSpec:
        """What was submitted, as far as it takes to find and to end it."""
        return JobSpec(
            name=self.name,
            stage=self.stage,
            folder=Path(self.folder),
            role=self.role,
            nodes=self.nodes,
            usd_per_hour=self.usd_per_hour,
        )

    @property
    def job(self) -> Job:
        """The job, as one that an earlier command submitted."""
        log = handed.folder_of(Path(self.folder))
        return Job(self.spec, self.id, self.place or self.name, log, is_new=False)


def folder() -> Path:
    """Return where they are written down: below XDG_STATE_HOME, or ~/.local/state."""
    state = os.environ.get(STATE) or "~/.local/state"
    return Path(state).expanduser() / "stratos" / "jobs"


def keep(
    executor: Executor, spec: JobSpec, id: str = "", place: str = "", where: str | None = None
) -> None:
    """Write a job down; one that is not submitted yet does not hide what still has its name.

    Args:
        executor: that the job is one of.
        spec: of the job.
        id: the engine's own; "" before it is submitted.
        place: the job in words; "" before it is submitted.
        where: the cluster that has it; None has the engine asked.

    Raises:
        OSError: it cannot be.
    """
    cls, before = type(executor), find(spec.name)
    kept_id, at = id, time.time()
    if before is not None:
        kept_id = id or before.id
        # Of the same job, or of the one that was about to be submitted.
        if kept_id and before.id in (kept_id, ""):
            at = before.at
    one = Started(
        name=spec.name,
        stage=spec.stage,
        folder=str(spec.folder),
        role=spec.role,
        nodes=spec.nodes,
        offer="" if spec.offer is None else spec.offer.name,
        usd_per_hour=spec.usd_per_hour,
        target=f"{cls.__module__}.{cls.__qualname__}",
        settings=dataclasses.asdict(executor),
        id=kept_id,
        place=place,
        at=at,
        host=socket.gethostname(),
        command=Process.this(),
        where=executor.where() if where is None else where,
    )
    path = _path(spec.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # settings may hold the login of a URL
    sweep(path.parent)
    write_atomically(path, msgspec.json.encode(one))


def forget(name: str) -> None:
    """Take notice that a job is gone."""
    with contextlib.suppress(OSError):
        _path(name).unlink(missing_ok=True)


def jobs() -> Iterator[Started]:
    """Yield all that is written down, by name."""
    for path in sorted(folder().glob("*.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            yield msgspec.json.decode(path.read_bytes(), type=Started)


def find(name: str) -> Started | None:
    """Return a job that is written down; None where it is not."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(_path(name).read_bytes(), type=Started)
    return None


def id_of(name: str) -> str:
    """Return what the engine knows a job by; "" where it is not known."""
    one = find(name)
    return "" if one is None else one.id


def _path(name: str) -> Path:
    # Names are taken from folders, which may be longer than a file's name.
    return folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
