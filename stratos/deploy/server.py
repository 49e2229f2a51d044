"""Run a server on localhost, and always stop it."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stratos.core.errors import StratosError

HOST = "127.0.0.1"
HEALTH = "/health"
"""Path that every engine answers with 200 when it has loaded its model."""
READY = "/ready"
"""Path that the address of a hosted student answers with 200 when its engine does."""
PORTS = range(20_000, 30_000)
"""Ports of servers that are started here: no system lends them to outgoing connections or to those
that take any port, as Linux does with ports from 32768 on and others from 49152. So they stay free
while a server loads, and while it is started again at the same address."""
_POLL_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LOG_LINES = 12


class ServeError(StratosError):
    """The server cannot be started, or does not answer."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """Return the address that its paths are under."""
        return f"http://{HOST}:{self.port}"

    def last_lines(self) -> str:
        """Return the end of its log, indented, for an error message."""
        return last_lines(self.log_path)


def last_lines(log_path: Path) -> str:
    """Return the end of a log, indented, for an error message."""
    try:
        text = log_path.read_text(errors="replace")
    except OSError:
        text = ""
    lines = [line for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (nothing)"


@contextmanager
def serving(
    arguments: Sequence[str],
    *,
    port: int,
    log_path: Path,
    module: str = "transformers.cli.transformers",
    health: str = HEALTH,
    start_seconds: float = 180.0,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Iterator[Server]:
    """Run a server until the block is left, however that comes about.

    It is ready when `health` answers 200. It runs in a process group of its own, which is ended
    when the block is left, and even when this process is killed (`stratos.deploy.guard`).

    Args:
        arguments: of the module, the port included.
        port: where it listens.
        log_path: takes everything that it writes.
        module: the program, as for `python -m`.
        health: path that answers 200 when it is ready.
        start_seconds: longest wait for that.
        environment: variables that it finds where the user has not set them.
        python: interpreter that has the module.

    Raises:
        ServeError: the port is taken, or the server ended or was silent; with the end of its log.
    """
    check_free(port)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = start_process(module, arguments, log, environment or {}, python)
    try:
        server = Server(process, port, log_path)
        _wait_until_healthy(server, health, start_seconds)
        yield server
    finally:
        stop_process(process)


def start_process(
    module: str,
    arguments: Sequence[str],
    log: BinaryIO,
    environment: Mapping[str, str],
    python: str = sys.executable,
) -> subprocess.Popen[bytes]:
    """Start a server in a process group of its own, which ends with this process."""
    guard = Path(__file__).with_name("guard.py")
    return subprocess.Popen(
        [python, "-P", str(guard), module, *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        # The model is a folder here; a look at the hub could only fail, or leak its name.
        env={**environment, **os.environ, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )


def free_port(host: str = HOST) -> int:
    """Return a port that nothing listens on at an address of this machine, of `PORTS` if it can."""
    # Not of the generator that a seed is set for: processes of one seed would take the same port.
    tried = random.SystemRandom().sample(PORTS, 100)
    for port in tried:
        if is_free(port, host):
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, host: str = HOST) -> bool:
    """Return whether a port can be listened on."""
    with suppress(ServeError):
        check_free(port, host=host)
        return True
    return False


def check_free(
    port: int,
    another: str = "deploy.port=<number>",
    any_free: str = "deploy.port=0",
    host: str = HOST,
) -> None:
    """Check that a port can be listened on.

    Args:
        port: the number.
        another: what to type for another one.
        any_free: what to type for any that is free.
        host: address of this machine.

    Raises:
        ServeError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"The server cannot listen on port {port} ({error.strerror}): choose another with "
                f"{another}, or take any free one with {any_free}."
            ) from error


def _wait_until_healthy(server: Server, health: str, start_seconds: float) -> None:
    deadline = time.monotonic() + start_seconds
    while not answers(server.port, health) or _is_of_another(server):
        why, hint = "", "Leave it out with deploy=none; every other result is kept."
        if (code := server.process.poll()) is not None:
            why = f"ended with code {code} before it answered"
        elif time.monotonic() > deadline:
            why = f"did not answer within {start_seconds:g} seconds"
            hint = "Give the command again when the machine is less busy. " + hint
        if why:
            raise ServeError(
                f"The server {why}. The end of {server.log_path}:\n{server.last_lines()}\n{hint}"
            )
        time.sleep(_POLL_SECONDS)


def _is_of_another(server: Server) -> bool:
    """Return whether other programs alone listen on a server's port, as far as the system says."""
    import psutil

    with suppress(psutil.Error, OSError):
        own = psutil.Process(server.process.pid)
        pids = {own.pid, *(child.pid for child in own.children(recursive=True))}
        listening = {
            entry.pid
            for entry in psutil.net_connections("tcp")
            if entry.status == psutil.CONN_LISTEN and entry.laddr.port == server.port
        }
        return bool(listening) and None not in listening and not listening & pids
    return False


def answers(port: int, path: str = HEALTH, timeout_s: float = 5.0) -> bool:
    """Return whether a server of this machine answers a path with 200 in time."""
    with suppress(ServeError):
        return call(port, path, timeout_s=timeout_s)[0] == 200
    return False


def call(port: int, path: str, body: Any = None, timeout_s: float = 120.0) -> tuple[int, bytes]:
    """Ask a server of this machine, by POST where there is a body; return status and answer.

    Raises:
        ServeError: it does not answer.
    """
    # By hand: urllib and httpx would ask the proxy of the environment.
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json"}
        connection.request("GET" if data is None else "POST", path, data, head)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServeError(f"{path}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: politely, then for good."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
