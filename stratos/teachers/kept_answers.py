"""Answers of paid teachers in the run folder, too, so that a copy of the folder has them.

The answer cache is shared by the runs of a machine, and lost with it. Where a run keeps a copy of
its folder elsewhere, each answer is also added to a file there as it arrives; another machine that
fetches the copy puts them into its own cache, and pays for none of them again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

FOLDER = "answers"
"""In the run folder."""
_PART_BYTES = 4 * 2**20
"""Of a file: what was copied of the files before the last one is not copied again."""
MOST_BYTES = 256 * 2**20
"""Of all files: a run with more answers keeps the others in the cache alone."""


class KeptAnswer(msgspec.Struct, frozen=True):
    """A line: a row of the cache."""

    key: str
    answer: str
    digest: str


class KeptAnswers:
    """The files of one run; added to by one process at a time."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Add to what is in `folder`."""
        self._folder = folder
        self._warn = warn
        self._lock = threading.Lock()
        self._is_full = False
        self._path: Path | None = None

    def add(self, row: KeptAnswer) -> None:
        """Add an answer; it is paid for, so that a disk that fails is said and ends nothing."""
        with self._lock:
            if self._is_full:
                return
            try:
                with self._place().open("ab") as file:
                    file.write(msgspec.json.encode(row) + b"\n")
            except OSError as error:
                self._stop(f"{self._folder} cannot be written ({error})")

    def _place(self) -> Path:
        """Return the file that is added to, whole up to its last line."""
        if self._path is not None and self._path.stat().st_size < _PART_BYTES:
            return self._path
        self._folder.mkdir(parents=True, exist_ok=True)
        found = _parts(self._folder)
        if sum(one.stat().st_size for one in found) >= MOST_BYTES:
            self._stop(f"{self._folder} holds {MOST_BYTES // 2**20} MiB")
            raise OSError("it is full")
        # A line that was cut short by a kill is left in a file that nothing is added to.
        self._path = self._folder / f"{len(found) + 1:05d}.jsonl"
        return self._path

    def _stop(self, why: str) -> None:
        if not self._is_full:
            self._is_full = True
            self._warn(
                f"{why}: more answers are kept in the cache of this machine alone, and are paid "
                "again where it is lost."
            )


def read(folder: Path) -> Iterator[list[KeptAnswer]]:
    """Yield what the files of a run folder hold, file by file, without lines that were cut short.

    Args:
        folder: the run's.
    """
    for path in _parts(folder / FOLDER):
        rows = []
        with contextlib.suppress(OSError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError):
                    rows.append(msgspec.json.decode(line, type=KeptAnswer))
        yield rows


def n_bytes(folder: Path) -> int:
    """Return how much the files of a run folder hold."""
    return sum(one.stat().st_size for one in _parts(folder / FOLDER))


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))
