"""What a process writes: standard output and logs without secrets, lines of JSON, full disks.

What is written passes the one redaction. A terminal that knows ASCII alone gets question marks; a
stream that is closed, or a disk that is full, gets nothing more: what a run makes lies in its
folder, and is worth more than what is said about it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import msgspec

from stratos.core.errors import StratosError
from stratos.core.formats import visible
from stratos.core.reasons import Because, Reason
from stratos.core.redact import HIDDEN, redact, redact_override, redact_text

_UNSAFE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    # Colours, and what redraws a line of progress; else an escape may clear the screen.
    r"|\x1b(?!\[(?:[\d;]*m|[02]?K|\d*A|\?25[hl]))"
)
"""Controls but tabs, line ends and what rich writes; marks that turn the direction of a text."""


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"  # in JSON the same character


class Guarded:
    """A stream in front of another."""

    def __init__(self, stream: TextIO | None) -> None:
        """Write to `stream`; None takes what is written nowhere."""
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115 - as long as the process
        self.trouble: OSError | None = None
        """What the stream could not write; nothing is tried after it."""

    def write(self, text: str) -> int:
        """Write text without its secrets, and without what would steer a terminal or hide words.

        What other people wrote is escaped where it is printed; this is the net below that rule.
        """
        self.write_as_it_is(_UNSAFE.sub(_escaped, redact_text(text)))
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


class Hiding(logging.Formatter):
    """A formatter in front of another: what it made, without secrets."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redact_text(self._formatter.format(record))


def guard_logs() -> None:
    """Hide secrets in all that the handlers of loggers write.

    A log that cannot be written, on a full disk, is no reason for a traceback on the screen.
    """
    logging.raiseExceptions = False
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]
    for handler in [handler for logger in loggers for handler in logger.handlers]:
        if not isinstance(handler.formatter, Hiding):
            handler.setFormatter(Hiding(handler.formatter or logging.Formatter()))


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


FLAG, QUIET, VERBOSE, WATCH = "--json", "--quiet", "--verbose", "--watch"
SCREEN_FLAGS = {
    FLAG: "STRATOS_JSON",
    QUIET: "STRATOS_QUIET",
    VERBOSE: "STRATOS_VERBOSE",
    WATCH: "STRATOS_WATCH",
}
"""What a run is told about its screen, and the variables by which its processes know of it."""


def add_flag(parser: argparse.ArgumentParser, what: str = "one JSON object") -> None:
    """Add the flag to a command that has it.

    Args:
        parser: of the command.
        what: it prints then.
    """
    parser.add_argument(FLAG, action="store_true", help=what)


def count(text: str) -> int:
    """Read a whole number of 1 or more, as a type of an argument."""
    return _whole(text, 1, 65535)


def port_number(text: str) -> int:
    """Read the number of a port, 0 for any that is free, as a type of an argument."""
    return _whole(text, 0, 65535)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from {least} to {most}")
    return int(text)


def json_line(value: object) -> str:
    """Return a value as JSON without line breaks.

    Args:
        value: of dicts, lists, plain values and dataclasses; of numbers that are not finite, which
            JSON has none of, null is written.
    """
    plain = msgspec.json.decode(msgspec.json.encode(value, enc_hook=float))  # NumPy's, too
    return json.dumps(plain)


_kept: list[TextIO] = []
"""Standard output, while all else that is written to it goes to standard error."""


def take_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without these flags, which Hydra does not know; remember them."""
    for flag in SCREEN_FLAGS.keys() & {*arguments}:
        os.environ[SCREEN_FLAGS[flag]] = "1"
    return [word for word in arguments if word not in SCREEN_FLAGS]


def is_on(flag: str) -> bool:
    """Return whether the command was typed with one of these flags."""
    return os.environ.get(SCREEN_FLAGS[flag]) == "1"


def is_for_machines() -> bool:
    """Return whether standard output is kept for the line."""
    return is_on(FLAG)


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Keep standard output for the lines, whoever else writes to it: Hydra, a library."""
    if not is_for_machines():
        yield
        return
    _kept.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def say_ended(folder: Path, stages: Sequence[str], numbers: Mapping[str, Any], usd: float) -> None:
    """Write the line of a run that has ended well, if it was asked for.

    Args:
        folder: of the run.
        stages: that have a record.
        numbers: that runs are compared by.
        usd: spent by the run.
    """
    _say({"status": "finished", "folder": str(folder), "stages": list(stages), "spent_usd": usd,
          **numbers})  # fmt: skip


def say_failed(folder: Path, error: BaseException) -> None:
    """Write the line of a run that has failed, if it was asked for."""
    text = redact_text(visible(str(error))) or type(error).__name__
    _say({"status": "failed", "folder": str(folder), "error": text})


def _say(line: Mapping[str, Any]) -> None:
    if is_for_machines():
        print(json_line(line), file=_kept[-1] if _kept else sys.stdout, flush=True)


