"""`python -m stratos.deploy.supervisor STATE`: keep a server running until it is told to stop.

A server that ends by itself is started again, ever later while it keeps ending at once, or before
it has answered; after `MOST_FAILURES` such starts it is given up, and the state says so. One that
hangs, and answers no look at its health for `SILENT_S`, is ended and started again, too.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from stratos.core.locks import locked
from stratos.core.process import Process
from stratos.deploy.hosted_server import Hosted, supervised
from stratos.deploy.server import answers, start_process, stop_process

MOST_FAILURES = 5
LIVED_S = 60.0
"""Seconds after its first answer from which on a server that ends is not one that cannot start."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
LOOK_S, SILENT_S = 10.0, 120.0
"""Seconds between looks at a server's health, and without an answer to any until it counts as one
that hangs: busy machines are slow."""


def supervise(state: Path) -> int:
    """Run the server that a state describes; return 0 when it was stopped, 1 when given up.

    Args:
        state: file of a `Hosted`, which is kept up to date and removed at the stop.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    hosted = Hosted.read(state)
    if hosted is None:
        return 1
    try:
        with locked(supervised(state)):
            return _keep_running(state, replace(hosted, supervisor=Process.this()), stop)
    except BlockingIOError:
        print("Another process keeps it running.", file=sys.stderr)
        return 1


def _keep_running(state: Path, hosted: Hosted, stop: threading.Event) -> int:
    hosted.write(state)
    failures, wait_s = 0, FIRST_WAIT_S
    while not stop.is_set():
        with Path(hosted.log).open("ab") as log:
            process = start_process(
                hosted.module, hosted.arguments, log, hosted.environment, hosted.python
            )
        hosted = replace(hosted, server_pid=process.pid)
        hosted.write(state)
        health = _Health(hosted.port)
        try:
            while process.poll() is None and not stop.wait(0.2):
                if Hosted.read(state) is None:  # somebody wrote to it, or cleaned up
                    hosted.write(state)
                if health.hangs():
                    with Path(hosted.log).open("a") as log:
                        log.write(f"No answer for {SILENT_S:g} seconds: it is started again.\n")
                    break
        finally:
            stop_process(process)
        if stop.is_set():
            break
        if health.answered_for_s() >= LIVED_S:
            failures, wait_s = 0, FIRST_WAIT_S
        failures += 1
        hosted = replace(hosted, n_restarts=hosted.n_restarts + 1, exit_code=process.returncode)
        if failures >= MOST_FAILURES:
            replace(hosted, is_given_up=True).write(state)
            return 1
        hosted.write(state)
        stop.wait(wait_s)
        wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
    state.unlink(missing_ok=True)
    return 0


class _Health:
    """What looks at a server's health tell."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._looked = time.monotonic()
        self._first_heard: float | None = None
        self._heard: float | None = None
        """When it answered last; a server that has never answered is one that starts."""

    def hangs(self) -> bool:
        """Look if it is time to; return whether the server has been silent for too long."""
        if time.monotonic() < self._looked + LOOK_S:
            return False
        if answers(self._port, timeout_s=LOOK_S):
            self._heard = time.monotonic()
            self._first_heard = self._first_heard or self._heard
        self._looked = time.monotonic()
        return self._heard is not None and self._looked > self._heard + SILENT_S

    def answered_for_s(self) -> float:
        """Return the seconds since its first answer; 0 where it has given none."""
        return 0.0 if self._first_heard is None else time.monotonic() - self._first_heard


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
