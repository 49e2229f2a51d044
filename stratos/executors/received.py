"""Bytes that the servers of a stage have sent to this machine, counted in the folder of the run.

The count only grows. What a copy has brought is read from what `rsync` says of it. So it counts
even where the copy is cut short, or the process that began it.
"""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

from stratos.core.atomic_files import write_atomically
from stratos.executors import handed

_WRITES_BYTES = 1 << 16
"""Bytes of small answers that are not written down yet, at most."""
_WHOLE = re.compile(r"Total bytes received: ([\d,]+)")
_SO_FAR = re.compile(r"([\d,]+) +\d+%")


class Received:
    """The bytes of one stage."""

    def __init__(self, run: Path, stage: str) -> None:
        """Go on with what was counted before."""
        self._path = handed.folder_of(run) / f"{stage}.received"
        self._copies = handed.folder_of(run) / f"{stage}.copies"
        self._unwritten = 0

    @property
    def total(self) -> int:
        """All bytes so far, those of copies that are under way among them."""
        copies = {path.name: _of_copy(path) for path in self._files()}
        kept, counted = self._kept()
        return kept + self._unwritten + sum(n for name, n in copies.items() if name not in counted)

    def add(self, n_bytes: int) -> None:
        """Count the bytes of an answer."""
        self._unwritten += n_bytes
        if self._unwritten > _WRITES_BYTES:
            self._write()

    def new_copy(self) -> Path:
        """Return a file for what `rsync` says of a copy."""
        self._copies.mkdir(parents=True, exist_ok=True)
        return self._copies / uuid4().hex[:12]

    def ended(self, copy: Path) -> None:
        """Count a copy that has ended; one that was counted already adds nothing."""
        self._write(copy)
        copy.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._copies.glob("*")) if self._copies.is_dir() else []

    def _write(self, copy: Path | None = None) -> None:
        """Write the count down, with a copy and the names of those in it whose file is there.

        So a process that is killed before it deletes the file of a copy has not counted it twice.
        """
        total, counted = self._kept()
        if copy is not None and copy.name not in counted:
            total += _of_copy(copy)
            counted.add(copy.name)
        total, self._unwritten = total + self._unwritten, 0
        counted &= {path.name for path in self._files()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, "\n".join([str(total), *sorted(counted)]).encode())

    def _kept(self) -> tuple[int, set[str]]:
        """Return the bytes that are written down, and the copies among them, by name."""
        try:
            total, *counted = self._path.read_text().split()
            return int(total), {*counted}
        except (OSError, ValueError):
            return 0, set()


def _of_copy(copy: Path) -> int:
    """Return the bytes of a copy: of all of it, or as far as it has said."""
    try:
        said = copy.read_text(errors="replace")
    except OSError:
        return 0
    found = _WHOLE.findall(said) or _SO_FAR.findall(said)
    return int(found[-1].replace(",", "")) if found else 0
