"""No folder of a server's socket stays behind, however the server ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratos.deploy.bundle_server import environment_of, serve_arguments
from stratos.deploy.engines.http_api import SOCKET, socket_folder, sweep
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.server import HOST, free_port, serving
from stratos.records import ServingSetting


@pytest.fixture
def temporary(monkeypatch) -> Iterator[Path]:
    """A temporary folder of the test's own, with a path that a socket file may have."""
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.skipif(LlamaCpp().unusable() is not None, reason=str(LlamaCpp().unusable()))
def test_a_server_that_is_stopped_leaves_no_folder(bundle, temporary, tmp_path) -> None:
    port = free_port()
    with serving(
        serve_arguments(str(bundle), HOST, port, ServingSetting("llamacpp", format="f32")),
        port=port,
        log_path=tmp_path / "server.log",
        module=LlamaCpp.module,
        environment=environment_of(bundle),
    ) as server:
        (folder,) = temporary.iterdir()
        assert (folder / SOCKET).is_socket()
    assert server.process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_what_was_killed_is_swept_at_the_next_start(temporary) -> None:
    listens = (
        "import socket, time; from stratos.deploy.engines.http_api import socket_folder\n"
        "with socket_folder() as path, socket.socket(socket.AF_UNIX) as server:\n"
        "    server.bind(path); server.listen(); print('up', flush=True); time.sleep(60)"
    )
    started = []
    for _ in range(2):
        one = subprocess.Popen([sys.executable, "-c", listens], stdout=subprocess.PIPE)
        assert one.stdout is not None and one.stdout.readline() == b"up\n"
        started.append(one)
    killed, runs = started
    killed.kill()
    killed.wait()
    sweep()  # a folder that is young may be that of a server that does not listen yet
    assert len(list(temporary.iterdir())) == 2
    old = time.time() - 1000
    for folder in temporary.iterdir():
        os.utime(folder, (old, old))
    with socket_folder() as path:
        assert len(list(temporary.iterdir())) == 2  # that of the one that runs, and the new one
        assert Path(path).parent.is_dir()
    (kept,) = temporary.iterdir()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(kept / SOCKET))
    runs.send_signal(signal.SIGTERM)
    assert runs.wait(10) == 0
    assert list(temporary.iterdir()) == []
