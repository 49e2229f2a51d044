"""The nginx before a hosted student: its config, its start and its stop.

nginx does the work: it is what many put before such servers, and slow clients, floods and broken
requests are its everyday. Ours is the file that it reads.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stratos.core.atomic_files import replacing_file, write_atomically
from stratos.core.errors import StratosError
from stratos.core.process import Process
from stratos.deploy.server import last_lines

NOT_INSTALLED = (
    "nginx is not installed. Type: apt-get install nginx-light (or your system's own way); "
    "python -m stratos.serve alone serves this machine without it."
)
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models")
"""What is let through: servers have more, such as loading another model."""
_CONNECTIONS = 16_384
"""Open connections, those that wait among them."""
_FILES_A_CONNECTION = 2
_STOP_S = 60.0
_START_S = 15.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What a door lets through."""

    open_requests: int = 32
    """Requests that are answered or wait at once, of all keys together."""
    open_requests_per_key: int = 16
    max_body_kib: int = 256
    """Longest request."""
    header_seconds: int = 10
    """Longest time to send the head of a request."""
    answer_seconds: int = 600
    """Longest silence of the server in an answer."""


@dataclass(frozen=True)
class Door:
    """One nginx, in a folder of its own."""

    folder: Path

    @property
    def conf(self) -> Path:
        """Its config."""
        return self.folder / "nginx.conf"

    @property
    def log(self) -> Path:
        """One line a request: when, whose key, status and seconds; never what was asked."""
        return self.folder / "access.log"

    @property
    def errors(self) -> Path:
        """What nginx says of itself."""
        return self.folder / "error.log"

    @property
    def process(self) -> Process | None:
        """The nginx that runs; None if there is none."""
        try:
            pid = int((self.folder / "nginx.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        one = Process.of(pid)  # its title holds the path of its config
        return None if one.is_dead() or str(self.conf).encode() not in words else one

    def make_folder(self) -> None:
        """Make the folder, which nobody else reads: the config holds keys."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def start(self, text: str) -> bool:
        """Start nginx with a config, or have the one that runs take it; return whether it ran.

        Raises:
            StratosError: there is no nginx, or it refuses the config or does not start.
        """
        nginx = program()
        self.make_folder()
        call = [nginx, "-p", str(self.folder), "-e", str(self.errors), "-c"]
        before = self.conf.read_bytes() if self.conf.exists() else None
        with replacing_file(self.conf) as new:
            new.write_text(text)
            if (why := _refused([*call, str(new), "-t", "-q"])) is not None:
                raise StratosError(f"nginx refuses its config: {why}")
        if (running := self.process) is not None:
            try:
                self._reload(running)
            except StratosError:
                if before is not None:  # what it goes on with
                    write_atomically(self.conf, before)
                raise
            return True
        self._end_orphans()
        if (why := _refused([*call, str(self.conf)])) is not None:
            raise StratosError(f"nginx does not start: {why}")
        until = time.monotonic() + _START_S
        while self.process is None:
            if time.monotonic() > until:
                raise StratosError(
                    f"nginx does not start. The end of {self.errors}:\n{last_lines(self.errors)}"
                )
            time.sleep(_LOOK_S)
        return False

    def _reload(self, running: Process) -> None:
        """Have nginx take a new config, and wait until nobody is let in by the old one."""
        before = self._workers()
        os.kill(running.pid, signal.SIGHUP)
        until = time.monotonic() + _START_S
        while any(_is_open(title) for pid, title in self._workers().items() if pid in before):
            if time.monotonic() > until:
                raise StratosError(
                    "nginx does not take its new config. The end of "
                    f"{self.errors}:\n{last_lines(self.errors)}"
                )
            time.sleep(_LOOK_S)

    def _end_orphans(self) -> None:
        """End what still listens where the process was killed that had started it."""
        for pid in self._workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _workers(self) -> dict[int, bytes]:
        """Return the processes that let clients in, with their titles."""
        found = {}
        with contextlib.suppress(OSError, ValueError):
            group = int((self.folder / "nginx.pid").read_text())
            for one in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    title = (one / "cmdline").read_bytes()
                    if title.startswith(b"nginx: worker") and os.getpgid(int(one.name)) == group:
                        found[int(one.name)] = title
        return found

    def stop(self) -> bool:
        """Let nginx end what it answers, take nothing new, and end; return whether it ran.

        Raises:
            StratosError: it does not end.
        """
        running = self.process
        if running is None:
            self._end_orphans()
            return False
        for number in (signal.SIGQUIT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, number)
            until = time.monotonic() + _STOP_S
            while time.monotonic() < until:
                if running.is_dead():
                    return True
                time.sleep(_LOOK_S)
        raise StratosError(f"nginx does not end. Type: kill -9 {running.pid}")


def _is_open(title: bytes) -> bool:
    return b"shutting down" not in title


def program() -> str:
    """Return nginx.

    Raises:
        StratosError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which("nginx", path=path)
    if found is None:
        raise StratosError(NOT_INSTALLED)
    return found


def config(
    folder: Path,
    listen: str,
    port: int,
    keys: Mapping[str, str],
    limits: Limits,
    tls: tuple[Path, Path] | None = None,
) -> str:
    """Return the config of a door.

    Args:
        folder: of the door.
        listen: where it listens, as HOST:PORT.
        port: of the server behind it, on this machine.
        keys: name of a key to the key.
        limits: what it lets through.
        tls: certificate and its key; None for plain HTTP.
    """
    known = "\n".join(
        f'    "~^(?i:Bearer) +{re.escape(key)}$" {name};' for name, key in sorted(keys.items())
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_files = min(max(soft, hard), _FILES_A_CONNECTION * _CONNECTIONS)
    user = "user nobody nogroup;\n" if os.geteuid() == 0 and _has_nobody() else ""
    secure = "" if tls is None else (
        f" ssl;\n    ssl_certificate {_quoted(tls[0])};\n    ssl_certificate_key {_quoted(tls[1])}"
    )  # fmt: skip
    paths = "|".join(re.escape(one) for one in PATHS)
    body = limits.max_body_kib
    return f"""\
# Written by python -m stratos.door, and anew at each start.
{user}worker_processes 1;
worker_rlimit_nofile {n_files};
pid {_quoted(folder / "nginx.pid")};
error_log {_quoted(folder / "error.log")} warn;
events {{ worker_connections {n_files // _FILES_A_CONNECTION}; }}
http {{
  # Requests stay in memory, and are passed on when they are whole.
  client_max_body_size {body}k;
  client_body_buffer_size {body}k;
  client_body_temp_path {_quoted(folder / "tmp-body")};
  proxy_temp_path {_quoted(folder / "tmp-proxy")};
  fastcgi_temp_path {_quoted(folder / "tmp-fastcgi")};
  uwsgi_temp_path {_quoted(folder / "tmp-uwsgi")};
  scgi_temp_path {_quoted(folder / "tmp-scgi")};
  client_header_timeout {limits.header_seconds}s;
  client_body_timeout {limits.header_seconds}s;
  send_timeout 30s;
  keepalive_timeout 30s;
  server_tokens off;
  log_format door '$time_iso8601 $client $status $request_time s $bytes_sent $request_method $uri';
  access_log {_quoted(folder / "access.log")} door;
  map $http_authorization $client {{
    default "-";
{known}
  }}
  limit_conn_zone $client zone=key:1m;
  limit_conn_zone $server_name zone=all:1m;
  limit_conn_status 429;
  limit_conn_log_level info;
  upstream student {{ server 127.0.0.1:{port} max_fails=0; keepalive 32; }}
  server {{
    listen {listen}{secure};
    server_name student;
    default_type application/json;
    error_page 401 = @unauthorized;
    error_page 404 = @unknown;
    error_page 411 = @no_length;
    error_page 413 = @too_long;
    error_page 429 = @too_many;
    error_page 500 502 503 504 = @down;
    location ~ ^(?<asked>{paths})$ {{
      if ($client = "-") {{ return 401; }}
      # nginx would write to the disk what comes in many small pieces.
      if ($http_transfer_encoding) {{ return 411; }}
      limit_conn key {limits.open_requests_per_key};
      limit_conn all {limits.open_requests};
      # The path as it was compared, not as it was sent.
      proxy_pass http://student$asked$is_args$args;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "";
      proxy_buffering off;
      proxy_read_timeout {limits.answer_seconds}s;
      proxy_next_upstream off;
    }}
    location / {{ return 404; }}
    location @unauthorized {{
      add_header WWW-Authenticate Bearer always;
      return 401 '{_error("Unknown API key.", "invalid_api_key")}';
    }}
    location @unknown {{ return 404 '{_error("There is no such path.", "not_found")}'; }}
    location @no_length {{
      return 411 '{_error("A request needs a Content-Length.", "length_required")}';
    }}
    location @too_long {{
      return 413 '{_error(f"A request may have {body} KiB.", "request_too_large")}';
    }}
    location @too_many {{
      add_header Retry-After 1 always;
      return 429 '{_error("Too many requests at once.", "rate_limit_exceeded")}';
    }}
    location @down {{
      add_header Retry-After 5 always;
      return 503 '{_error("The server does not answer.", "unavailable")}';
    }}
  }}
}}
"""


def _error(message: str, code: str) -> str:
    """Return an error as OpenAI's clients read it."""
    return f'{{"error":{{"message":"{message}","type":"{code}","code":"{code}"}}}}'


def _quoted(path: Path) -> str:
    """Return a path as nginx reads it.

    Raises:
        StratosError: nginx would read it otherwise.
    """
    if re.search(r'["\\$\n]', str(path)):
        raise StratosError(f"{path}: nginx takes no path with such signs. Set STRATOS_CACHE.")
    return f'"{path}"'


def _has_nobody() -> bool:
    import grp
    import pwd

    try:
        pwd.getpwnam("nobody"), grp.getgrnam("nogroup")
    except KeyError:
        return False
    return True


def _refused(call: list[str]) -> str | None:
    """Run nginx to the point where it is a daemon; return why it does not come to that."""
    # A daemon keeps what it is given open: a file, and no pipe that would never end.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(call, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
        if not done.returncode:
            return None
        said.seek(0)
        lines = said.read().splitlines()
    first = next((one for one in lines if "[emerg]" in one), "".join(lines[:1]))
    return re.sub(r"^.*\[emerg\] (\d+#\d+: )?", "", first).strip() or "it says nothing"
