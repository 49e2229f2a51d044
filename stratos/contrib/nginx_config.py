"""The config of the nginx before a student: keys, paths, sizes, and how many requests at once.

A door on this machine (`stratos.contrib.door`) and the servers of a service file
(`stratos.contrib.skypilot`) have the same.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stratos.core.errors import StratosError

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models")
"""What is let through: servers have more, such as loading another model."""
_CONNECTIONS = 16_384
"""Open connections, those that wait among them."""
_FILES_A_CONNECTION = 2
_SENDERS_A_PLACE = 8
"""Requests of a key, or of an address, that may be on their way in for each that is answered."""


@dataclass(frozen=True)
class Limits:
    """What a door lets through."""

    open_requests: int = 32
    """Whole requests that are answered or wait at once, of all keys together."""
    open_requests_per_key: int = 16
    max_body_kib: int = 256
    """Longest request."""
    header_seconds: int = 10
    """Longest time to send the head of a request."""
    answer_seconds: int = 600
    """Longest silence of the server in an answer."""


def config(
    folder: Path,
    listen: str,
    port: int,
    inner_port: int,
    keys: Mapping[str, str],
    limits: Limits,
    tls: tuple[Path, Path] | None = None,
) -> str:
    """Return the config of a door on this machine.

    Args:
        folder: of the door.
        listen: where it listens, as HOST:PORT.
        port: of the server behind it, on this machine.
        inner_port: where it hands whole requests on to itself, on this machine.
        keys: name of a key to the key.
        limits: what it lets through.
        tls: certificate and its key; None for plain HTTP.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_files = min(max(soft, hard), _FILES_A_CONNECTION * _CONNECTIONS)
    user = "user nobody nogroup;\n" if os.geteuid() == 0 and _has_nobody() else ""
    secure = "" if tls is None else (
        f" ssl;\n    ssl_certificate {_quoted(tls[0])};\n    ssl_certificate_key {_quoted(tls[1])}"
    )  # fmt: skip
    known = {name: re.escape(key) for name, key in keys.items()}
    return _text(
        f"{folder}/", user, n_files, f"{listen}{secure}", port, inner_port, known, limits,
        is_logged=True,
    )  # fmt: skip


def script(listen: str, port: int, inner_port: int, variable: str, limits: Limits) -> str:
    """Return the shell commands that start a door on a server, with one key from its environment.

    The config lies in a folder of the user alone, since it holds the key.

    Args:
        listen: where it listens, as PORT or HOST:PORT.
        port: of the server behind it, on the same machine.
        inner_port: where it hands whole requests on to itself, on the same machine.
        variable: of the environment, with the key: letters, digits, - and _, which a config of
            nginx and a shell take as they stand.
        limits: what it lets through.
    """
    name = "THE_KEY"
    text = _text(
        "", "user nobody nogroup;\n", _FILES_A_CONNECTION * _CONNECTIONS, listen, port,
        inner_port, {"default": name}, limits, is_logged=False,
    )  # fmt: skip
    # In a here-document the shell's own signs are escaped; the key is the shell's.
    escaped = re.sub(r"([\\$`])", r"\\\1", text).replace(name, f"${{{variable}}}")
    return f"""\
case "${variable}" in
  ''|*[!A-Za-z0-9_-]*) echo "{variable}: letters, digits, - and _ alone." >&2; exit 1 ;;
esac
mkdir -p -m 700 ~/door
cat > ~/door/nginx.conf <<END
{escaped}END
sudo nginx -p "$HOME/door/" -e error.log -c "$HOME/door/nginx.conf"
"""


