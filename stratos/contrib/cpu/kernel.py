"""Builds `step.c` where a C compiler is found, and loads it.

It is compiled once a machine, which takes about a second, and kept in the cache folder of the user.
Without a compiler, `load` returns None and torch computes the steps.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path

from stratos.core.atomic_files import DiskFull, replacing_file, write_atomically
from stratos.core.digest import digest_of

_SOURCE = Path(__file__).with_name("step.c")
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC")
_DIGEST = ".sha256"
"""Suffix of the file beside a library that has its digest."""
_SECONDS = 60
"""Longest time that compiling may take."""


@cache
def load() -> ctypes.CDLL | None:
    """Return the compiled library; None where it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or os.name != "posix":
        return None
    source = _SOURCE.read_bytes()
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, timeout=_SECONDS, check=True
        ).stdout
        made_of = [source, version, " ".join(_FLAGS).encode(), _cpu()]
        name = f"step-{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:24]}.so"
        path = _folder() / name
        if not _is_whole(path):
            _compile(compiler, path)
        return _typed(ctypes.CDLL(str(path)))
    except (OSError, RuntimeError, DiskFull, subprocess.SubprocessError):
        return None  # no HOME is a RuntimeError


def _compile(compiler: str, path: Path) -> None:
    """Compile into a file of its own first: several processes may do so at once."""
    with replacing_file(path) as new:
        subprocess.run(
            [compiler, *_FLAGS, "-o", str(new), str(_SOURCE), "-lm"],
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        digest = digest_of(new)
    write_atomically(path.with_suffix(_DIGEST), digest.encode())


def _is_whole(path: Path) -> bool:
    """Return whether a library is there as it was compiled: a torn one would end the process.

    Raises:
        OSError: it is not this user's alone.
    """
    try:
        _check_own(path)
        return path.with_suffix(_DIGEST).read_text() == digest_of(path)
    except FileNotFoundError:
        return False


def _check_own(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written by others.")


def _folder() -> Path:
    """Return a folder that no other user can write to: what lies there is executed.

    Raises:
        OSError: it cannot be made.
    """
    root = Path(os.environ.get("STRATOS_CACHE") or "~/.cache/stratos").expanduser()
    folder = root / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_own(folder)
    return folder


def _cpu() -> bytes:
    """Return what the instructions of this machine's CPU depend on."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return f"{platform.machine()} {platform.processor()} {platform.version()}".encode()
    named = ("flags", "Features", "model name", "CPU part")
    lines = info.read_text(errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(named)})).encode()


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.stratos_vector.restype = ctypes.c_int
    library.stratos_work.argtypes, library.stratos_work.restype = [pointer, number, number], number
    library.stratos_step.argtypes = [pointer, number, pointer, pointer, pointer]
    library.stratos_step.restype = None
    return library
