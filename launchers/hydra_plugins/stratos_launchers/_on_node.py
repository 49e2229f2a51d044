"""The process of a job of a sweep on a node: `python -m … <its folder> <token> <digest>`."""

from __future__ import annotations

import hashlib
import pickle
import sys
from multiprocessing import spawn
from pathlib import Path


def main(folder: Path, token: str, digest: str) -> None:
    """Run the job that a file says, and write down how it ended.

    The file is loaded only if it is the one that the sweep wrote, byte for byte.
    """
    data = (folder / "job.pickle").read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f"{folder / 'job.pickle'} is not what the sweep wrote: it is not loaded.")
    how, job = pickle.loads(data)
    spawn.prepare(how)  # the module search path, the current folder and the main module
    from hydra.core.utils import JobStatus
    from hydra_plugins.stratos_launchers._outcome import Outcome, write_outcome

    from stratos.core.process import Terminated, end_as_by_ctrl_c, end_at_limit
    from stratos.core.redact import redact_text

    end_as_by_ctrl_c()
    end_at_limit()
    try:
        outcome = pickle.loads(job).outcome()
    except Terminated as told:  # what was under way is settled
        sys.exit(told.exit_code)
    is_done = outcome.status == JobStatus.COMPLETED
    value = outcome._return_value
    found = Outcome(token, is_done, value) if is_done else Outcome(
        token, is_done, message=redact_text(str(value))
    )  # fmt: skip
    write_outcome(folder / "outcome.json", found)
    sys.exit(not is_done)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
