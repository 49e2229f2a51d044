"""The process of a job of a sweep on a node of a cluster: `python -m … <file>`."""

from __future__ import annotations

import pickle
import sys
from multiprocessing import spawn
from pathlib import Path


def main(file: Path) -> None:
    """Run the job that a file says, and write down how it ended."""
    how, job = pickle.loads(file.read_bytes())
    spawn.prepare(how)  # the module search path, the current folder and the main module
    from hydra.core.utils import JobStatus
    from hydra_plugins.stratos_launchers._cluster import outcome_file

    from stratos.core.atomic_files import write_atomically
    from stratos.core.os_signals import Terminated, end_as_by_ctrl_c

    end_as_by_ctrl_c()
    try:
        outcome = pickle.loads(job).outcome()
    except Terminated as told:  # what was under way is settled
        sys.exit(told.exit_code)
    write_atomically(outcome_file(file), pickle.dumps(outcome))
    sys.exit(outcome.status != JobStatus.COMPLETED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
