"""What lies in a run folder of stages that were handed over: which job, its lock, what it says."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.redact import redact

FOLDER = "jobs"


class Handed(msgspec.Struct, frozen=True):
    """A stage that was handed over and has not come back."""

    executor: str
    """Choice of the group, such as "slurm"."""
    id: str
    place: str
    """For messages, such as "SLURM job 12"."""
    mark: str
    """Fingerprint of all that the stage's record is made from."""
    inputs: dict[str, str]
    """The same by name, each as a short digest."""
    name: str
    """Of the job."""
    servers: str = ""
    """What they are called in the ledger."""
    where: str = ""
    """Cluster that has it, by its executor; "" where that has no name."""


def folder_of(run: Path) -> Path:
    """Return where a run keeps what its jobs leave."""
    return run / FOLDER


def events_path(run: Path, stage: str) -> Path:
    """Return the file in which a job says how far it is."""
    return folder_of(run) / f"{stage}.events.jsonl"


def lock_path(run: Path, stage: str) -> Path:
    """Return the file that whoever runs a stage as a job holds."""
    return folder_of(run) / f"{stage}.lock"


def config_path(run: Path, stage: str) -> Path:
    """Return the folder with the config that a stage was handed over with, as Hydra keeps it."""
    return folder_of(run) / f"{stage}.hydra"


def find(run: Path, stage: str) -> Handed | None:
    """Return which job a stage was handed to; None if it was to none, or is back."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return msgspec.json.decode(path_of(run, stage).read_bytes(), type=Handed)
    return None


def keep(run: Path, stage: str, handed: Handed) -> None:
    """Write down which job a stage was handed to."""
    write_atomically(path_of(run, stage), msgspec.json.encode(handed))


def forget(run: Path, stage: str) -> None:
    """Take notice that a stage is back."""
    path_of(run, stage).unlink(missing_ok=True)


def refusal(known: Handed, run: Path, stage: str) -> str:
    """Say why a stage is not run in another way than it was handed over."""
    return (
        f"{stage} was handed to {known.place} by executor={known.executor}, and is not known to be "
        f"back. Give the same command with executor={known.executor} executor.stages=[{stage}]: it "
        f"follows that job. Or end the job (stratos servers shows the line that does), "
        f"and delete {path_of(run, stage)}."
    )


def elsewhere(known: Handed, run: Path, stage: str, here: str) -> str:
    """Say why a job is not looked for on the cluster that answers here."""
    return (
        f"{stage} was handed to {known.place} of {known.where}, and {here} answers here. Give the "
        "same command where that cluster answers: it follows that job. Or end the job there, and "
        f"delete {path_of(run, stage)}."
    )


def is_any(run: Path) -> bool:
    """Return whether a stage of a run is still with a job."""
    return any(folder_of(run).glob("*.json"))


def path_of(run: Path, stage: str) -> Path:
    """Return the file that says which job a stage was handed to."""
    return folder_of(run) / f"{stage}.json"


TICK, WARN, NOTE, LOG, ERROR, BEGAN = "tick", "warn", "note", "log", "error", "began"
"""Kinds: how far it is, what to read, what comes next, metrics, what it died of, a start of it."""
_TICK_S = 0.5
"""Seconds between two lines of how far it is."""


class Teller:
    """Called with a kind and its values: adds them to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ticked_at = 0.0

    def __call__(self, kind: str, *values: Any) -> None:
        """Say something; how far the job is at most twice a second."""
        if kind == TICK:
            if time.monotonic() < self._ticked_at + _TICK_S:
                return
            self._ticked_at = time.monotonic()
        line = json.dumps({kind: redact(list(values))}, default=str)
        # Opened each time: others see it then on a network disk. What is said is worth less than
        # the work.
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(f"{line}\n")


def heard(folder: Path, stage: str, start: int) -> tuple[list[tuple[str, list[Any]]], int]:
    """Return what a stage's job has said from a byte on, and the byte behind it.

    Args:
        folder: of the run.
        stage: the stage.
        start: bytes that were read before.
    """
    try:
        with events_path(folder, stage).open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole, end, _ = data.rpartition(b"\n")
    found = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, AttributeError):  # cut short when its node died
            [(kind, values)] = json.loads(line).items()
            found.append((kind, values))
    return found, start + len(whole) + len(end)
