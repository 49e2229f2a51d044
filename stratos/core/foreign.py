"""Read files from other sources safely: what may be opened, and errors for invalid content.

A library that reads a foreign file raises whatever it likes: `struct.error`, `KeyError`, a panic of
Rust. `reading` is the one boundary that turns all of it into an error with the path and the cause.
What is no regular file (a pipe, a device, a socket) is refused before it is opened: reading one may
never end.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stratos.core.errors import ForeignFileError, StratosError
from stratos.core.formats import shown
from stratos.core.reasons import Because, Reason

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST_CAUSE = 300
_MOST_LOOKED_AT = 10_000
"""Names of a folder that are compared with one that is not there."""


def why_unreadable(path: str | Path, *, or_folder: bool = False) -> Reason | None:
    """Return why a path names no file that can be read, as the end of a sentence; None if it does.

    Args:
        path: of this machine.
        or_folder: a folder will do as well.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Because(f"there is no such file{' or folder' if or_folder else ''}")
    except (OSError, ValueError) as error:  # a name too long, a folder of others, a NUL
        return Because(cause(error))
    if stat.S_ISDIR(mode):
        return None if or_folder else Because("it is a folder. Name a file in it")
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        return Because(f"it is {kind}, not a file. Save its output to a file, and name that file")
    return None if os.access(path, os.R_OK) else Because("Permission denied")


def beside(path: Path) -> str:
    """Return " Did you mean x?" with names of the same folder that look like one that is missing.

    Stems are compared: two files of one suffix do not look alike for that. Of files with one stem
    it is the one with the most similar suffix.
    """
    if os.path.lexists(path):
        return ""
    with contextlib.suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, _MOST_LOOKED_AT)]
        stems: dict[str, list[str]] = {}
        for name in sorted(names):
            stems.setdefault(Path(name).stem.casefold(), []).append(name)
        close = difflib.get_close_matches(path.stem.casefold(), list(stems), n=2, cutoff=0.7)
        if close:
            best = [max(stems[stem], key=lambda name: _likeness(name, path.name)) for stem in close]
            return f" Did you mean {' or '.join(shown(path.with_name(name)) for name in best)}?"
    return ""


def _likeness(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first.casefold(), second.casefold()).ratio()


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises:
        OSError: there is none, or it is a pipe, a device, a socket or a folder.
    """
    reason = why_unreadable(path)
    if reason is not None:
        raise (OSError if os.path.lexists(path) else FileNotFoundError)(str(reason))
    return open(path, "rb")


@contextlib.contextmanager
def reading(what: str, advice: str = "") -> Iterator[None]:
    """Turn whatever a library raises on a foreign file into one error of ours.

    Args:
        what: the file, as a message begins: "The weights /x/model.safetensors".
        advice: what to type, as a sentence.

    Raises:
        ForeignFileError: the block raised; the message has the file and the cause.
    """
    try:
        yield
    except StratosError:
        raise
    except BaseException as error:
        # A panic of a Rust library (tokenizers, safetensors) is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        tail = f" {advice}" if advice else ""
        raise ForeignFileError(f"{what} cannot be read: {cause(error)}.{tail}") from error


def _says_nothing(text: str) -> bool:
    """Tell an error that names only what was to be opened, as fsspec's do."""
    is_place = text.startswith(("http://", "https://", "/")) and " " not in text
    return not text.strip() or is_place


def cause(error: BaseException) -> str:
    """Return the first line of what an error says, without the number of an `OSError`."""
    if isinstance(error, MemoryError):
        return "it needs more memory than is available"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start + 1})"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hidden = error.__cause__ or error.__context__
    if _says_nothing(text):
        if hidden is not None:
            return cause(hidden)
        if isinstance(error, FileNotFoundError):
            return "there is no such file"
        if isinstance(error, ValueError):
            return "it is no URL"
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = line.rstrip(" .") or type(error).__name__
    if isinstance(error, KeyError):
        line = f"it lacks {line}"
    return line if len(line) <= _LONGEST_CAUSE else f"{line[:_LONGEST_CAUSE]}…"
