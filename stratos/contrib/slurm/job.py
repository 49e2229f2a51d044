"""What submitit runs on the node: the stage as a process, ended and started as SLURM wants it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stratos.contrib.slurm import nodes as slurm_nodes
from stratos.distill import meeting

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
