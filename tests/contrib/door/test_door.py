"""The config of `stratos door` in a real nginx, before a server that answers slowly."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from in_process import Done, stratos
from required import lacking

from stratos.contrib.nginx_config import Limits, config, script
from stratos.core.errors import StratosError
from stratos.core.process import Process
from stratos.deploy.hosted_server import CACHE, Hosted, state_of
from stratos.deploy.server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.kill]

KEYS = "# who\nalice sk-alice-0123456789abcdef\nbob sk-Bob+0/1=2.3_4~5-67\n"
ALICE, BOB = (line.split()[1] for line in KEYS.splitlines()[1:])
ANSWERS_S = 0.5


class Student(BaseHTTPRequestHandler):
    """Answers in two pieces, the second one after a while."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str | None]]] = []
    slow_s = ANSWERS_S

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece, wait_s in ((b"first ", self.slow_s), (b"second", 0.0)):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(wait_s)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def nginx() -> str:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    return program or lacking("nginx", "apt-get install nginx-light")


class Door:
    """An nginx with the config of a folder."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder = folder
        self.call = [program, "-p", f"{folder}/", "-e", "error.log"]
        self.call += ["-c", str(folder / "nginx.conf")]

    def start(self, port: int) -> None:
        done = subprocess.run(self.call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        until = time.monotonic() + 15
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.05)
        raise AssertionError("nginx does not listen")

    def stop(self) -> None:
        if not (self.folder / "nginx.pid").exists():
            return
        subprocess.run([*self.call, "-s", "quit"], capture_output=True, check=False)
        until = time.monotonic() + 30
        while (self.folder / "nginx.pid").exists() and time.monotonic() < until:
            time.sleep(0.05)


@pytest.fixture
def student() -> Iterator[ThreadingHTTPServer]:
    Student.seen.clear()
    Student.slow_s = ANSWERS_S
    server = ThreadingHTTPServer(("127.0.0.1", 0), Student)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Opened:
    """A bundle that is hosted, with a door before it."""

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self.folder = folder
        self.bundle = folder / "the bundle"
        self.bundle.mkdir()
        for name in ("config.json", "model.safetensors"):
            (self.bundle / name).write_text("{}")
        self.state = state_of(self.bundle.resolve(), folder / "cache")
        self.state.parent.mkdir(parents=True)
        Hosted(
            bundle=str(self.bundle), name="x", port=port, engine_port=port, module="x",
            arguments=[], environment={},
            log=str(folder / "log"), since="now", version="", engine="transformers", at_once=1,
            supervisor=Process.this(),
        ).write(self.state)  # fmt: skip
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        (folder / "keys").write_text(KEYS)
        self.door = Door(program, self.state.with_suffix(".door"))

    def run(self, *argv: str) -> Done:
        return stratos("door", *argv, env={CACHE: str(self.folder / "cache")})

    def open(self, *argv: str) -> Done:
        keys = () if "--keys" in argv else ("--keys", str(self.folder / "keys"))
        listen = ("--listen", f"127.0.0.1:{self.port}")
        return self.run(str(self.bundle), *listen, *keys, *argv)

    def ask(
        self, key: str | None = ALICE, body: bytes = b"{}", path: str = "/v1/chat/completions"
    ) -> tuple[int, str, dict[str, str]]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode(), dict(response.headers)
        finally:
            connection.close()


@pytest.fixture
def opened(nginx: str, student: ThreadingHTTPServer, tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(nginx, tmp_path, student.server_address[1])
    done = opened.open("--open-requests-per-key", "4", "--open-requests", "6")
    assert done.returncode == 0, done.stderr
    assert f": http://127.0.0.1:{opened.port}/v1, with 2 keys." in done.stdout
    assert f"start:  {shlex.join(opened.door.call)}\n" in done.stdout
    conf = opened.door.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace("header_timeout 10s", "header_timeout 2s"))
    opened.door.start(opened.port)
    yield opened
    opened.door.stop()


@pytest.fixture(scope="module")
def closing(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A door without a server, for requests that never come to one."""
    opened = Opened.__new__(Opened)
    opened.port = free_port()
    folder = tmp_path_factory.mktemp("closing")
    listen = f"127.0.0.1:{opened.port}"
    text = config(folder, listen, 1, free_port(), {"alice": ALICE}, Limits())
    (folder / "nginx.conf").write_text(text)
    door = Door(nginx, folder)
    door.start(opened.port)
    yield opened
    door.stop()


SUDO = '#!/bin/sh\nexec "$@"\n'
"""In place of the one of a server, where the user is another one."""


