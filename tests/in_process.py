"""The command in this process: how it ends and what it writes, without the start of another one."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """How a command has ended; the names are those of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def stratos(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Type `stratos` with these words.

    Args:
        words: all of them.
        cwd: where it is typed; None for the folder of this process.
        env: variables of the environment that it has beside those of this process.
    """
    with as_a_process(cwd or Path(), env or {}) as (out, error):
        code = exit_code(words)
    return Done(code, out.getvalue(), error.getvalue())


def exit_code(words: tuple[str, ...] | list[str]) -> int:
    """Return the code with which the command ends, however it does."""
    from stratos.__main__ import main

    try:
        return main(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


@contextlib.contextmanager
def as_a_process(cwd: Path, env: Mapping[str, str]) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Give the block streams and what else a process has of its own; put everything back."""
    out, error = io.StringIO(), io.StringIO()
    where, environ, arguments = os.getcwd(), dict(os.environ), sys.argv
    handlers, level = logging.root.handlers[:], logging.root.level
    caught = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    os.chdir(cwd)
    os.environ.update(env)
    sys.argv = ["stratos"]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            yield out, error
    finally:
        sys.argv = arguments
        os.chdir(where)
        os.environ.clear()
        os.environ.update(environ)
        logging.root.handlers[:], logging.root.level = handlers, level
        for name, handler in caught.items():
            signal.signal(name, handler)
