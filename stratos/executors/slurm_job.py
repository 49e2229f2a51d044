"""What submitit runs on the node: the stage as a process, ended and started as SLURM wants it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

_GRACE_S = 120.0
"""Longest grace of a job that is preempted; one that is still here then was not."""
_LOOK_S = 1.0
_TOLD = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a stage that was told to end: it has saved what it has done."""


class Work:
    """A command that is resumable: started again, it goes on."""

    def __init__(self, command: tuple[str, ...], env: dict[str, str]) -> None:
        """Run `command` with `env` beside the job's own environment."""
        self.command = command
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run until it is done; end as it ends."""
        while True:
            code = self._run()
            if code not in _TOLD:
                break
            # SLURM requeues a preempted job that it had to end, and not one that left of itself.
            self._wait_for_the_end()
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> Any:
        """Save, because SLURM is about to end the job; submitit has it requeued then."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        return DelayedSubmission(Work(self.command, self.env))

    def _run(self) -> int:
        self._process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.env},
            preexec_fn=_heed_submitit,
        )
        return self._process.wait()

    def _wait_for_the_end(self) -> None:
        """Wait for SLURM to end this job, which has told the stage to end."""
        until = time.monotonic() + _GRACE_S
        ours = ("squeue", "-h", "-j", os.environ["SLURM_JOB_ID"], "-o", "%T")
        while time.monotonic() < until:
            state = subprocess.run(ours, capture_output=True, text=True, check=False).stdout.strip()
            if state not in ("RUNNING", ""):
                sys.exit(128 + signal.SIGTERM)
            time.sleep(_LOOK_S)


def _heed_submitit() -> None:
    """Leave the signal that goes before a time limit to submitit, which asks for `checkpoint`."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
