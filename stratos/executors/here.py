"""This machine: stages run in this process, or each in one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import ClassVar

from stratos.core.errors import StratosError
from stratos.core.process import Process
from stratos.executors import submission
from stratos.executors.job import Executor, Job, JobSpec, State, Status, folder_of

_SAVES_S = 60.0
"""How long a stage may take to save what it has done when it is told to end."""
_LOOK_S = 0.1
_MEMORY = "Where the memory of this machine was at its end, close what else takes of it."

_started: dict[str, subprocess.Popen[bytes]] = {}
"""Job to its process, of those that this process started."""


@dataclass(frozen=True)
class Here(Executor):
    """Run stages in this process; those of `stages` each in a process of its own.

    Such a process gives its memory back when it ends, outlives the command that is killed, and is
    found again by the next one.
    """

    kind: ClassVar[str] = "here"
    runs_here: ClassVar[bool] = True

    def unusable(self) -> None:
        """Return None: a process can always be started."""
        return None

    def submit(self, spec: JobSpec) -> Job:
        """Start the process of a job, or return the one of its name that still runs."""
        if (running := self._running(spec)) is not None:
            return _job(spec, running, is_new=False)
        log = folder_of(spec.folder) / f"{spec.stage}.log"
        ours = {name: os.environ[name] for name in os.environ if name not in spec.withheld}
        with log.open("ab") as file:
            process = subprocess.Popen(
                spec.command,
                env={**ours, **spec.env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches it through `cancel`
            )
        _started[spec.name] = process
        return _job(spec, Process.of(process.pid), is_new=True)

    def status(self, job: Job) -> Status:
        """Return how a job stands."""
        ours = _started.get(job.spec.name)
        if ours is None:
            if self._running(job.spec) is None:
                return Status(State.LOST, f"{job.label} is gone")
            return Status(State.RUNNING, job.label)
        code = ours.poll()
        if code is None:
            return Status(State.RUNNING, job.label)
        if code == 0:
            return Status(State.DONE, "it ended")
        if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            return Status(State.CANCELLED, "it was told to end")
        if code < 0:
            return Status(State.LOST, f"it was killed by signal {-code}", cure=_MEMORY)
        return Status(State.FAILED, f"it ended with exit code {code}")

    def cancel(self, spec: JobSpec) -> None:
        """Tell the process of a job to save and end; end it for good if it does not."""
        running = self._running(spec)
        if running is None:
            return
        pid = running.pid
        for number, seconds in ((signal.SIGTERM, _SAVES_S), (signal.SIGKILL, _SAVES_S)):
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                return
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if self._running(spec) is None:
                    return
                time.sleep(_LOOK_S)
        raise StratosError(f"{spec.stage}: process {pid} does not end. Type kill -9 {pid}.")

    def release(self, job: Job) -> None:
        """Forget a process that has ended."""
        _started.pop(job.spec.name, None)

    def _running(self, spec: JobSpec) -> Process | None:
        """Return the process of a job, if it runs."""
        ours = _started.get(spec.name)
        if ours is not None:
            return Process.of(ours.pid) if ours.poll() is None else None
        if not (id := submission.known_id(self, spec)):
            return None
        pid, boot, since = id.split()
        process = Process(Process.this().host, int(pid), boot, since)
        return None if process.is_dead() else process


def _job(spec: JobSpec, process: Process, is_new: bool) -> Job:
    log = folder_of(spec.folder) / f"{spec.stage}.log"
    id = f"{process.pid} {process.boot} {process.started}"
    return Job(spec, id, f"process {process.pid}", log, is_new)
