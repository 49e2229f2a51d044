"""What a node without a common file system is sent: this version of Stratos, and the run folder."""

from __future__ import annotations

import tarfile
from pathlib import Path

from stratos.contrib.skypilot.task import CACHE, PINS, RUN, WHEEL
from stratos.core.atomic_files import remove
from stratos.core.wheel import pins, write_wheel
from stratos.executors import handed
from stratos.executors.job import JobSpec

_LEFT_OUT = frozenset((handed.FOLDER, "wandb", "ledger.jsonl", ".lock", "answers"))
"""Of a run folder: money, tracking and answers that were paid stay with the command."""


def pack(spec: JobSpec, into: Path) -> None:
    """Write all that the node of a job needs into a folder.

    Args:
        spec: the job.
        into: is replaced.
    """
    run = spec.folder
    remove(into)
    (into / WHEEL).mkdir(parents=True)
    write_wheel(into / WHEEL)
    (into / CACHE).mkdir()
    for name, data in spec.cache.items():
        (into / CACHE / name).write_bytes(data)
    (into / PINS).write_text("".join(f"{one}\n" for one in pins()))
    with tarfile.open(into / RUN, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(run.iterdir()):
            # What begins with a dot is being written, but for the config that Hydra keeps.
            if path.name not in _LEFT_OUT and (path.name == ".hydra" or path.name[0] != "."):
                tar.add(path, path.name)
        known = handed.path_of(run, spec.stage)
        tar.add(known, str(known.relative_to(run)))  # the job reads there what it was handed
