"""The server's life, with Python's own web server in place of the slow one."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stratos.deploy.server import PORTS, ServeError, free_port, serving

REPOSITORY = Path(__file__).parents[2]


def web_server(folder: Path, *arguments: str, **options):
    port = options.pop("port", None) or free_port()
    defaults = {"health": "/", "module": "http.server", "log_path": folder / "log" / "server.log"}
    return serving(
        [str(port), "--bind", "127.0.0.1", "--directory", str(folder), *arguments],
        port=port,
        **{**defaults, **options},
    )


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return what writes a module that does something before it is a web server."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def written(text: str) -> str:
        serve = "import runpy\nrunpy.run_module('http.server', run_name='__main__', alter_sys=True)"
        (tmp_path / "program.py").write_text(f"{text}\n{serve}\n")
        return "program"

    return written


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended and was not yet waited for by init counts as gone.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_server_runs_in_the_block_and_not_after_it_whatever_ends_it(tmp_path, error):
    with pytest.raises(error), web_server(tmp_path) as server:
        assert server.process.poll() is None
        raise error
    assert server.process.poll() is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


@pytest.mark.kill
def test_a_server_that_ignores_the_polite_signal_is_killed(tmp_path, program, monkeypatch):
    monkeypatch.setattr("stratos.deploy.server._STOP_SECONDS", 0.3)
    deaf = program("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with web_server(tmp_path, module=deaf) as server:
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


def test_a_server_that_ends_or_is_never_ready_is_explained(tmp_path):
    with pytest.raises(ServeError) as caught, web_server(tmp_path, "--no-such-option"):
        pass
    first, *lines, last = str(caught.value).splitlines()
    log = tmp_path / "log" / "server.log"
    assert "ended with code 2" in first and first.endswith(f"The end of {log}:")
    assert "unrecognized arguments: --no-such-option" in "".join(lines)
    assert "deploy=none" in last
    with (
        pytest.raises(ServeError, match=r"^The server did not answer within 0\.7 seconds\. The"),
        web_server(tmp_path, health="/not-there", start_seconds=0.7),
    ):
        pass


def test_a_port_that_is_taken_is_said_before_anything_is_started(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(ServeError, match=rf"port {port} \(Address already in use\)"):
            web_server(tmp_path, port=port).__enter__()
    assert not (tmp_path / "log").exists()


def test_another_program_that_takes_the_port_meanwhile_is_not_taken_for_the_server(
    tmp_path, program, monkeypatch
):
    monkeypatch.setattr("stratos.deploy.server.check_free", lambda port: None)
    slow = program("import time; time.sleep(0.5)")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as another:
        threading.Thread(target=another.serve_forever, daemon=True).start()
        with (
            pytest.raises(ServeError, match="ended with code 1") as caught,
            web_server(tmp_path, module=slow, port=another.server_port),
        ):
            pass
        another.shutdown()
    assert "Address already in use" in str(caught.value)


def test_processes_of_one_seed_get_ports_of_their_own():
    ports = set()
    for _ in range(20):
        random.seed(0)
        ports.add(free_port())
    assert len(ports) > 15 and ports <= set(PORTS)


def test_a_server_finds_its_environment_and_no_proxy_is_asked(tmp_path, program, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("B_SET", "user")
    seen = tmp_path / "seen"
    telling = program(
        "import os, pathlib\n"
        f"pathlib.Path({str(seen)!r}).write_text(os.environ['A_SET'] + os.environ['B_SET'])"
    )
    with web_server(tmp_path, module=telling, environment={"A_SET": "ours ", "B_SET": "ours"}):
        assert seen.read_text() == "ours user"
