"""`stratos door FOLDER`: keys and limits before a hosted student; status, stop."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import secrets
import shlex
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stratos.contrib.door.nginx import Door, Opened
from stratos.contrib.nginx_config import Limits, config
from stratos.core.counted import counted
from stratos.core.errors import StratosError, UsageError
from stratos.core.streams import print_secret
from stratos.deploy.hosted_server import (
    Hosted,
    cache_of_user,
    disk_of_served,
    hosted_bundle,
    state_of,
)
from stratos.deploy.server import free_port

_NAME = re.compile(r"(?!-$)[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9_.+/=~-]{16,512}")
"""Of what nginx reads as it stands."""
_WAITS_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.usage = "stratos door [status|stop] FOLDER [options]"
    parser.description = (
        "Let other machines reach a student that stratos serve hosts: nginx asks for a key, limits "
        "size and number of requests, and answers 429 when they are too many. Given again, the "
        "command changes the keys and limits of the door that is open."
    )
    limits = Limits()
    parser.add_argument("words", nargs="+", metavar="FOLDER", help="run folder, or a bundle")
    parser.add_argument("--listen", default="127.0.0.1:8443", help="HOST:PORT (%(default)s)")
    parser.add_argument("--keys", type=Path, help="file of lines NAME KEY (default: one is made)")
    parser.add_argument("--tls-cert", type=Path, help="certificate, for HTTPS")
    parser.add_argument("--tls-key", type=Path, help="key of the certificate")
    parser.add_argument(
        "--open-requests", type=_count, default=limits.open_requests,
        help="that are answered or wait at once (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--open-requests-per-key", type=_count, default=limits.open_requests_per_key,
        help="(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-body-kib", type=_count, default=limits.max_body_kib,
        help="longest request (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--header-seconds", type=_count, default=10, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    """Open a door, say how it is, or close it.

    Raises:
        UsageError: the words do not name one folder.
        StratosError: it cannot be done.
    """
    command = args.words[0] if args.words[0] in ("status", "stop") else ""
    folders = [Path(word) for word in args.words[bool(command) :]]
    if len(folders) != 1:
        raise UsageError("name one folder: stratos door outputs/<run>")
    with disk_of_served(cache_of_user()):
        door, hosted = _found(folders[0])
        if command == "stop":
            print("Closed." if door.stop() else "It was not open.")
        elif command == "status":
            print(door.status())
        else:
            _open(door, hosted, folders[0], args)


def _found(folder: Path) -> tuple[Door, Hosted | None]:
    cache_dir = cache_of_user()
    state = state_of(hosted_bundle(folder, cache_dir), cache_dir)
    return Door(state.with_suffix(".door")), Hosted.read(state)


def _open(door: Door, hosted: Hosted | None, folder: Path, told: argparse.Namespace) -> None:
    name = shlex.quote(str(folder))
    if hosted is None or not hosted.runs:
        raise StratosError(f"{folder} is not hosted. Type first: stratos serve {name}")
    if (told.tls_cert is None) != (told.tls_key is None):
        raise StratosError("--tls-cert and --tls-key go together.")
    tls = None if told.tls_cert is None else (told.tls_cert.resolve(), told.tls_key.resolve())
    host, port = _address(told.listen)
    keys = _made(door) if told.keys is None else _read(told.keys)
    limits = Limits(
        open_requests=told.open_requests,
        open_requests_per_key=told.open_requests_per_key,
        max_body_kib=told.max_body_kib,
        header_seconds=told.header_seconds,
    )
    before = door.opened if door.process is not None else None
    # An inner port that stays lets requests end that come in while nginx reads the new config.
    inner_port = free_port() if before is None else before.inner_port
    text = config(door.folder, told.listen, hosted.port, inner_port, keys, limits, tls)
    door.make_folder()
    door.write_opened(Opened(told.listen, hosted.port, inner_port))
    try:
        ran = door.start(text)
    except BaseException:
        door.write_opened(before)
        raise
    _check(host, port, keys, hosted, tls is not None)
    address = f"{'http' if tls is None else 'https'}://{told.listen}/v1"
    print(f"{'Changed' if ran else 'Open'} at {address}, with {counted(len(keys), 'key')}.")
    if told.keys is None:
        print_secret(f"  key:    {next(iter(keys.values()))} (kept in {door.folder / 'keys'})")
    print(
        f"  ask:    curl {address}/chat/completions -H 'Authorization: Bearer <key>' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(hosted.example)}\n"
        f"  watch:  tail -f {shlex.quote(str(door.log))} (never what is asked)\n"
        f"  stop:   stratos door stop {name}"
    )
    if tls is None and host not in ("127.0.0.1", "localhost", "[::1]"):
        print(
            "Warning: keys and questions travel in plain text. Type --tls-cert and --tls-key, or "
            "put it behind what speaks HTTPS."
        )


def _check(host: str, port: int, keys: Mapping[str, str], hosted: Hosted, is_tls: bool) -> None:
    """Ask through the door, with a key and without.

    Raises:
        StratosError: it does not let a question through, or lets one through without a key.
    """
    asked: dict[str, Any] = {
        "messages": hosted.known[0].messages if hosted.known else [
            {"role": "user", "content": "Hello"}
        ],
        "max_tokens": hosted.max_tokens or 1, "temperature": 0,
        "model": hosted.student or hosted.bundle,
    }  # fmt: skip
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1", "*": "127.0.0.1"}.get(host, host.strip("[]"))
    for key, wanted in ((None, 401), (next(iter(keys.values())), 200)):
        status, text = _asked(host, port, key, asked, is_tls)
        if status != wanted:
            raise StratosError(
                f"The door is open, and a question {'with' if key else 'without'} a key was "
                f"answered {status}, not {wanted}: {text[:200]}"
            )


def _asked(host: str, port: int, key: str | None, asked: Any, is_tls: bool) -> tuple[int, str]:
    connection: http.client.HTTPConnection
    if is_tls:  # whose the certificate is, is for its clients to judge
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_WAITS_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_WAITS_S)
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise StratosError(f"The door does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not re.fullmatch(r"[A-Za-z0-9.:*\[\]-]+", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise StratosError(f"--listen {listen}: type HOST:PORT, such as 0.0.0.0:8443.")
    return host, int(port)


def _made(door: Door) -> dict[str, str]:
    """Return the key that was made for this door, now or before."""
    path = door.folder / "keys"
    if not path.exists():
        door.make_folder()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"default sk-{secrets.token_hex(24)}\n")
    return _read(path)


def _read(path: Path) -> dict[str, str]:
    """Return the keys of a file by their names.

    Raises:
        StratosError: a line is no name and key; the message does not show it.
    """
    keys: dict[str, str] = {}
    text = path.read_text(encoding="utf-8", errors="replace")  # such a line is refused
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not _NAME.fullmatch(words[0]) or not _KEY.fullmatch(words[1]):
            raise StratosError(
                f"{path}, line {number}: type a name (letters, digits, _ . -) and a key of at "
                "least 16 characters (letters, digits, _ . + / = ~ -), with a space between."
            )
        if words[0] in keys or words[1] in keys.values():
            raise StratosError(f"{path}, line {number}: this name or key is there already.")
        keys[words[0]] = words[1]
    if not keys:
        raise StratosError(f"{path} holds no key.")
    return keys


def _count(text: str) -> int:
    found = int(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text}: 1 or more")
    return found