# --- what a disk refuses --------------------------------------------------------------------------

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}
_IN_THE_WAY = {
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip
_BROKEN = {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ENODEV}
_REFUSALS = (
    (
        {errno.EFBIG},
        "{path} cannot grow any more ({cause}): this shell limits the size of files. Type "
        "ulimit -f unlimited. {again}",
    ),
    (_NO_ROOM, "no space left to write {path} ({cause}). Free some. {again}"),
    (
        _NO_RIGHT,
        "{path} cannot be written ({cause}). Give another folder with hydra.run.dir=<folder>, or "
        "paths.cache_dir=<folder> for the cache.",
    ),
    (
        _IN_THE_WAY,
        "{path} is in the way of a file of this run ({cause}). Remove or rename it. {again}",
    ),
    (_BROKEN, "{path} cannot be read or written ({cause}). {again}"),
)
"""Error numbers, and what is said of the path that has them."""
_TRIED_BYTES = 2**20
"""Bytes that a folder has to take if it is not what a library failed on."""
_LEAST_BYTES, _LEAST_FILES = 2**16, 16
"""What Hydra writes before a run begins, where an error would be its own."""


def why_no_run_folder(folder: Path, *, is_sweep: bool = False) -> Reason | None:
    """Return why a run cannot begin in a folder, as the end of a sentence; None if it can.

    Args:
        folder: which need not be there yet.
        is_sweep: jobs have folders of their own below it.
    """
    nearest = folder.absolute()
    while not os.path.exists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(folder)  # a name may be too long for any disk
        _try_to_write(nearest, _LEAST_BYTES)
        if sys.platform != "win32":
            room = os.statvfs(nearest)
            if room.f_files and room.f_favail < _LEAST_FILES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        return Because(f"{nearest} cannot be written ({error.strerror})")
    path = None if is_sweep else _in_the_way(folder)
    return None if path is None else Because(f"{path} is in the way of a file of the run")


def _in_the_way(folder: Path) -> Path | None:
    """Return what is no file, or no folder, where Hydra writes one before the run begins."""
    hydra = folder / ".hydra"
    if os.path.lexists(hydra) and not hydra.is_dir():
        return hydra
    files = [*(hydra / f"{name}.yaml" for name in ("config", "hydra", "overrides"))]
    files.append(folder / "stratos.log")
    return next((path for path in files if os.path.lexists(path) and not path.is_file()), None)


@contextlib.contextmanager
def disk_errors(stage: str, folder: Path, cache_dir: Path | None = None) -> Iterator[None]:
    """Turn what a disk refuses into a message that says how to go on.

    Libraries that write (weights, tables, databases) raise errors of their own where a disk is
    full. So, behind any error that nobody expects, each folder is tried: one that cannot be
    written is the reason.

    Args:
        stage: which one writes.
        folder: of the run.
        cache_dir: folder that runs share.

    Raises:
        StratosError: the disk cannot be written, or read.
    """
    try:
        yield
    except StratosError:
        raise
    except Exception as error:
        refusal = _refusal(stage, folder, error)
        if not refusal:
            folders = (folder, cache_dir, Path(tempfile.gettempdir()))
            refusal = next(filter(None, (_unwritable(stage, folder, each) for each in folders)), "")
        if not refusal:
            raise
        raise StratosError(refusal) from error


def why_unwritten(error: OSError, folder: Path, another: str) -> str:
    """Return what a command says where the system refuses what it writes below a folder.

    Args:
        error: that of the system, which names no file where a disk is full.
        folder: where the command writes.
        another: what is typed for another folder.
    """
    if error.errno not in _NO_ROOM | _NO_RIGHT:
        return str(error)
    do = "Free some space there" if error.errno in _NO_ROOM else "Allow it"
    return (
        f"{folder} cannot be written ({error.strerror}). {do}, or take another folder with "
        f"{another}, and give the command again."
    )


def _refusal(stage: str, folder: Path, error: Exception) -> str:
    """Say what an error of the operating system is; "" for one that is a bug."""
    number = error.errno if isinstance(error, OSError) else None
    text = next((text for numbers, text in _REFUSALS if number in numbers), "")
    if not text or not isinstance(error, OSError):
        return ""
    path = error.filename2 or error.filename or folder
    again = f"The same command with hydra.run.dir={folder} resumes from here."
    return f"{stage}: {text.format(path=path, cause=error.strerror, again=again)}"


def _unwritable(stage: str, run: Path, folder: Path | None) -> str:
    """Say why a folder takes no more; "" if it does, or is not there."""
    if folder is None or not folder.is_dir():
        return ""
    try:
        _try_to_write(folder, _TRIED_BYTES)
    except OSError as error:
        return _refusal(stage, run, OSError(error.errno, error.strerror, str(folder)))
    return ""


def _try_to_write(folder: Path, n_bytes: int) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(n_bytes))
        file.flush()
