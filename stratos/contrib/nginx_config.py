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
from typing import Any

from stratos.core.errors import StratosError
from stratos.core.extensions import filled

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics")
"""What is let through: servers have more, such as loading another model."""
OPEN_PATHS = ("/health", "/ready")
"""What is let through without a key."""
_CONNECTIONS = 16_384
"""Open connections, those that wait among them."""
_FILES_A_CONNECTION = 2
_SENDERS_A_PLACE = 8
"""Requests of a key, or of an address, that may be on their way in for each that is answered."""


@dataclass(frozen=True)
class Limits:
    """What a door lets through."""

    open_requests: int = 256
    """Whole requests that are answered or wait at once, of all keys together: while an engine is
    started again, all wait."""
    open_requests_per_key: int = 128
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
    return _text(
        limits,
        folder=f"{folder}/",
        user=user,
        n_files=n_files,
        listen=f"{listen}{secure}",
        port=port,
        inner_port=inner_port,
        keys={name: re.escape(key) for name, key in keys.items()},
        is_logged=True,
    )


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
        limits,
        folder="",
        user="user nobody nogroup;\n",
        n_files=_FILES_A_CONNECTION * _CONNECTIONS,
        listen=listen,
        port=port,
        inner_port=inner_port,
        keys={"default": name},
        is_logged=False,
    )
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


def _text(limits: Limits, *, folder: str, n_files: int, **values: Any) -> str:
    """Return a config.

    Args:
        limits: what it lets through.
        folder: before the names of its files; "" for the folder that nginx is started in.
        n_files: open files at most.
        values: `user`, the directive that names who serves, "" for the one who starts it; what
            follows `listen`; the `port` of the server behind it and the `inner_port` where it
            hands whole requests on to itself; name of a key to the key as a regular expression in
            `keys`; and `is_logged`, whether each request has a line in a log, which nobody cuts.
    """
    return filled(
        __file__,
        "nginx.conf.jinja",
        file=lambda name: _quoted(f"{folder}{name}"),
        error=_error,
        paths="|".join(map(re.escape, PATHS)),
        open_paths="|".join(map(re.escape, OPEN_PATHS)),
        limits=limits,
        n_files=n_files,
        n_connections=n_files // _FILES_A_CONNECTION,
        of_key=_SENDERS_A_PLACE * limits.open_requests_per_key,
        of_address=_SENDERS_A_PLACE * limits.open_requests,
        **values,
    )


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
