"""`stratos door FOLDER`: write the config of an nginx before a student: keys, limits."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from stratos.contrib.nginx_config import Limits, config
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.output import count, print_secret
from stratos.deploy.hosted_server import (
    Hosted,
    ServerFront,
    cache_of_user,
    disk_of_served,
    hosted_bundle,
    state_of,
)
from stratos.deploy.server import free_port

_NAME = re.compile(r"(?!-$)[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9_.+/=~-]{16,512}")
"""Of what nginx reads as it stands."""
_LISTEN = re.compile(r"[A-Za-z0-9.:*\[\]-]+:[0-9]{1,5}")
_HERE = re.compile(r"(127\.|0\.0\.0\.0:|localhost:|\*:|\[::1?\]:)")
_CHECK_PID = "check.pid"
_NO_NGINX = "nginx is not installed. Type: apt-get install nginx-light"
_OF_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")


class DoorFront(ServerFront):
    """Says how others are let in to a hosted student."""

    def hint(self, folder: str) -> str:
        """Return how others are let in."""
        return f"To let others reach it: stratos door {folder}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Write the config of an nginx before a student that stratos serve hosts, and print the "
        "command that starts it. nginx asks for a key, limits size and number of requests, and "
        "answers 429 when they are too many. Given again, the command writes other keys and limits."
    )
    limits = Limits()
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="run folder, or a bundle")
    parser.add_argument("--listen", default="127.0.0.1:8443", help="HOST:PORT (%(default)s)")
    parser.add_argument("--keys", type=Path, help="file of lines NAME KEY (default: one is made)")
    parser.add_argument("--tls-cert", type=Path, help="certificate, for HTTPS")
    parser.add_argument("--tls-key", type=Path, help="key of the certificate")
    parser.add_argument(
        "--open-requests", type=count, default=limits.open_requests,
        help="that are answered or wait at once (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--open-requests-per-key", type=count, default=limits.open_requests_per_key,
        help="(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-body-kib", type=count, default=limits.max_body_kib,
        help="longest request (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--foreground", action="store_true", help="be that nginx from now on, until Ctrl-C"
    )


def run(args: argparse.Namespace) -> None:
    """Write the config and say what to type, or do it.

    Raises:
        StratosError: the folder is not hosted, or an option cannot be used.
    """
    cache_dir = cache_of_user()
    with disk_of_served(cache_dir):
        state = state_of(hosted_bundle(args.folder, cache_dir), cache_dir)
        nginx = _write(state.with_suffix(".door"), Hosted.read(state), args)
    if args.foreground:
        sys.stdout.flush()
        os.execvp(nginx[0], [*nginx, "-g", "daemon off;"])


def _write(door: Path, hosted: Hosted | None, args: argparse.Namespace) -> list[str]:
    """Write the config; return the command that starts its nginx."""
    if hosted is None or not hosted.runs:
        name = shlex.quote(str(args.folder))
        raise StratosError(f"{args.folder} is not hosted. Type first: stratos serve {name}")
    if hosted.key_file:
        raise StratosError(f"{hosted.url} asks for a key itself. Serve it without --host.")
    if (args.tls_cert is None) != (args.tls_key is None):
        raise StratosError("--tls-cert and --tls-key go together.")
    port = int(args.listen.rpartition(":")[2]) if _LISTEN.fullmatch(args.listen) else 0
    if not 0 < port < 65536:
        raise StratosError(f"--listen {args.listen}: type HOST:PORT, such as 0.0.0.0:8443.")
    if port == hosted.port and _HERE.match(args.listen):
        raise StratosError(f"--listen {args.listen}: the student itself has this port.")
    tls = None if args.tls_cert is None else (args.tls_cert.resolve(), args.tls_key.resolve())
    door.mkdir(parents=True, exist_ok=True)
    door.chmod(0o700)  # the config holds keys
    keys = read_keys(door / "keys" if args.keys is None else args.keys, makes=args.keys is None)
    limits = Limits(
        open_requests=args.open_requests,
        open_requests_per_key=args.open_requests_per_key,
        max_body_kib=args.max_body_kib,
    )
    # An inner port that stays lets requests end that come in while nginx reads the new config.
    text = config(door, args.listen, hosted.port, _inner_port(door), keys, limits, tls)
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None and args.foreground:
        raise StratosError(_NO_NGINX)
    nginx = [program or "nginx", "-p", f"{door}/", "-e", "error.log", "-c"]
    if program is not None:
        _check(door / "nginx.conf.new", text, nginx)
    write_atomically(door / "nginx.conf", text.encode())
    (door / "nginx.conf").chmod(0o600)
    nginx.append(str(door / "nginx.conf"))
    _explain(door, hosted, args, keys, nginx)
    return nginx


def _check(path: Path, text: str, nginx: list[str]) -> None:
    """Have nginx read a config before it takes the place of the one that runs.

    Raises:
        StratosError: nginx refuses it, such as for a certificate that cannot be read.
    """
    # A check writes an empty file, whatever runs there.
    write_atomically(path, text.replace("nginx.pid", _CHECK_PID).encode())
    path.chmod(0o600)
    done = subprocess.run([*nginx, str(path), "-q", "-t"], capture_output=True, text=True)
    path.unlink()
    path.with_name(_CHECK_PID).unlink(missing_ok=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "[emerg]" in line] or [done.stderr]
        first = lines[0].replace(f" in {path}", "")
        # Whoever starts it may do more, such as root, and an address may come later.
        if not any(cause in first for cause in ("Permission denied", "(99: ")):
            raise StratosError(f"nginx refuses this: {first} The door stays as it was.")
        print(f"Warning: nginx cannot check this for you: {first}", file=sys.stderr)


def _inner_port(door: Path) -> int:
    path = door / "inner_port"
    if not path.exists():
        write_atomically(path, str(free_port()).encode())
    return int(path.read_text())


def _explain(
    door: Path,
    hosted: Hosted,
    args: argparse.Namespace,
    keys: dict[str, str],
    nginx: list[str],
) -> None:
    address = f"{'http' if args.tls_cert is None else 'https'}://{args.listen}/v1"
    call = shlex.join(nginx)
    print(f"{door / 'nginx.conf'}: {address}, with {counted(len(keys), 'key')}.")
    if args.keys is None:
        print_secret(f"  key:    {next(iter(keys.values()))} (stays in {door / 'keys'})")
    print(
        f"  start:  {call}\n"
        f"  change: {call} -s reload\n"
        f"  stop:   {call} -s quit\n"
        f"  ask:    curl {address}/chat/completions -H 'Authorization: Bearer <key>' "
        f"-H 'Content-Type: application/json' -d {hosted.example_data}\n"
        f"  watch:  tail -f {shlex.quote(str(door / 'access.log'))} (never what is asked)\n"
        "It stays as it is while the student is replaced or started again. Stop it when you stop "
        "the student: it would hand requests to whoever takes its port."
    )
    if nginx[0] == "nginx":
        print(_NO_NGINX)
    if args.tls_cert is None and args.listen.rpartition(":")[0] not in _OF_THIS_MACHINE:
        print(
            "Warning: keys and questions travel in plain text. Type --tls-cert and --tls-key, or "
            "put it behind what speaks HTTPS."
        )


def read_keys(path: Path, *, makes: bool = False) -> dict[str, str]:
    """Return the keys of a file by their names.

    Args:
        path: of the file.
        makes: whether a file that is not there is written, with one key.

    Raises:
        StratosError: a line is no name and key; the message does not show it.
    """
    if makes and not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"default sk-{secrets.token_hex(24)}\n")
    keys: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")  # such a line is refused
    except OSError as error:
        raise StratosError(f"--keys {path} cannot be read: {error.strerror}.") from error
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
