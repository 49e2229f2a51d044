"""`python -m stratos.deploy.supervisor STATE`: keep a student hosted until it is told to stop.

Its address is that of the proxy in this process. An engine that ends by itself is started again,
ever later while it keeps ending at once, or before it has answered; after `MOST_FAILURES` such
starts it is given up, and the state says so. One that hangs, and answers no look at its health for
`SILENT_S`, is ended and started again, too. A full disk ends nothing: what cannot be written is
written when there is room again.

What is to replace the student is started beside it (`next_of`). When the command that wants this
has approved it, requests go to it, and the engine before ends when it has answered what it has.
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
from stratos.deploy.engine_connection import ANSWER_S
from stratos.deploy.hosted_server import MOST_RESTARTS, Hosted, is_starting, next_of, supervised
from stratos.deploy.proxy import Proxy, Upstream, log
from stratos.deploy.server import answers, free_port, is_free, start_process, stop_process

MOST_FAILURES = 5
LIVED_S = 60.0
"""Seconds after its first answer from which on a server that ends is not one that cannot start."""
FIRST_WAIT_S, LONGEST_WAIT_S, WAIT_FACTOR = 0.25, 30.0, 4.0
"""Before a server is started again; the first time clients wait for it."""
LOOK_S, SILENT_S = 10.0, 60.0
"""Seconds between looks at a server's health, and without an answer to any until it counts as one
that hangs: busy machines are slow."""

MOST_LOG_BYTES, LOG_END_BYTES = 16 * 2**20, 2**20
"""Size from which a log is cut, and what stays of its end."""
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NOTE_S, TICK_S = 2.0, 0.5
"""Seconds between looks at what is written down, and at the engine's process."""


def supervise(state: Path) -> int:
    """Run the server that a state describes; return 0 when it was stopped, 1 when given up.

    Args:
        state: file of a `Hosted`, which is updated, and removed at the stop.
    """
    stop, is_interrupted = threading.Event(), False

    def end(number: int, _: object) -> None:
        nonlocal is_interrupted
        is_interrupted = number == signal.SIGINT
        stop.set()

    for number in _ENDING:
        signal.signal(number, end)
    try:
        with locked(supervised(state)):
            hosted = Hosted.read(state)
            if stop.is_set() or hosted is None:  # a stop has deleted it, else it is damaged
                return int(state.exists() and not stop.is_set())
            code = keep_running(state, replace(hosted, supervisor=Process.this()), stop)
    except BlockingIOError:
        print("Another process keeps it running.", file=sys.stderr)
        return 1
    if is_interrupted:  # else a reboot may have ended it: the file says what to start again
        with suppress(OSError):
            state.unlink()
    return code


def keep_running(state: Path, hosted: Hosted, stop: threading.Event) -> int:
    """Run a server, again and again; return 0 when it was stopped, 1 when given up.

    Args:
        state: where it is written down.
        hosted: the server.
        stop: ends it.
    """
    try:
        proxy = Proxy(hosted)
    except OSError as error:
        log(f"The port {hosted.port} of {hosted.host} cannot be listened on: {error.strerror}.")
        _write(state, replace(hosted, is_given_up=True))
        return 1
    proxy.start()
    keeper = _Keeper(state, hosted, stop, proxy)
    try:
        return keeper.run()
    finally:
        proxy.stop()
        keeper.end()


class _Engine:
    """An engine that was started."""

    def __init__(self, hosted: Hosted) -> None:
        hosted = _at_free_port(hosted)
        with _log_of(hosted) as file:
            self.process = start_process(
                hosted.module, hosted.arguments, file, hosted.environment, hosted.python
            )
        self.hosted = replace(hosted, server_pid=self.process.pid)
        self.upstream = Upstream(hosted.engine_port)
        self.health = _Health(hosted.engine_port)


def _at_free_port(hosted: Hosted) -> Hosted:
    """Return what is hosted with another port of its engine, where that is taken by now."""
    if is_free(hosted.engine_port):
        return hosted
    before, now = str(hosted.engine_port), free_port()
    arguments = [str(now) if argument == before else argument for argument in hosted.arguments]
    return replace(hosted, engine_port=now, arguments=arguments)


