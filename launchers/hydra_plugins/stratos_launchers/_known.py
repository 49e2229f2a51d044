"""What is kept of the jobs of a sweep below its folder, from before each is submitted."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_privately
from stratos.core.errors import StratosError
from stratos.executors import submission
from stratos.executors.job import Executor, JobSpec

FOLDER = ".jobs"
"""Of the sweep: what its jobs are."""
OUTCOME = "outcome.json"
PICKLE = "job.pickle"
_KNOWN = "known.json"


class Known(msgspec.Struct, frozen=True):
    """A job that was submitted, or was about to be."""

    token: str
    """Stands in its name, and in what it says of its end."""
    mark: str
    """Digest of what it is made from."""
    run: str
    """Folder of its run."""


@dataclass(frozen=True)
class Left:
    """A job of an earlier command, which may wait or run."""

    folder: Path
    """Of its own files."""
    executor: Executor
    """That has it."""
    spec: JobSpec
    token: str = ""


def find(folder: Path) -> Known | None:
    """Return what is kept of a job; None where nothing is."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / _KNOWN).read_bytes(), type=Known)
    return None


def keep(folder: Path, known: Known) -> None:
    """Write down a job."""
    write_privately(folder / _KNOWN, msgspec.json.encode(known))


def clear(folder: Path) -> None:
    """Delete what a job was told: it may hold secrets."""
    for name in (PICKLE, _KNOWN, OUTCOME):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def left(folder: Path, known: Known, executor: Executor) -> Left:
    """Return a job of an earlier command.

    Args:
        folder: of its own files.
        known: what is kept of it.
        executor: that has it, where it is not written down which one does.
    """
    name = f"{folder.name}-{known.token}"
    if (one := submission.find_listed(name)) is not None:
        with suppress(StratosError):
            executor = one.executor
        return Left(folder, executor, one.job().spec, known.token)
    spec = JobSpec(
        name=name, stage=name, folder=Path(known.run), role="sweep", nodes=1, offer=None,
        hours=None, planned_hours=0.0, usd_per_hour=0.0, command=(), env={},
    )  # fmt: skip
    return Left(folder, executor, spec, known.token)


def others(sweep: Path, names: Container[str], executor: Executor) -> Iterator[Left]:
    """Yield the jobs of earlier commands in a sweep's folder that are not among these names."""
    for folder in sorted((sweep / FOLDER).iterdir()):
        if folder.is_dir() and folder.name not in names:
            if (known := find(folder)) is not None:
                yield left(folder, known, executor)
            else:
                clear(folder)
