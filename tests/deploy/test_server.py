"""The server's life, with Python's own web server in place of the slow one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stratos.deploy.server import ServeError, free_port, serving

REPOSITORY = Path(__file__).parents[2]


def web_server(folder: Path, *arguments: str, **options):
    port = options.pop("port", None) or free_port()
    return serving(
        [str(port), "--bind", "127.0.0.1", "--directory", str(folder), *arguments],
        port=port,
        log_path=folder / "log" / "server.log",
        module="http.server",
        **{"health": "/", **options},
    )


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended and was not yet waited for by init counts as gone.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_server_runs_in_the_block_and_not_after_it(tmp_path):
    with web_server(tmp_path) as server:
        assert server.process.poll() is None
        assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.process.poll() is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_server_is_stopped_by_any_error(tmp_path, error):
    with pytest.raises(error), web_server(tmp_path) as server:
        raise error
    assert server.process.poll() is not None


@pytest.mark.kill
def test_a_server_that_ignores_the_polite_signal_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("stratos.deploy.server._STOP_SECONDS", 0.3)
    (tmp_path / "deaf.py").write_text(
        "import runpy, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "runpy.run_module('http.server', run_name='__main__', alter_sys=True)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    port = free_port()
    with serving(
        [str(port), "--bind", "127.0.0.1"],
        port=port,
        log_path=tmp_path / "log",
        module="deaf",
        health="/",
    ) as server:
        pass
    assert server.process.returncode == -signal.SIGKILL


@pytest.mark.kill
def test_a_server_dies_with_a_starter_that_is_killed(tmp_path):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from stratos.deploy.server import free_port, serving\n"
        "port = free_port()\n"
        "arguments = [str(port), '--bind', '127.0.0.1']\n"
        f"log = Path({str(tmp_path / 'log')!r})\n"
        "with serving(arguments, port=port, log_path=log, module='http.server', health='/') as s:\n"
        "    print(s.process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    assert lives(pid)
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 20
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(pid)


def test_a_server_that_ends_at_once_is_explained_with_its_last_words(tmp_path):
    log = tmp_path / "log" / "server.log"
    with pytest.raises(ServeError) as caught, web_server(tmp_path, "--no-such-option"):
        pass
    first, *lines, last = str(caught.value).splitlines()
    assert "ended with code 2" in first and first.endswith(f"The end of {log}:")
    assert "unrecognized arguments: --no-such-option" in "".join(lines)
    assert "deploy=none" in last


def test_a_server_that_is_never_ready_is_given_up(tmp_path):
    started = time.monotonic()
    with (
        pytest.raises(ServeError, match=r"^The server did not answer within 0\.7 seconds\. The"),
        web_server(tmp_path, health="/not-there", start_seconds=0.7),
    ):
        pass
    assert time.monotonic() - started < 15


def test_a_port_that_is_taken_is_said_before_anything_is_started(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError) as caught, web_server(tmp_path, port=port):
            pass
    told = str(caught.value)
    assert f"port {port} (Address already in use)" in told and "deploy.port=0" in told
    assert not (tmp_path / "log").exists()


def test_a_proxy_in_the_environment_is_not_asked(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with web_server(tmp_path) as server:
        assert server.process.poll() is None


def test_a_server_finds_its_environment_and_what_the_user_has_set_wins(tmp_path, monkeypatch):
    told = tmp_path / "told"
    (tmp_path / "telling.py").write_text(
        "import http.server, os, pathlib, sys\n"
        f"pathlib.Path({str(told)!r}).write_text(os.environ['A_SET'] + os.environ['B_SET'])\n"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("B_SET", "user")
    port = free_port()
    with serving(
        [str(port)],
        port=port,
        log_path=tmp_path / "log",
        module="telling",
        health="/",
        environment={"A_SET": "ours ", "B_SET": "ours"},
    ):
        assert told.read_text() == "ours user"