class _Keeper:
    """Keeps an engine running behind a proxy."""

    def __init__(self, state: Path, hosted: Hosted, stop: threading.Event, proxy: Proxy) -> None:
        self._state, self._hosted, self._stop, self._proxy = state, hosted, stop, proxy
        self._engine: _Engine | None = None
        self._candidate: _Engine | None = None
        """What is to replace it."""
        self._draining: list[threading.Thread] = []
        self._failures = 0

    def run(self) -> int:
        """Run an engine until the stop; return 0, or 1 when it was given up."""
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            self._engine = _Engine(self._hosted)
            self._serve_by(self._engine)
            reason = self._watch()
            if self._stop.is_set():
                break
            if self._engine.health.answered_for_s() >= LIVED_S:
                self._failures, wait_s = 0, FIRST_WAIT_S
            self._failures += 1
            self._note_end(reason)
            if self._failures >= MOST_FAILURES:
                return self._give_up()
            self._stop.wait(wait_s)
            wait_s = min(LONGEST_WAIT_S, WAIT_FACTOR * wait_s)
        return 0

    def end(self) -> None:
        """End whatever still runs."""
        self._stop.set()
        self._withdraw()
        if self._engine is not None:
            stop_process(self._engine.process)
        for thread in self._draining:
            thread.join()

    def _serve_by(self, engine: _Engine) -> None:
        self._hosted = replace(engine.hosted, supervisor=self._hosted.supervisor)
        self._proxy.turn_to(engine.upstream, self._hosted)
        _write(self._state, self._hosted)

    def _watch(self) -> str:
        """Wait for the end of the engine that serves; return its reason, "" at the stop."""
        assert self._engine is not None
        noted = time.monotonic()
        while not self._stop.wait(TICK_S):
            if self._engine.process.poll() is not None:
                return "ended"
            if self._engine.health.hangs():
                stop_process(self._engine.process)
                return "silent"
            self._follow_swap()
            if time.monotonic() > noted + _NOTE_S:
                noted = time.monotonic()
                _write(self._state, self._hosted)
                bound_log(Path(self._hosted.log))
        return ""

    def _note_end(self, reason: str) -> None:
        assert self._engine is not None
        code = self._engine.process.returncode
        line = f"The engine {reason} (code {code}): it is started again."
        log(line)
        self._proxy.metrics.restarts.labels(reason).inc()
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        restarts = [*self._hosted.restarts, f"{now} {reason} (code {code})"][-MOST_RESTARTS:]
        self._hosted = replace(
            self._hosted, n_restarts=self._hosted.n_restarts + 1, exit_code=code, restarts=restarts
        )
        _write(self._state, self._hosted)

    def _give_up(self) -> int:
        self._proxy.is_given_up = True
        self._hosted = replace(self._hosted, is_given_up=True)
        while not _write(self._state, self._hosted) and not self._stop.wait(LOOK_S):
            pass
        return 1

    def _follow_swap(self) -> None:
        """Start what is to replace the student, switch to it when it is approved, or end it."""
        path = next_of(self._state)
        planned = Hosted.read(path) if path.exists() else None
        if planned is not None and not is_starting(self._state):  # its command was killed
            path.unlink(missing_ok=True)
            planned = None
        candidate = self._candidate
        if candidate is not None and (
            planned is None or planned.server_pid != candidate.process.pid
        ):
            self._withdraw()
        elif planned is None:
            return
        elif candidate is None:
            self._candidate = _Engine(planned)
            _write(path, self._candidate.hosted)
        elif candidate.process.poll() is not None:
            if not planned.is_given_up:
                _write(path, replace(planned, is_given_up=True))
        elif planned.is_approved:
            self._switch(candidate)

    def _switch(self, candidate: _Engine) -> None:
        assert self._engine is not None
        before, self._engine, self._candidate = self._engine, candidate, None
        candidate.hosted = replace(
            candidate.hosted, is_approved=False, n_restarts=self._hosted.n_restarts,
            restarts=self._hosted.restarts, exit_code=self._hosted.exit_code,
        )  # fmt: skip
        self._serve_by(candidate)
        self._failures = 0
        self._proxy.metrics.swaps.inc()
        log(f"{candidate.hosted.bundle} answers now, in place of {before.hosted.bundle}.")
        next_of(self._state).unlink(missing_ok=True)
        thread = threading.Thread(target=self._drain, args=(before,))
        self._draining = [t for t in self._draining if t.is_alive()] + [thread]
        thread.start()

    def _drain(self, engine: _Engine) -> None:
        """End an engine when it has answered what it has."""
        until = time.monotonic() + ANSWER_S
        while not self._stop.wait(1.0):
            if engine.upstream.n_open <= 0 or time.monotonic() > until:
                break
        stop_process(engine.process)

    def _withdraw(self) -> None:
        if self._candidate is not None:
            stop_process(self._candidate.process)
            self._candidate = None


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
            log(f"No answer for {SILENT_S:g} seconds: it is ended.")
        return silent

    def answered_for_s(self) -> float:
        """Return the seconds since its first answer; 0 where it has given none."""
        return 0.0 if self._first_answer is None else time.monotonic() - self._first_answer


if __name__ == "__main__":
    exit_code = supervise(Path(sys.argv[1]))
    # A stop repeats them until this process is gone, and Python's end resets handlers.
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(exit_code)
