"""Hands a job to SLURM through submitit, so that no job is there that nobody knows of.

submitit puts what a job is to run where the job looks for it after SLURM has answered. A command
may be killed before that, and the answer may be lost. So it lies ready before SLURM is asked, and
the job takes it from there; and what looks like a refusal is one only if SLURM has no such job.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from stratos.contrib.slurm import queue as slurm_queue
from stratos.contrib.slurm.job import Work
from stratos.contrib.slurm.nodes import last_line, overrides
from stratos.contrib.slurm.queue import silent
from stratos.core.environment import without
from stratos.executors.job import JobSpec, UnknownSubmissionError

_UNHEARD = re.compile(r"timed out|timeout|unable to contact|zero bytes|communication|connect", re.I)
"""An error of `sbatch` after which the job may be in the queue, or get there yet."""
_APPEARS_S = 15.0
"""How long such a job is looked for."""
_LOOK_S = 1.0


class RefusedError(Exception):
    """SLURM did not take a job, and has none of it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.is_heard = _UNHEARD.search(why) is None
        """Whether SLURM has judged it; else it could not be reached."""


def submit(spec: JobSpec, folder: Path, asked: dict[str, Any], max_timeouts: int) -> str:
    """Submit a job and return its id.

    Args:
        spec: of the job.
        folder: of batch scripts and logs.
        asked: what submitit is told of the job.
        max_timeouts: how often it goes back into the queue when it reaches its time limit.

    Raises:
        RefusedError: nothing is submitted.
        UnknownSubmissionError: the job may have been submitted, and SLURM does not say.
        StratosError: SLURM does not say which jobs there are; nothing is submitted.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if (before := slurm_queue.ids(spec.name)) is None:
        raise silent(spec.name)
    work = Work(spec.command, spec.env, folder if spec.nodes > 1 else None)
    ready = _ready(work, folder, asked["time"], max_timeouts)
    executor = submitit.SlurmExecutor(
        folder, max_num_timeout=max_timeouts, python=shlex.quote(spec.command[0])
    )
    executor.update_parameters(**asked, setup=[_take(ready)])
    try:
        # sbatch hands on all that it has.
        with without((*spec.withheld, *overrides())):
            id = str(executor.submit(work).job_id)
    except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError, OSError) as error:
        refused = RefusedError(last_line(str(error)))
        if (found := _looked_for(spec, before, refused)) is None:
            ready.unlink(missing_ok=True)
            raise refused from error
        return found
    ready.unlink(missing_ok=True)  # submitit has put its own in place
    return id


def _ready(work: Work, folder: Path, minutes: int, max_timeouts: int) -> Path:
    """Write down what a job is to run, in the way of submitit; return the file."""
    from submitit.helpers import DelayedSubmission

    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / f"{uuid.uuid4().hex}_ready.pkl"
    delayed = DelayedSubmission(work)
    delayed.set_timeout(minutes, max_timeouts)
    delayed.dump(ready)
    return ready


def _take(ready: Path) -> str:
    """Return the line of a batch script that takes what lies ready, where nothing is in place.

    A job that was queued again has what it wrote down when it was ended; and the command may put
    the same in place meanwhile.
    """
    folder = shlex.quote(str(ready.parent))
    place = f'{folder}/"${{SLURM_JOB_ID}}"_submitted.pkl'
    return f"[ -e {place} ] || mv {shlex.quote(str(ready))} {place} 2>/dev/null"


def _looked_for(spec: JobSpec, before: frozenset[str], refused: RefusedError) -> str | None:
    """Return the id of a job that is there although `sbatch` failed; None where there is none.

    Raises:
        UnknownSubmissionError: SLURM does not say.
    """
    until = time.monotonic() + (0.0 if refused.is_heard else _APPEARS_S)
    while True:
        now = slurm_queue.ids(spec.name)
        if now is not None and (new := now - before):
            return max(new, key=int)
        if time.monotonic() >= until:
            break
        time.sleep(_LOOK_S)
    if now is not None:
        return None
    raise UnknownSubmissionError(
        f"{spec.stage}: sbatch failed ({refused}), and squeue does not answer, so that nobody can "
        f"tell whether the job {spec.name} was submitted: it may wait or run. Give the same "
        "command again when squeue answers: it follows the job if there is one. Or end it: "
        f"stratos servers down {spec.name}"
    )
