"""Secrets in URLs, in the environment and in free-form settings reach no file and no screen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stratos.catalog.readers import BUILTIN
from tests.attack.whole_run import SMALL
from tests.teachers.provider import Provider

pytestmark = pytest.mark.slow

PASSWORD = "pass-7Q2v-word"
USER_TOKEN = "usertoken-X9k2m"
SIGNATURE = "sig-Ab%2Fc9Kz81"
QUERY_KEY = "querykey-55e1"
FROM_ENV = "plain-looking-value-31"
OF_TEACHER = "teacher-secret-8842"
VENDOR = "vendor pass of mine 77"
PLANTED = (
    VENDOR,
    PASSWORD,
    USER_TOKEN,
    SIGNATURE,
    "sig-Ab/c9Kz81",
    QUERY_KEY,
    FROM_ENV,
    OF_TEACHER,
)

WHOLE = (
    *(word for word in SMALL if not word.startswith(("cloud", "logger", "teacher"))),
    "logger.mode=offline",
)
"""Every stage, each as short as it goes."""


class _Catalogs(BaseHTTPRequestHandler):
    """Serves one catalog under every path, but for those with `gone` in them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = b"" if "gone" in self.path else BUILTIN.read_bytes()
        self.send_response(403 if "gone" in self.path else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BUILTIN.read_bytes())))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def catalogs() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Catalogs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def stratos(folder: Path, *argv: str) -> subprocess.CompletedProcess[bytes]:
    env = {
        **os.environ, "STRATOS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1", "ODD_NAME": OF_TEACHER, "PLAIN": FROM_ENV,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "stratos", *argv],
        cwd=folder, env=env, capture_output=True, timeout=900, check=False,
    )  # fmt: skip


def leaks_in(folder: Path) -> list[str]:
    """Return every planted secret that a file below `folder` holds, or its name."""
    leaks = []
    for path in sorted(folder.rglob("*")):
        content = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        leaks += [
            f"{secret} in {path.relative_to(folder)}"
            for secret in PLANTED
            if secret.encode() in content
        ]
    return leaks


def planted(teacher: Provider, catalogs: str, login: str = f"me:{PASSWORD}@") -> list[str]:
    """Return overrides with a secret of each kind; a login is sent in place of the key."""
    base_url = teacher.base_url.replace("//", f"//{login}")
    catalog = f"http://{USER_TOKEN}@{catalogs}/aws/vms.csv?sig={SIGNATURE}&api_key={QUERY_KEY}"
    return [
        "teacher=endpoint", "teacher.model=parrot", f'teacher.base_url="{base_url}"',
        "teacher.api_key_env=ODD_NAME",
        "teacher.extra_body={note: '${oc.env:PLAIN}', password: " + PASSWORD
        + ", vendor_pass: " + VENDOR + "}",
        "cloud=aws", f'cloud.catalog=["{catalog}"]',
    ]  # fmt: skip


def test_no_secret_reaches_a_file_or_the_screen(tmp_path, catalogs):
    with Provider(says=lambda text: f"{text} {OF_TEACHER} {VENDOR} {FROM_ENV}") as teacher:
        done = stratos(tmp_path, *WHOLE, *planted(teacher, catalogs, login=""), "hydra.run.dir=run")
        printed = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, printed
        assert any(OF_TEACHER in key for key in teacher.keys), "the key was sent"
        assert [secret for secret in PLANTED if secret in printed] == []
        assert (tmp_path / "run" / "report.html").exists()
        assert list((tmp_path / "run" / "wandb").rglob("*.wandb"))
        assert leaks_in(tmp_path) == []


def test_no_secret_is_in_what_a_run_dies_of(tmp_path, catalogs):
    argv = planted(Provider(port=1), catalogs)  # where nobody listens
    done = stratos(tmp_path, "+task=mahjong", *argv, "hydra.run.dir=run", "logger.mode=offline")
    printed = (done.stdout + done.stderr).decode()
    assert done.returncode == 1, printed
    assert "cannot be reached" in (tmp_path / "run" / "error.txt").read_text()
    assert [secret for secret in PLANTED if secret in printed] == []
    assert leaks_in(tmp_path) == []


def test_no_secret_is_in_what_the_check_refuses(tmp_path, catalogs):
    with Provider() as teacher:
        argv = [word.replace("/aws/", "/gone/") for word in planted(teacher, catalogs)]
        done = stratos(tmp_path, "+task=mahjong", *argv, "hydra.run.dir=run")
        printed = (done.stdout + done.stderr).decode()
        assert done.returncode == 2 and "cannot be read" in printed
        assert [secret for secret in PLANTED if secret in printed] == []
        sweep = stratos(tmp_path, "-m", "+task=mahjong", *argv, "seed=1,2", "hydra.sweep.dir=s")
        assert [secret for secret in PLANTED if secret.encode() in sweep.stderr] == []
        assert leaks_in(tmp_path) == []
