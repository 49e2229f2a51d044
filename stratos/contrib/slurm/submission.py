"""Hands a job to SLURM through submitit, so that no job is there that nobody knows of.

submitit puts what a job is to run where the job looks for it after SLURM has answered. A command
may be killed before that, and the answer may be lost. So it lies ready before SLURM is asked, and
the job takes it from there; and what looks like a refusal is one only if SLURM has no such job.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.contrib.slurm import queue as slurm_queue
from stratos.contrib.slurm.nodes import last_line, overrides
from stratos.contrib.slurm.queue import silent
from stratos.core.process import without
from stratos.distill import meeting
from stratos.executors.job import JobSpec, UnknownSubmissionError

_GRACE_S = 120.0
"""Longest grace of a job that is preempted; one that is still here then was not."""
_LOOK_S = 1.0
_TOLD = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a stage that was told to end: it has saved what it has done."""


class Work:
    """A command that is resumable: started again, it goes on."""

    def __init__(
        self, command: tuple[str, ...], env: dict[str, str], folder: Path | None = None
    ) -> None:
        """Run `command` with `env` beside the job's own environment.

        Args:
            command: of the stage.
            env: of the stage.
            folder: in which the nodes of a job meet; None for a job of one node.
        """
        self.command = command
        self.env = env
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run until it is done; end as it ends. The stage runs on the first node of a job."""
        if self._meeting is not None and (node := int(os.environ["SLURM_NODEID"])):
            self._help(self._meeting, node)
            return
        while True:
            code = self._run()
            if code not in _TOLD:
                break
            # SLURM requeues a preempted job that it had to end, and not one that left of itself.
            self._wait_for_the_end()
        if self._meeting is not None:
            meeting.end(self._meeting)
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> Any:
        """Save, because SLURM is about to end the job; submitit has it requeued then."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.returncode is None:
            # This is a signal's handler, and what it interrupts holds the lock of `Popen.wait`.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process.pid, signal.SIGTERM)
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Work(self.command, self.env, self.folder))

    @property
    def _meeting(self) -> Path | None:
        """File by which the nodes of this start of the job meet."""
        if self.folder is None:
            return None
        start = os.environ.get("SLURM_RESTART_COUNT", "0")
        return self.folder / f"{os.environ['SLURM_JOB_ID']}.{start}.meeting"

    def _run(self) -> int:
        env = {**os.environ, **self.env}
        if self._meeting is not None:
            env[meeting.VARIABLE] = str(self._meeting)
        self._process = subprocess.Popen(self.command, env=env, preexec_fn=_heed_submitit)
        return self._process.wait()

    def _help(self, file: Path, node: int) -> None:
        """Train with the first node, which says how the job ends: do not leave before it."""
        command = (self.command[0], "-m", "stratos.distill.meeting", str(file), str(node))
        if subprocess.run(command, check=False, preexec_fn=_heed_submitit).returncode == 0:
            return
        while not (meeting.has_ended(file) or _is_ending()):
            time.sleep(_LOOK_S)

    def _wait_for_the_end(self) -> None:
        """Wait for SLURM to end this job, which has told the stage to end."""
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until:
            if _is_ending():
                sys.exit(128 + signal.SIGTERM)
            time.sleep(_LOOK_S)


def _is_ending() -> bool:
    """Return whether SLURM is about to end this job."""
    ours = ("squeue", "-h", "-j", os.environ["SLURM_JOB_ID"], "-o", "%T")
    state = slurm_nodes.run(*ours).stdout.strip()
    return state not in ("RUNNING", "")


def _heed_submitit() -> None:
    """Leave the signal that goes before a time limit to submitit, which asks for `checkpoint`."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


_UNHEARD = re.compile(r"timed out|timeout|unable to contact|zero bytes|communication|connect", re.I)
"""An error of `sbatch` after which the job may be in the queue, or get there yet."""
_APPEARS_S = 15.0
"""How long such a job is looked for."""


class RefusedError(Exception):
    """SLURM did not take a job, and has none of it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.is_heard = _UNHEARD.search(why) is None
        """Whether SLURM has judged it; else it could not be reached."""


def submit(spec: JobSpec, folder: Path, parameters: dict[str, Any], max_timeouts: int) -> str:
    """Submit a job and return its id.

    Args:
        spec: of the job.
        folder: of batch scripts and logs.
        parameters: what submitit is told of the job.
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
    ready = _ready(work, folder, parameters["time"], max_timeouts)
    executor = submitit.SlurmExecutor(
        folder, max_num_timeout=max_timeouts, python=shlex.quote(spec.command[0])
    )
    executor.update_parameters(**parameters, setup=[_take(ready)])
    try:
        # sbatch hands on all that it has.
        with without((*spec.withheld, *overrides())):
            id = str(executor.submit(work).job_id)
    except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError, OSError) as error:
        refused = RefusedError(last_line(str(error)))
        if (job := _looked_for(spec, before, refused)) is None:
            ready.unlink(missing_ok=True)
            raise refused from error
        return job
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
    path = f'{folder}/"${{SLURM_JOB_ID}}"_submitted.pkl'
    return f"[ -e {path} ] || mv {shlex.quote(str(ready))} {path} 2>/dev/null"


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