def _text(
    folder: str,
    user: str,
    n_files: int,
    listen: str,
    port: int,
    inner_port: int,
    keys: Mapping[str, str],
    limits: Limits,
    *,
    is_logged: bool,
) -> str:
    """Return a config.

    Args:
        folder: before the names of its files; "" for the folder that nginx is started in.
        user: directive that names who serves; "" for the one who starts it.
        n_files: open files at most.
        listen: what follows `listen`.
        port: of the server behind it.
        inner_port: where it hands whole requests on to itself.
        keys: name of a key to the key as a regular expression.
        limits: what it lets through.
        is_logged: whether each request has a line in a log, which nobody cuts.
    """
    known = "\n".join(f'    "~^(?i:Bearer) +{key}$" {name};' for name, key in sorted(keys.items()))

    def file(name: str) -> str:
        return _quoted(f"{folder}{name}")

    paths = "|".join(re.escape(one) for one in PATHS)
    body = limits.max_body_kib
    of_key = _SENDERS_A_PLACE * limits.open_requests_per_key
    of_address = _SENDERS_A_PLACE * limits.open_requests
    passing = f"""\
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout {limits.answer_seconds}s;
      proxy_next_upstream off;"""
    errors = f"""\
    location @too_many {{
      add_header Retry-After 1 always;
      return 429 '{_error("Too many requests at once.", "rate_limit_exceeded")}';
    }}
    location @down {{
      add_header Retry-After 5 always;
      return 503 '{_error("The server does not answer.", "unavailable")}';
    }}"""
    return f"""\
# Written by Stratos, and anew at each start.
{user}worker_processes 1;
worker_rlimit_nofile {n_files};
pid {file("nginx.pid")};
error_log {file("error.log")} warn;
events {{ worker_connections {n_files // _FILES_A_CONNECTION}; }}
http {{
  # Requests stay in memory, and are passed on when they are whole.
  client_max_body_size {body}k;
  client_body_buffer_size {body}k;
  client_body_temp_path {file("tmp-body")};
  proxy_temp_path {file("tmp-proxy")};
  fastcgi_temp_path {file("tmp-fastcgi")};
  uwsgi_temp_path {file("tmp-uwsgi")};
  scgi_temp_path {file("tmp-scgi")};
  client_header_timeout {limits.header_seconds}s;
  client_body_timeout {limits.header_seconds}s;
  send_timeout 30s;
  keepalive_timeout 30s;
  server_tokens off;
  log_format door '$time_iso8601 $client $status $request_time s $bytes_sent $request_method $uri';
  access_log {f"{file('access.log')} door" if is_logged else "off"};
  map $http_authorization $client {{
    default "-";
{known}
  }}
  limit_conn_zone $client zone=sender:1m;
  limit_conn_zone $binary_remote_addr zone=address:4m;
  limit_conn_zone $http_x_door_key zone=key:1m;
  limit_conn_zone $server_name zone=all:1m;
  limit_conn_status 429;
  limit_conn_log_level info;
  upstream student {{ server 127.0.0.1:{port} max_fails=0; keepalive 32; }}
  upstream inside {{
    server 127.0.0.1:{inner_port} max_fails=0;
    keepalive 32;
    keepalive_timeout 15s;
  }}
  server {{
    listen {listen};
    server_name door;
    default_type application/json;
    # Pages and no names: a request that cannot be read has no path.
    error_page 400 494 497 /-/unreadable;
    error_page 405 501 505 /-/unsupported;
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
      # Of those that send slowly, so that their memory has a bound.
      limit_conn sender {of_key};
      limit_conn address {of_address};
      # The path as it was compared, not as it was sent.
      proxy_pass http://inside$asked$is_args$args;
      proxy_set_header X-Door-Key $client;
      proxy_set_header Authorization "";
{passing}
    }}
    location / {{ return 404; }}
    location = /-/unreadable {{
      internal;
      return 400 '{_error("The request cannot be read.", "bad_request")}';
    }}
    location = /-/unsupported {{
      internal;
      return 501 '{_error("Such requests are not answered.", "not_supported")}';
    }}
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
{errors}
  }}
  # nginx counts a request when it has read its head. Here it has a place only when it is whole.
  server {{
    listen 127.0.0.1:{inner_port};
    server_name student;
    default_type application/json;
    access_log off;
    error_page 429 = @too_many;
    error_page 500 502 503 504 = @down;
    location / {{
      limit_conn key {limits.open_requests_per_key};
      limit_conn all {limits.open_requests};
      proxy_pass http://student;
      proxy_set_header X-Door-Key "";
{passing}
    }}
{errors}
  }}
}}
"""


def _error(message: str, code: str) -> str:
    """Return an error as OpenAI's clients read it."""
    return f'{{"error":{{"message":"{message}","type":"{code}","code":"{code}"}}}}'


def _quoted(path: Path | str) -> str:
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
