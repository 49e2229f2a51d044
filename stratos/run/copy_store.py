"""Files behind a URL, by the SHA-256 of their content or by name; one command a time has them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from stratos.core.atomic_files import create_atomically, replacing_file
from stratos.core.digest import digest_of
from stratos.core.errors import BusyError, StratosError
from stratos.core.foreign import cause
from stratos.core.formats import counted, duration
from stratos.core.process import Process
from stratos.core.redact import redact
from stratos.core.remote import file_system, make_parent, protocols, why_relative
from stratos.executors import submission

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


CLAIM = "claim.json"
"""What lies below the URL while a command works with the copy."""
CLAIM_S = 900.0
"""A claim that was not renewed for so long has no living holder."""
RENEW_S = 120.0
"""A holder renews its claim at least so often."""
SETTLES_S = 3.0
"""How long two commands that take over one claim may be apart."""


class Claim(msgspec.Struct, frozen=True):
    """Which command works with a copy."""

    token: str
    holder: Process
    folder: str
    at: float
    """When it was renewed last, in seconds since the epoch."""


class CopyClaim:
    """The claim of this process, which is renewed while it lives."""

    def __init__(self, store: CopyStore, folder: Path, warn: Warn) -> None:
        self._store, self._folder, self._warn = store, folder, warn
        self.token = uuid4().hex
        self.renewed_at = 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the copy against other commands.

        Raises:
            BusyError: another one works with it.
            StratosError: the URL cannot be written to.
        """
        with self._store.said("written to"):
            self.take()
        ended = threading.Event()
        # Files that take longer than a claim lasts are no silence.
        thread = threading.Thread(target=self._keep, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(Exception):
                claim = self._store.read(CLAIM, Claim)
                if claim is not None and claim.token == self.token:
                    self._store.delete(CLAIM)

    def take(self) -> None:
        """Claim the copy for this process.

        Raises:
            BusyError: another command has it.
        """
        self._store.make_folder()
        if self._win(CLAIM):
            time.sleep(SETTLES_S)  # where a file system overwrites all the same, the last one wins
        held = self._store.read(CLAIM, Claim)
        if held is None or held.token != self.token:
            raise self._is_busy()
        self.renewed_at = time.monotonic()

    def renew(self, is_now: bool = False) -> None:
        """Renew the claim where that is due.

        Args:
            is_now: look in any case whether it is still that of this process.

        Raises:
            StratosError: another command has the copy by now.
        """
        is_due = time.monotonic() >= self.renewed_at + RENEW_S / 2
        if not (is_due or is_now):
            return
        other = self._store.read(CLAIM, Claim)
        if other is not None and other.token != self.token:
            raise StratosError(
                f"{redact(self._store.url)} is worked with by another command by now "
                f"({_who(other)}): nothing more is copied there."
            )
        if other is not None and not is_due:
            return
        self._store.write(CLAIM, self._own())
        self.renewed_at = time.monotonic()

    def _win(self, name: str) -> bool:
        """Have a file hold the claim of this process, and return whether it held a given up one.

        A file is created only where there is none, so that one command does it, however slow the
        others are. The file of a holder that is gone is overwritten by whoever wins the file that
        is named after it. Who wins that one late, when the first has deleted it, finds another
        claim than the one that was given up.

        Raises:
            BusyError: another command has it, or is about to.
        """
        if self._store.create(name, self._own()):
            return False
        held = self._store.read(name, Claim)
        if held is None:
            raise self._is_busy()
        if not _is_given_up(held):
            raise BusyError(_refusal(self._store.url, held))
        taking_over = f"{CLAIM}.{held.token}-{held.at:.0f}"
        self._win(taking_over)
        try:
            if self._store.read(name, Claim) != held:
                raise self._is_busy()
            self._store.write(name, self._own())
            if name == CLAIM:
                self._say_jobs(held)
        finally:
            with contextlib.suppress(Exception):
                self._store.delete(taking_over)
        return True

    def _say_jobs(self, held: Claim) -> None:
        """Name the jobs of a folder that the copy was of, and that nobody follows any more."""
        if Path(held.folder) == self._folder.resolve():
            return  # they are followed
        for one in submission.listed():
            if Path(one.folder) == Path(held.folder):
                self._warn(
                    f"{one.stage} of {held.folder}, which this copy was of, was handed to "
                    f"{one.label or one.name}. It may still run, and is paid beside what runs now: "
                    f"stratos servers down {one.name}"
                )

    def _is_busy(self) -> BusyError:
        other = self._store.read(CLAIM, Claim)
        return BusyError(
            f"{redact(self._store.url)}: another command has just begun to work with it."
            if other is None or _is_given_up(other)
            else _refusal(self._store.url, other)
        )

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S / 2):
            with contextlib.suppress(Exception):  # whoever stores files says what fails
                self.renew()

    def _own(self) -> Claim:
        return Claim(self.token, Process.this(), str(self._folder.resolve()), time.time())


def _is_given_up(claim: Claim) -> bool:
    # Containers of several machines may share one name: only a process of this boot is looked for.
    is_seen = claim.holder.boot == Process.this().boot
    if is_seen and claim.holder.is_of_this_machine:  # whatever the clock says
        return claim.holder.is_dead()
    return (is_seen and claim.holder.is_dead()) or time.time() > claim.at + CLAIM_S


def _who(claim: Claim) -> str:
    return f"process {claim.holder.pid} of {claim.holder.host}, in {claim.folder}"


def _refusal(url: str, other: Claim) -> str:
    ago = max(0.0, time.time() - other.at)
    return (
        f"{redact(url)}: another command works with this copy: {_who(other)}; it said so "
        f"{duration(ago)} ago. Where that one is gone, wait until {counted(15, 'minute')} have "
        f"passed since, or delete {redact(url)}/{CLAIM}."
    )