def test_a_server_of_a_service_file_has_the_same_door(nginx, student, opened, tmp_path):
    """The script starts a real nginx: key, paths, size, and 429 with Retry-After as above."""
    home, port = tmp_path / "home", free_port()
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "sudo").write_text(SUDO)
    (home / "bin" / "sudo").chmod(0o755)
    text = script(
        f"127.0.0.1:{port}", student.server_address[1], free_port(), "THE_KEY_OF_IT", Limits(2, 2)
    )

    def run(key: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(home / "bin"), str(Path(nginx).parent), os.environ["PATH"]])
        environment = {**os.environ, "HOME": str(home), "PATH": path, "THE_KEY_OF_IT": key}
        return subprocess.run(
            ["sh", "-c", text], env=environment, capture_output=True, text=True, check=False
        )

    for bad in ("", 'x"; }', "a.b", "$HOME"):
        refused = run(bad)
        assert refused.returncode == 1
        assert refused.stderr.startswith("THE_KEY_OF_IT: ") and refused.stderr.count("\n") == 1
    started = run("abc_D-123")
    assert started.returncode == 0, started.stderr
    one = Opened.__new__(Opened)
    one.port = port
    try:
        until = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError):
                if one.ask("abc_D-123")[0] == 200:
                    break
            assert time.monotonic() < until
            time.sleep(0.05)
        for key in (None, "abc_d-123", "abc_D-1234", "xabc_D-123"):
            assert one.ask(key)[0] == 401
        assert one.ask("abc_D-123", path="/load_model")[0] == 404
        assert one.ask("abc_D-123", b"x" * 300_000)[0] == 413
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: one.ask("abc_D-123"), range(8)))
        codes = Counter(status for status, _, _ in found)
        assert codes[200] >= 2 and codes[429] >= 4 and sum(codes.values()) == 8
        assert {head["Retry-After"] for status, _, head in found if status == 429} == {"1"}
        assert stat.S_IMODE((home / "door").stat().st_mode) == 0o700
    finally:
        os.kill(int((home / "door" / "nginx.pid").read_text()), signal.SIGTERM)

    def answers(text: str) -> str:  # what follows the keys and the port of the server
        return re.sub(r"server 127[^;]*|limit_conn \w+ \d+|listen [^;]*", "", text.split(
            "limit_conn_zone", 1)[1])  # fmt: skip

    assert answers((home / "door" / "nginx.conf").read_text()) == answers(
        (opened.door.folder / "nginx.conf").read_text()
    )


def test_only_who_has_a_key_is_answered_and_the_key_stays_outside(opened):
    for wrong in (None, "", "sk-wrong", ALICE.upper(), ALICE[:-1], f"{ALICE}x", BOB.lower()):
        status, text, headers = opened.ask(wrong)
        assert (status, json.loads(text)["error"]["code"]) == (401, "invalid_api_key"), wrong
        assert headers["WWW-Authenticate"] == "Bearer"
    for right in (ALICE, BOB):
        assert opened.ask(right)[:2] == (200, "first second")
    assert {key for _, key in Student.seen} == {None}


def test_nothing_else_of_the_server_is_reached(opened):
    n = len(Student.seen)
    above = "/v1/chat/completions/../../load_model"
    for path in ("/", "/cascade", "/v1/", "/v1/load_model", above):
        status, text, _ = opened.ask(path=path)
        assert (status, json.loads(text)["error"]["code"]) == (404, "not_found"), path
    assert len(Student.seen) == n
    # Whether it is well is told without a key, and nothing else.
    for path, key in (("/health", None), ("/ready", None), ("/metrics", ALICE)):
        assert opened.ask(key, path=path)[0] == 200
    assert opened.ask(None, path="/metrics")[0] == 401
    n = len(Student.seen)
    # What nginx reads as a path that is let through arrives as that one.
    for path in ("/metrics/../v1/completions", "/load%3f/../v1//completions?a=b"):
        assert opened.ask(path=path)[0] == 200
    paths = [path for path, _ in Student.seen[n:]]
    assert paths == ["/v1/completions", "/v1/completions?a=b"]


def test_a_long_request_is_refused_and_a_long_enough_one_is_not(opened):
    assert opened.ask(body=b"x" * 256 * 1024)[0] == 200
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it hangs up
        status, text, _ = opened.ask(body=b"x" * (256 * 1024 + 1))
        assert (status, json.loads(text)["error"]["code"]) == (413, "request_too_large")
    # A hundred megabytes: refused by its head alone.
    with socket.create_connection(("127.0.0.1", opened.port), timeout=10) as one:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ALICE}\r\n"
        one.sendall(f"{head}Content-Length: 104857600\r\n\r\n".encode())
        assert b" 413 " in one.recv(4096)


