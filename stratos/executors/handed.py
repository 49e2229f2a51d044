"""What lies in a run folder of stages that were handed over: which job, made of what, its lock."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically

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
