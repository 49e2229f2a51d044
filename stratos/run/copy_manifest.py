"""What a copy of the run folder holds, and what the run folder knows of it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.run.copy_store import Stored

MANIFEST = "manifest.json"
"""What names the files, below the URL."""
KNOWN = ".mirror.json"
"""In the run folder: which manifests it goes on from."""


class Manifest(msgspec.Struct, frozen=True):
    """What the run folder held at one moment."""

    id: str
    host: str
    at: float
    """Seconds since the epoch."""
    files: dict[str, Stored]
    """By path below the run folder."""


class Known(msgspec.Struct, frozen=True):
    """Manifests that the run folder goes on from."""

    url: str
    ids: tuple[str, ...]
    """The one that was written or fetched last, and the one that was about to be written."""
    files: dict[str, Stored] = {}
    """What the first of them names."""


def read_known(folder: Path, url: str) -> Known | None:
    """Return what a run folder knows of the copy behind a URL; None where it knows nothing."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        known = msgspec.json.decode((folder / KNOWN).read_bytes(), type=Known)
        return known if known.url == url else None
    return None


def write_known(folder: Path, known: Known) -> None:
    """Have a run folder know its copy."""
    write_atomically(folder / KNOWN, msgspec.json.encode(known))


def moment(at: float) -> str:
    """Return a time in seconds since the epoch as it is read here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