def test_too_many_at_once_are_told_to_come_again_and_others_are_answered(opened):
    with ThreadPoolExecutor(21) as pool:
        alices = [pool.submit(opened.ask, ALICE) for _ in range(20)]
        time.sleep(ANSWERS_S / 2)
        assert opened.ask(BOB)[0] == 200
        told = [one.result() for one in alices]
    by_status = Counter(status for status, _, _ in told)
    assert set(by_status) == {200, 429} and by_status[200] >= 4
    for status, text, headers in told:
        if status == 429:
            assert headers["Retry-After"] == "1"
            assert json.loads(text)["error"]["code"] == "rate_limit_exceeded"
    assert opened.ask(ALICE)[0] == 200


def test_streams_pass_as_they_come(opened):
    Student.slow_s = 2.0
    connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=30)
    connection.request("POST", "/v1/completions", b"{}", {"Authorization": f"Bearer {ALICE}"})
    started = time.monotonic()
    response = connection.getresponse()
    assert response.read(6) == b"first "
    assert time.monotonic() - started < 1.5
    assert response.read() == b"second"
    connection.close()


def test_slow_and_silent_clients_keep_nobody_waiting(opened):
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(800):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", opened.port)))
            one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX: ")
            crowd.append(one)
        assert opened.ask()[:2] == (200, "first second")
        # Bytes that trickle in do not keep a connection open.
        until = time.monotonic() + 30
        crowd[0].settimeout(1.0)
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                if not crowd[0].recv(1024).startswith(b"HTTP/1.1 200"):
                    break
            with contextlib.suppress(OSError):
                crowd[0].sendall(b"y")
        assert time.monotonic() < until
    assert opened.ask()[0] == 200


def test_who_sends_slowly_takes_no_place_of_others(opened):
    """A byte every few seconds would hold a place for days: nginx limits no whole time."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(_begun(opened.port, key)) for key in [ALICE, BOB] * 12]
        for key in (ALICE, BOB):
            assert opened.ask(key)[:2] == (200, "first second")
        for one in slow[:2]:  # whole at last
            one.sendall(b"}")
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
        # 8 for each of its 4 places may be on their way in: those of alice alone are too many.
        late = [stack.enter_context(_begun(opened.port, ALICE)) for _ in range(30)]
        told = late[-1].recv(4096)
        assert told.startswith(b"HTTP/1.1 429") and b"Retry-After: 1" in told
        assert opened.ask(BOB)[0] == 200


def _begun(port: int, key: str) -> socket.socket:
    """Begin a request of two bytes."""
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
    one.sendall(f"{head}Content-Length: 2\r\n\r\n{{".encode())
    return one


@pytest.mark.parametrize(("sent", "status", "code"), [
    (b"BAD\r\n\r\n", 400, "bad_request"), (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 40_000), 400, "bad_request"),
    (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501,
     "not_supported"),
    (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "not_supported"),
])  # fmt: skip
def test_what_nginx_refuses_itself_is_told_as_an_api_does(closing, sent, status, code):
    with socket.create_connection(("127.0.0.1", closing.port), timeout=30) as one:
        one.sendall(sent)
        response = http.client.HTTPResponse(one)
        response.begin()
        assert response.status == status
        assert response.headers["Content-Type"] == "application/json"
        assert json.loads(response.read())["error"]["code"] == code


def test_what_is_asked_is_nowhere_on_the_disk(opened):
    secret = b"my-very-private-question"
    assert opened.ask(body=secret * 5000)[0] == 200
    assert opened.ask(BOB, body=secret, path="/v1/completions")[0] == 200
    status, text = _in_pieces(opened.port, secret)
    assert (status, json.loads(text)["error"]["code"]) == (411, "length_required")
    opened.door.stop()
    assert "tmp-body" not in (opened.door.folder / "error.log").read_text()
    for path in opened.door.folder.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    last = (opened.door.folder / "access.log").read_text().splitlines()[-2].split()
    assert last[1:3] == ["bob", "200"] and last[-2:] == ["POST", "/v1/completions"]
    assert opened.door.folder.stat().st_mode & 0o077 == 0
    assert (opened.door.folder / "nginx.conf").stat().st_mode & 0o077 == 0


def _in_pieces(port: int, data: bytes) -> tuple[int, str]:
    """Ask without a length, in more bytes of frames than of what is asked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {ALICE}", "Transfer-Encoding": "chunked"}
    pieces = b"".join(b"1;%s\r\n%c\r\n" % (b"x" * 300, one) for one in data * 50)
    connection.request("POST", "/v1/completions", pieces + b"0\r\n\r\n", headers)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


def test_the_word_before_a_key_may_be_small_and_the_key_may_not(opened):
    def asked(authorization: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=60)
        try:
            headers = {"Authorization": authorization}
            connection.request("POST", "/v1/chat/completions", b"{}", headers)
            return connection.getresponse().status
        finally:
            connection.close()

    assert asked(f"bearer {BOB}") == asked(f"BEARER {BOB}") == 200
    assert asked(f"bearer {BOB.upper()}") == asked(f"basic {BOB}") == 401


