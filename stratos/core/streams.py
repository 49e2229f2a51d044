"""Redacted standard output and error that never abort the run.

What is written passes the one redaction. A terminal that knows ASCII alone gets question marks; a
stream that is closed, or a disk that is full, gets nothing more: what a run makes lies in its
folder, and is worth more than what is said about it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from stratos.core.redact import HIDDEN, redact, redact_override, redact_text


class Guarded:
    """A stream in front of another."""

    def __init__(self, stream: TextIO | None) -> None:
        """Write to `stream`; None takes what is written nowhere."""
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115 - as long as the process
        self.trouble: OSError | None = None
        """What the stream could not write; nothing is tried after it."""

    def write(self, text: str) -> int:
        """Write text without its secrets."""
        self.write_as_it_is(redact_text(text))
        return len(text)

    def write_as_it_is(self, text: str) -> None:
        """Write text with its secrets."""
        try:
            self._do("write", text)
        except UnicodeEncodeError as error:
            self._do("write", text.encode(error.encoding, "replace").decode(error.encoding))

    def flush(self) -> None:
        """Write what is kept back."""
        self._do("flush")

    def isatty(self) -> bool:
        """Return whether it is a terminal; one that is closed is none."""
        return not self._stream.closed and self._stream.isatty()

    def _do(self, what: str, *arguments: str) -> None:
        if self.trouble is not None:
            return
        try:
            getattr(self._stream, what)(*arguments)
        except (BrokenPipeError, UnicodeEncodeError):  # whoever reads along has seen enough
            raise
        except (OSError, ValueError) as error:  # full, or closed
            self.trouble = error if isinstance(error, OSError) else OSError(str(error))

    def __getattr__(self, name: str) -> Any:
        """Return whatever else the stream has."""
        return getattr(self._stream, name)


def print_secret(line: str) -> None:
    """Print a line with a secret that the user has asked for: a key that was just made."""
    if isinstance(sys.stdout, Guarded):
        sys.stdout.write_as_it_is(f"{line}\n")
    else:
        print(line)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Put a guard in front of both streams while the block lasts."""
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    out, error = Guarded(sys.stdout), Guarded(sys.stderr)
    sys.stdout, sys.stderr = out, error
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            out.flush()
        _say_what_is_lost(out, error)
        sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    """Open nothing under the numbers of closed streams, which a file would be given else."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _say_what_is_lost(out: Guarded, error: Guarded) -> None:
    if out.trouble is not None:
        reason = out.trouble.strerror or str(out.trouble)
        error.write(f"Standard output could not be written ({reason}).\n")
        # Python would try once more at its end, and fail with a traceback.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _Hiding(logging.Formatter):
    """A formatter in front of another: what it made, without secrets."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(self._formatter.format(record))


def guard_logs() -> None:
    """Hide secrets in all that the handlers of loggers write.

    A log that cannot be written, on a full disk, is no reason for a traceback on the screen.
    """
    logging.raiseExceptions = False
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(one for one in named if isinstance(one, logging.Logger))]
    for handler in [handler for logger in loggers for handler in logger.handlers]:
        if not isinstance(handler.formatter, _Hiding):
            handler.setFormatter(_Hiding(handler.formatter or logging.Formatter()))


def guard_files(folder: Path) -> None:
    """Take secrets out of what Hydra kept of a command: its config and its overrides."""
    import yaml

    for path in sorted(folder.glob("*.yaml")):
        with contextlib.suppress(OSError):
            text = path.read_text()
            try:
                clean = _clean(yaml.safe_load(text))
            except yaml.YAMLError:
                path.write_text(redact_text(text).replace(HIDDEN, f"'{HIDDEN}'"))
                continue
            if clean != yaml.safe_load(text):
                path.write_text(yaml.safe_dump(clean, sort_keys=False, allow_unicode=True))


def _clean(node: Any, name: str = "") -> Any:
    """Return a node without secrets; a text with an equals sign may be an override."""
    if isinstance(node, dict):
        return {key: _clean(value, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [_clean(item, name) for item in node]
    if isinstance(node, str) and "=" in node and "${" not in node:
        return redact_override(node)
    return redact(node, name)
