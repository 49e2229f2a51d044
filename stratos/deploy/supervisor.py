"""`python -m stratos.deploy.supervisor STATE`: keep a server running until it is told to stop.

A server that ends by itself is started again, ever later while it keeps ending at once, or before
it has answered; after `MOST_FAILURES` such starts it is given up, and the state says so. One that
hangs, and answers no look at its health for `SILENT_S`, is ended and started again, too. A full
disk ends nothing: what cannot be written is written when there is room again.
"""

from __future__ import annotations

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

MOST_LOG_BYTES, LOG_END_BYTES = 16 * 2**20, 2**20
"""Size from which a log is cut, and what stays of its end."""
_NOTE_S = 1.0
"""Seconds between looks at what is written down."""


def supervise(state: Path) -> int:
    """Run the server that a state describes; return 0 when it was stopped, 1 when given up.

    Args:
        state: file of a `Hosted`, which is updated, and removed at the stop.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        with locked(supervised(state)):
            hosted = Hosted.read(state)
            if stop.is_set() or hosted is None:  # a stop has deleted it, else it is damaged
                return int(state.exists() and not stop.is_set())
            return keep_running(state, replace(hosted, supervisor=Process.this()), stop)
    except BlockingIOError:
        print("Another process keeps it running.", file=sys.stderr)
        return 1


def keep_running(state: Path, hosted: Hosted, stop: threading.Event) -> int:
    """Run a server, again and again; return 0 when it was stopped, 1 when given up.

    Args:
        state: where it is written down.
        hosted: the server.
        stop: ends it.
    """
    failures, wait_s = 0, FIRST_WAIT_S
    while not stop.is_set():
        with _log_of(hosted) as log:
            process = start_process(
                hosted.module, hosted.arguments, log, hosted.environment, hosted.python
            )
        hosted = replace(hosted, server_pid=process.pid)
        health = _Health(hosted.port)
        try:
            _write(state, hosted)
            noted = time.monotonic()
            while process.poll() is None and not stop.wait(0.2) and not health.hangs():
                if time.monotonic() > noted + _NOTE_S:
                    noted = time.monotonic()
                    _write(state, hosted)
                    bound_log(Path(hosted.log))
        finally:
            stop_process(process)
        if stop.is_set():
            break
        if health.answered_for_s() >= LIVED_S:
            failures, wait_s = 0, FIRST_WAIT_S
        failures += 1
        hosted = replace(hosted, n_restarts=hosted.n_restarts + 1, exit_code=process.returncode)
        if failures >= MOST_FAILURES:
            hosted = replace(hosted, is_given_up=True)
            while not _write(state, hosted) and not stop.wait(LOOK_S):
                pass
            return 1
        _write(state, hosted)
        stop.wait(wait_s)
        wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
    with suppress(OSError):
        state.unlink()
    return 0


def _write(state: Path, hosted: Hosted) -> bool:
    """Write down how a server is, where that is not written yet; return whether it is.

    A full disk does not take it, and the file may be damaged: then it is written later, again.
    """
    with suppress(OSError):
        if Hosted.read(state) != hosted:
            hosted.write(state)
        return True
    return False


def _log_of(hosted: Hosted) -> BinaryIO:
    """Open a server's log; where the disk does not let it be made, what the server says is lost."""
    try:
        return Path(hosted.log).open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def bound_log(path: Path) -> None:
    """Cut a log to its end where it has grown long: all who write to it append."""
    with suppress(OSError):
        if path.stat().st_size > MOST_LOG_BYTES:
            with path.open("r+b") as log:
                log.seek(-LOG_END_BYTES, os.SEEK_END)
                end = log.read().partition(b"\n")[2]
                log.truncate(0)
                log.seek(0)
                log.write(b"(what was before is cut)\n" + end)


class _Health:
    """What looks at a server's health tell."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._looked = time.monotonic()
        self._first_answer: float | None = None
        self._last_answer: float | None = None
        """A server that has never answered is one that starts."""

    def hangs(self) -> bool:
        """Look if it is time to; return whether the server has been silent for too long."""
        if time.monotonic() < self._looked + LOOK_S:
            return False
        if answers(self._port, timeout_s=LOOK_S):
            self._last_answer = time.monotonic()
            self._first_answer = self._first_answer or self._last_answer
        self._looked = time.monotonic()
        silent = self._last_answer is not None and self._looked > self._last_answer + SILENT_S
        if silent:
            with suppress(OSError):  # of a full disk
                print(f"No answer for {SILENT_S:g} seconds: it is started again.", flush=True)
        return silent

    def answered_for_s(self) -> float:
        """Return the seconds since its first answer; 0 where it has given none."""
        return 0.0 if self._first_answer is None else time.monotonic() - self._first_answer


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
