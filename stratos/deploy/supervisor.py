"""`python -m stratos.deploy.supervisor STATE`: keep a server running until it is told to stop.

A server that ends by itself is started again, ever later while it keeps ending at once, or before
it has answered; after `MOST_FAILURES` such starts it is given up, and the state says so. One that
hangs, and answers no look at its health for `SILENT_S`, is ended and started again, too. A full
disk ends nothing: what cannot be written is written when there is room again.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from stratos.core.process import Process, locked
from stratos.deploy.hosted_server import Hosted, supervised
from stratos.deploy.server import answers, start_process, stop_process

MOST_FAILURES = 5
LIVED_S = 60.0
"""Seconds after its first answer from which on a server that ends is not one that cannot start."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
LOOK_S, SILENT_S = 10.0, 120.0
"""Seconds between looks at a server's health, and without an answer to any until it counts as one
that hangs: busy machines are slow."""

MOST_LOG_BYTES, KEPT_LOG_BYTES = 16 * 2**20, 2**20
"""Size from which a log is cut, and what is kept of its end."""
_AGAIN_S = 1.0
"""Seconds until what the disk did not take is written again."""


def supervise(state: Path) -> int:
    """Run the server that a state describes; return 0 when it was stopped, 1 when given up.

    Args:
        state: file of a `Hosted`, which is kept up to date and removed at the stop.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    hosted = Hosted.read(state)
    if hosted is None:  # gone where it was stopped before it began, else damaged
        return int(state.exists())
    try:
        with locked(supervised(state)):
            # A stop that came meanwhile has deleted it.
            if stop.is_set() or (hosted := Hosted.read(state)) is None:
                return 0
            return _keep_running(state, replace(hosted, supervisor=Process.this()), stop)
    except BlockingIOError:
        print("Another process keeps it running.", file=sys.stderr)
        return 1


def _keep_running(state: Path, hosted: Hosted, stop: threading.Event) -> int:
    notes = _Notes(state, hosted)
    notes.write(hosted)
    failures, wait_s = 0, FIRST_WAIT_S
    while not stop.is_set():
        with _log_of(hosted) as log:
            process = start_process(
                hosted.module, hosted.arguments, log, hosted.environment, hosted.python
            )
        hosted = replace(hosted, server_pid=process.pid)
        health = _Health(hosted.port)
        try:
            notes.write(hosted)
            while process.poll() is None and not stop.wait(0.2):
                notes.catch_up()
                notes.bound_log()
                if health.hangs():
                    notes.say(f"No answer for {SILENT_S:g} seconds: it is started again.")
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
            notes.write(replace(hosted, is_given_up=True))
            while not notes.catch_up() and not stop.wait(LOOK_S):
                pass
            return 1
        notes.write(hosted)
        stop.wait(wait_s)
        wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
    with suppress(OSError):
        state.unlink()
    return 0


def _log_of(hosted: Hosted) -> BinaryIO:
    """Open a server's log; where the disk does not let it be made, what is said is lost."""
    try:
        return Path(hosted.log).open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


class _Notes:
    """What is written down beside a server: it goes on where the disk is full, or is gone."""

    def __init__(self, state: Path, hosted: Hosted) -> None:
        self._state = state
        self._hosted = hosted
        self._is_written = False
        self._looked = -math.inf

    def write(self, hosted: Hosted) -> None:
        """Write down how it is, now or when the disk takes it."""
        self._hosted, self._is_written, self._looked = hosted, False, -math.inf
        self.catch_up()

    def catch_up(self) -> bool:
        """Write what could not be written, or is damaged by now; return whether it is written."""
        if self._is_written and Hosted.read(self._state) is not None:
            return True
        if time.monotonic() < self._looked + _AGAIN_S:
            return False
        self._looked = time.monotonic()
        try:
            self._hosted.write(self._state)
            self._is_written = True
        except OSError as error:
            self._is_written = False
            self.say(f"{self._state} cannot be written ({error.strerror}). Free some space there.")
        return self._is_written

    def bound_log(self) -> None:
        """Cut the log to its end where it has grown long: all who write to it append."""
        path = Path(self._hosted.log)
        with suppress(OSError):
            if path.stat().st_size > MOST_LOG_BYTES:
                with path.open("r+b") as log:
                    log.seek(-KEPT_LOG_BYTES, os.SEEK_END)
                    end = log.read().partition(b"\n")[2]
                    log.truncate(0)
                    log.seek(0)
                    log.write(b"(what was before is cut)\n" + end)

    def say(self, line: str) -> None:
        """Add a line to the log, if the disk takes it."""
        with suppress(OSError), Path(self._hosted.log).open("a") as log:
            log.write(f"{line}\n")


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
