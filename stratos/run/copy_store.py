"""Files behind a URL, stored under the SHA-256 of what is in them, and small ones by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import create_atomically, replacing_file
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.foreign import cause
from stratos.core.redact import redact
from stratos.core.remote import file_system, make_parent, protocols, why_relative

Warn = Callable[[str], None]
"""Says what the user should read."""
OBJECTS = "objects"
"""What files lie in below the URL."""


class Stored(msgspec.Struct, frozen=True):
    """A file of the run folder."""

    sha256: str
    n_bytes: int


class CopyStore:
    """What lies behind one URL."""

    def __init__(self, url: str) -> None:
        """Take the place that `paths.mirror` names.

        Raises:
            StratosError: the URL names no file system that can be used here.
        """
        if (why := why_relative(url)) is not None:
            raise StratosError(f"paths.mirror={url}: {why}.")
        self.url = url.rstrip("/")
        try:
            self.system, root = file_system(self.url)
        except OSError as error:
            raise StratosError(f"paths.mirror={redact(url)}: {error}") from error
        self.root = str(root).rstrip("/")
        self._objects: dict[str, int] | None = None
        """Digest to bytes of what is stored; None until the URL was asked."""

    # --- files by name ---------------------------------------------------------------------------

    def read(self, name: str, type: type[Any]) -> Any:
        """Return what a file below the URL says; None where there is none.

        Raises:
            StratosError: it says nothing of that type.
        """
        self.system.invalidate_cache()
        try:
            return msgspec.json.decode(self.system.cat_file(self.at(name)), type=type)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StratosError(f"{redact(self.url)}/{name} is damaged: {error}") from error

    def write(self, name: str, record: msgspec.Struct) -> None:
        """Write a file, which others see whole or as it was before."""
        data, place = msgspec.json.encode(record), self.at(name)
        if "file" not in protocols(self.system):  # an object store shows the old one or the new
            self.system.pipe_file(place, data)
            return
        with replacing_file(Path(place)) as new:
            self.system.pipe_file(str(new), data)

    def create(self, name: str, record: msgspec.Struct) -> bool:
        """Write a file unless it is there; return whether it was written."""
        data, place = msgspec.json.encode(record), self.at(name)
        try:
            if "file" in protocols(self.system):
                create_atomically(Path(place), data)
            else:
                self.system.pipe_file(place, data, mode="create")
        except FileExistsError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete a file."""
        self.system.rm_file(self.at(name))

    def make_folder(self) -> None:
        """Make the folder that files by name lie in, where a file system has folders."""
        make_parent(self.system, self.at(OBJECTS))

    def at(self, name: str) -> str:
        """Return where a file lies, as the file system is asked for it."""
        return f"{self.root}/{name}"

    # --- files by content ------------------------------------------------------------------------

    def find_objects(self) -> set[str]:
        """Ask the URL for the digests that it has: it may have lost some, or have too many."""
        self.system.invalidate_cache()
        try:
            found = self.system.find(self.at(OBJECTS), detail=True)
        except FileNotFoundError:
            found = {}
        self._objects = {
            place.rpartition("/")[2]: int(one["size"] or 0) for place, one in found.items()
        }
        return set(self._objects)

    def keep_object(self, stored: Stored, content: bytes | Path) -> None:
        """Store what is in a file, unless it is there already."""
        objects = self._known_objects()
        if objects.get(stored.sha256) == stored.n_bytes:
            return
        place = self.object_at(stored.sha256)
        make_parent(self.system, place)
        if isinstance(content, bytes):
            self.system.pipe_file(place, content)
        else:
            self.system.put_file(str(content), place)
        objects[stored.sha256] = stored.n_bytes

    def fetch_object(self, stored: Stored, to: Path) -> bool:
        """Write what is stored to a file; return whether it is what its digest says."""
        with self.said("read"):
            self.system.get_file(self.object_at(stored.sha256), str(to))
        return digest_of(to) == stored.sha256

    def delete_other_objects(self, kept: Collection[str]) -> None:
        """Delete the objects of other digests: old ones, and those of a push that was killed."""
        objects = self._known_objects()
        for digest in objects.keys() - set(kept):
            with contextlib.suppress(FileNotFoundError):
                self.system.rm_file(self.object_at(digest))
            del objects[digest]

    def object_at(self, digest: str) -> str:
        """Return where an object lies."""
        return self.at(f"{OBJECTS}/{digest[:2]}/{digest}")

    def _known_objects(self) -> dict[str, int]:
        if self._objects is None:
            self.find_objects()
        assert self._objects is not None
        return self._objects

    @contextmanager
    def said(self, what: str) -> Iterator[None]:
        """Say which URL it is that a file system fails at, whatever it raises.

        Raises:
            StratosError: in place of what was raised: the URL cannot be `what`.
        """
        try:
            yield
        except StratosError:
            raise
        except Exception as error:  # what a remote file system raises is its own affair
            raise StratosError(
                f"{redact(self.url)} cannot be {what}: {redact(cause(error))}. Type "
                "paths.mirror=<another URL>, or paths.mirror=null for a run without a copy."
            ) from error
