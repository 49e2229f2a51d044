"""Submitted jobs: which job has a stage of a run, and the list of all jobs of this user.

A run folder says which job has a stage. A folder may be deleted while its job runs and costs money,
so each job is also listed outside of it, from before it is submitted until it is known to be gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import sweep, write_atomically
from stratos.core.errors import StratosError
from stratos.core.process import Process
from stratos.executors.job import Executor, Job, JobSpec, folder_of
from stratos.records import from_json

STATE = "XDG_STATE_HOME"
"""Variable with the folder of what programs keep between their runs."""


class Submission(msgspec.Struct, frozen=True):
    """A job that was submitted, or is about to be."""

    kind: str
    """Choice of the executor, such as "slurm"."""
    name: str
    stage: str
    folder: str
    """Of the run."""
    role: str
    nodes: int
    usd_per_hour: float
    offer: str = ""
    """Name of the server that the plan chose; "" where there is none."""
    id: str = ""
    """As the engine knows it; "" before it is submitted."""
    label: str = ""
    """For messages, such as "SLURM job 12"; "" before it is submitted."""
    cluster: str = ""
    """That has it, by its executor; "" where it has no name."""
    mark: str = ""
    """Fingerprint of all that the stage's record is made from."""
    inputs: Mapping[str, str] = {}
    """The same by name, each as a short digest."""
    servers: str = ""
    """What they are called in the ledger."""
    target: str = ""
    """Class of the executor."""
    settings: dict[str, Any] = {}
    """Of the executor; not in the run folder, since they may hold the login of a URL."""
    at: float = 0.0
    """When it was submitted, in seconds since the epoch."""
    host: str = ""
    """Machine of the command that submitted it."""
    command: Process | None = None
    """The command that submitted it."""

    @classmethod
    def of(cls, executor: Executor, spec: JobSpec, **more: Any) -> Submission:
        """Return a job of an executor that this command submits now.

        Args:
            executor: that the job is one of.
            spec: of the job.
            more: further fields.
        """
        kind = type(executor)
        return cls(
            kind=executor.kind,
            name=spec.name,
            stage=spec.stage,
            folder=str(spec.folder),
            role=spec.role,
            nodes=spec.nodes,
            usd_per_hour=spec.usd_per_hour,
            offer="" if spec.offer is None else spec.offer.name,
            target=f"{kind.__module__}.{kind.__qualname__}",
            settings=dataclasses.asdict(executor),
            at=time.time(),
            host=socket.gethostname(),
            command=Process.this(),
            **more,
        )

    @property
    def executor(self) -> Executor:
        """The executor that has it.

        Raises:
            StratosError: its class is not there any more, or takes other settings now.
        """
        module, _, name = self.target.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
            executor: Executor = msgspec.convert(self.settings, cls)
        except (ImportError, AttributeError, msgspec.ValidationError) as error:
            raise StratosError(f"{self.name}: {self.target} cannot be loaded: {error}") from error
        return executor

    def job(self, run: Path | None = None) -> Job:
        """Return the job as one that an earlier command submitted.

        Its spec is what it takes to find and to end it.

        Args:
            run: folder of the run where that lies now; None for where it was.
        """
        run = Path(self.folder) if run is None else run
        spec = JobSpec(self.name, self.stage, run, self.role, self.nodes, self.usd_per_hour)
        return Job(spec, self.id, self.label or self.name, folder_of(run), is_new=False)

    def refusal(self, run: Path) -> str:
        """Say why its stage is not run in another way than it was submitted."""
        return (
            f"{self.stage} was handed to {self.label} by executor={self.kind}, and is not known to "
            f"be back. Give the same command with executor={self.kind} "
            f"executor.stages=[{self.stage}]: it follows that job. Or end the job (stratos servers "
            f"shows the line that does), and delete {path_of(run, self.stage)}."
        )


# --- in the run folder ----------------------------------------------------------------------------


def path_of(run: Path, stage: str) -> Path:
    """Return the file that says which job has a stage."""
    return folder_of(run) / f"{stage}.json"


def has_any(run: Path) -> bool:
    """Return whether a job has a stage of a run."""
    return any(folder_of(run).glob("*.json"))


def find(run: Path, stage: str) -> Submission | None:
    """Return the job that has a stage; None where none does."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return from_json(path_of(run, stage).read_bytes(), Submission)
    return None


def write(run: Path, submission: Submission) -> None:
    """Say in the run folder which job has a stage."""
    content = msgspec.json.encode(msgspec.structs.replace(submission, settings={}))
    write_atomically(path_of(run, submission.stage), content)


def forget(run: Path, stage: str) -> None:
    """Take notice that no job has a stage any more."""
    path_of(run, stage).unlink(missing_ok=True)


def _read(path: Path) -> Submission | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return from_json(path.read_bytes(), Submission)
    return None


# --- the list of this user ------------------------------------------------------------------------


def list_folder() -> Path:
    """Return where jobs are listed: below XDG_STATE_HOME, or ~/.local/state."""
    return Path(os.environ.get(STATE) or "~/.local/state").expanduser() / "stratos" / "jobs"


def listed() -> Iterator[Submission]:
    """Yield all jobs that are listed, by name."""
    yield from filter(None, map(_read, sorted(list_folder().glob("*.json"))))


def find_listed(name: str) -> Submission | None:
    """Return a job that is listed; None where it is not."""
    return _read(_list_path(name))


def id_of(name: str) -> str:
    """Return what the engine knows a job by; "" where it is not listed."""
    submission = find_listed(name)
    return "" if submission is None else submission.id


def known_id(executor: Executor, spec: JobSpec) -> str:
    """Return what the engine knows the job of a stage by; "" where it has none.

    The run folder says it, or, where that is gone, the user's list.
    """
    known = find(spec.folder, spec.stage)
    own = known.id if known is not None and known.kind == executor.kind else ""
    return own or id_of(spec.name)


def add_to_list(submission: Submission) -> None:
    """List a job; one that is not submitted yet does not hide what still has its name.

    Raises:
        OSError: it cannot be.
    """
    before = find_listed(submission.name)
    if before is not None:
        id = submission.id or before.id
        # Of the same job, or of the one that was about to be submitted.
        at = before.at if id and before.id in (id, "") else submission.at
        submission = msgspec.structs.replace(submission, id=id, at=at)
    path = _list_path(submission.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # settings may hold the login of a URL
    sweep(path.parent)
    write_atomically(path, msgspec.json.encode(submission))


def take_off_list(name: str) -> None:
    """Take notice that a job is gone."""
    with contextlib.suppress(OSError):
        _list_path(name).unlink(missing_ok=True)


def _list_path(name: str) -> Path:
    # Names are taken from folders, which may be longer than a file's name.
    return list_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
