"""Where a job of SLURM leaves what it prints, below the folder of its run."""

from __future__ import annotations

import re
from pathlib import Path

from stratos.core.errors import StratosError
from stratos.executors import handed
from stratos.executors.job import JobSpec

_UNUSABLE = re.compile(r"[\n\r\\]|%[jtAa]")
"""Ends a line of the batch script, or ends or begins what SLURM and submitit replace in a path."""


def folder_of(spec: JobSpec) -> Path:
    """Return the folder of batch scripts and logs.

    Raises:
        StratosError: no batch script can name it.
    """
    folder = handed.folder_of(spec.folder) / "slurm"
    if (found := _UNUSABLE.search(str(folder))) is not None:
        raise StratosError(
            f"{spec.stage}: the folder of the run has {found[0]!r} in its path "
            f"({str(spec.folder)!r}), which a batch script of SLURM cannot name. Type "
            "hydra.run.dir=<folder without it>, or executor=here."
        )
    return folder


def log_of(spec: JobSpec, id: str) -> Path:
    """Return the file that a job prints to."""
    return folder_of(spec) / f"{id}_0_log.out"


def pattern(spec: JobSpec, task: str) -> str:
    """Return the same as SLURM is told it, which replaces what stands behind a % in a path.

    Args:
        spec: of the job.
        task: number of a process of the job, or what SLURM puts in its place.
    """
    folder = str(folder_of(spec)).replace("%", "%%")
    return f"{folder}/%j_{task}_log.out"