def test_given_again_it_takes_other_keys_and_makes_one_once(opened):
    (opened.folder / "keys").write_text(KEYS.replace(ALICE, "sk-another-0123456789"))
    assert opened.open().returncode == 0
    subprocess.run([*opened.door.call, "-s", "reload"], check=True, capture_output=True)
    until = time.monotonic() + 15
    while opened.ask("sk-another-0123456789")[0] != 200:
        assert time.monotonic() < until
    assert opened.ask(ALICE)[0] == 401
    listen = ("--listen", f"127.0.0.1:{opened.port}")
    runs = [opened.run(str(opened.bundle), *listen) for _ in range(2)]
    keys = [done.stdout.split("key:")[1].split()[0] for done in runs]
    assert keys[0] == keys[1] and len(keys[0]) == 51
    assert (opened.door.folder / "keys").stat().st_mode & 0o077 == 0
    assert opened.door.folder.stat().st_mode & 0o077 == 0  # its config has them, too


@pytest.mark.parametrize(("lines", "told"), [
    ("alice short\n", "line 1: type a name"), ("a b c\n", "line 1: type a name"),
    (f"a {ALICE}\nb {ALICE}\n", "line 2: this name or key is there already"),
    ("\n# none\n", "holds no key"), (f'a {ALICE}";\n', "line 1: type a name"),
    (f"- {ALICE}\n", "line 1: type a name"), (f"a {ALICE}\udcff\n", "line 1: type a name"),
])  # fmt: skip
def test_keys_that_cannot_be_used(tmp_path, lines, told):
    one = Opened("nginx", tmp_path, 1)
    (tmp_path / "keys").write_bytes(lines.encode(errors="surrogateescape"))
    done = one.open()
    assert done.returncode == 1 and told in done.stderr
    assert ALICE not in done.stderr


def test_what_cannot_be_opened(opened, tmp_path):
    done = opened.open("--listen", "8443")
    assert done.returncode == 1 and "type HOST:PORT" in done.stderr
    done = opened.open("--listen", "127.0.0.1:²")
    assert done.returncode == 1 and "type HOST:PORT" in done.stderr
    done = opened.open("--tls-cert", "a.pem")
    assert done.returncode == 1 and "go together" in done.stderr
    done = opened.open("--listen", "127.0.0.1:99999")
    assert done.returncode == 1 and "type HOST:PORT" in done.stderr
    student = Hosted.read(opened.state)
    assert student is not None
    done = opened.open("--listen", f"127.0.0.1:{student.port}")
    assert done.returncode == 1 and "the student itself has this port" in done.stderr
    before = (opened.door.folder / "nginx.conf").read_text()
    none = str(tmp_path / "none.pem")
    done = opened.open("--tls-cert", none, "--tls-key", none)
    assert done.returncode == 1 and f'cannot load certificate "{none}"' in done.stderr
    assert (opened.door.folder / "nginx.conf").read_text() == before
    assert not (opened.door.folder / "nginx.conf.new").exists()
    done = opened.open("--keys", none)
    assert done.returncode == 1 and f"--keys {none} cannot be read" in done.stderr
    replace(student, supervisor=None).write(opened.state)
    done = opened.open()
    assert done.returncode == 1 and "is not hosted. Type first: stratos serve" in done.stderr


def test_in_the_foreground_it_is_nginx_itself(opened):
    opened.door.stop()
    words = ["door", str(opened.bundle), "--listen", f"127.0.0.1:{opened.port}", "--foreground"]
    environment = {**os.environ, CACHE: str(opened.folder / "cache")}
    command = [sys.executable, "-m", "stratos", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 30
        while not (opened.door.folder / "nginx.pid").exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        assert int((opened.door.folder / "nginx.pid").read_text()) == process.pid
        assert opened.ask(None, path="/ready")[0] == 200
        process.terminate()
        assert process.wait(15) == 0


def test_https(opened, tmp_path):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
            "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    opened.door.stop()
    done = opened.open(
        "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")
    )
    assert done.returncode == 0, done.stderr
    opened.door.start(opened.port)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", opened.port, context=context)
    headers = {"Authorization": f"Bearer {ALICE}"}
    connection.request("POST", "/v1/completions", b"{}", headers)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_path_that_nginx_would_read_otherwise_is_refused(tmp_path):
    with pytest.raises(StratosError, match="nginx takes no path with such signs"):
        config(tmp_path / "a$b", "127.0.0.1:1", 1, 2, {"a": "b"}, Limits())
