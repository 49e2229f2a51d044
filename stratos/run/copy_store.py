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
from stratos.records import from_json

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
        """Open what `paths.mirror` names.

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
        self._is_local = "file" in protocols(self.system)
        self._objects: dict[str, int] | None = None
        """Digest to bytes of what is stored; None until the URL was asked."""

    def at(self, name: str) -> str:
        """Return where a file lies, as the file system is asked for it."""
        return f"{self.root}/{name}"

    def read(self, name: str, type: type[Any]) -> Any:
        """Return what a file below the URL says; None where there is none.

        Raises:
            StratosError: it says nothing of that type.
        """
        self.system.invalidate_cache()
        try:
            return from_json(self.system.cat_file(self.at(name)), type)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StratosError(f"{redact(self.url)}/{name} is damaged: {error}") from error

    def write(self, name: str, record: msgspec.Struct) -> None:
        """Write a file, which others see whole or as it was before."""
        path = self.at(name)
        # An object store shows the old one or the new.
        with replacing_file(Path(path)) if self._is_local else contextlib.nullcontext(path) as new:
            self.system.pipe_file(str(new), msgspec.json.encode(record))

    def create(self, name: str, record: msgspec.Struct) -> bool:
        """Write a file unless it is there; return whether it was written."""
        data, path = msgspec.json.encode(record), self.at(name)
        try:
            if self._is_local:
                create_atomically(Path(path), data)
            else:
                self.system.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def object_at(self, digest: str) -> str:
        """Return where an object lies."""
        return self.at(f"{OBJECTS}/{digest[:2]}/{digest}")

    def find_objects(self) -> dict[str, int]:
        """Ask the URL for the digests that it has, and their bytes: it may have lost some."""
        self.system.invalidate_cache()
        try:
            entries = self.system.find(self.at(OBJECTS), detail=True)
        except FileNotFoundError:
            entries = {}
        sizes = {path: int(entry["size"] or 0) for path, entry in entries.items()}
        self._objects = {path.rpartition("/")[2]: size for path, size in sizes.items()}
        return self._objects

    def add_object(self, stored: Stored, content: bytes | Path) -> None:
        """Store what is in a file, unless it is there already."""
        objects = self.find_objects() if self._objects is None else self._objects
        if objects.get(stored.sha256) == stored.n_bytes:
            return
        path = self.object_at(stored.sha256)
        make_parent(self.system, path)
        if isinstance(content, bytes):
            self.system.pipe_file(path, content)
        else:
            self.system.put_file(str(content), path)
        objects[stored.sha256] = stored.n_bytes

    def fetch_object(self, stored: Stored, to: Path) -> bool:
        """Write what is stored to a file; return whether it is what its digest says."""
        with self.naming_url("read"):
            self.system.get_file(self.object_at(stored.sha256), str(to))
        return digest_of(to) == stored.sha256

    def delete_other_objects(self, digests: Collection[str]) -> None:
        """Delete the objects of other digests: old ones, and those of a push that was killed."""
        objects = self.find_objects() if self._objects is None else self._objects
        for digest in objects.keys() - set(digests):
            with contextlib.suppress(FileNotFoundError):
                self.system.rm_file(self.object_at(digest))
            del objects[digest]

    @contextmanager
    def naming_url(self, what: str) -> Iterator[None]:
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


# --- the lease ------------------------------------------------------------------------------------

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

    def __str__(self) -> str:
        return f"process {self.holder.pid} of {self.holder.host}, in {self.folder}"

    @property
    def is_given_up(self) -> bool:
        """Whether its holder is gone, as far as that is known here."""
        # Containers of several machines may share one name: only a process of this boot is looked
        # for. Of one that is seen alive the clock says nothing.
        is_seen = self.holder.boot == Process.this().boot
        if is_seen and self.holder.is_of_this_machine:
            return self.holder.is_dead()
        return time.time() > self.at + CLAIM_S


class CopyClaim:
    """The claim of this process, which is renewed while it lives."""

    def __init__(self, store: CopyStore, folder: Path, warn: Warn) -> None:
        self._store, self._folder, self._warn = store, folder.resolve(), warn
        self.token = uuid4().hex
        self.renewed_at = 0.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the copy against other commands.

        Raises:
            BusyError: another one works with it.
            StratosError: the URL cannot be written to.
        """
        with self._store.naming_url("written to"):
            self.take()
        ended = threading.Event()
        # Files that take longer than a claim lasts are no silence.
        thread = threading.Thread(target=self._renew_until, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(Exception):
                claim = self._read()
                if claim is not None and claim.token == self.token:
                    self._delete(CLAIM)

    def take(self) -> None:
        """Claim the copy for this process.

        Raises:
            BusyError: another command has it.
        """
        make_parent(self._store.system, self._store.at(CLAIM))
        if self._win(CLAIM):
            time.sleep(SETTLES_S)  # where a file system overwrites all the same, the last one wins
        claim = self._read()
        if claim is None or claim.token != self.token:
            raise self._is_busy(claim)
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
        claim = self._read()
        if claim is not None and claim.token != self.token:
            raise StratosError(
                f"{redact(self._store.url)} is worked with by another command by now ({claim}): "
                "nothing more is copied there."
            )
        if claim is None or is_due:
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
        claim = self._read(name)
        if claim is None or not claim.is_given_up:
            raise self._is_busy(claim)
        taking_over = f"{CLAIM}.{claim.token}-{claim.at:.0f}"
        self._win(taking_over)
        try:
            if self._read(name) != claim:
                raise self._is_busy(self._read())
            self._store.write(name, self._own())
            if name == CLAIM:
                self._name_jobs_of(claim)
        finally:
            with contextlib.suppress(Exception):
                self._delete(taking_over)
        return True

    def _name_jobs_of(self, claim: Claim) -> None:
        """Name the jobs of a folder that the copy was of, and that nobody follows any more."""
        if Path(claim.folder) == self._folder:
            return  # they are followed
        for job in submission.listed():
            if Path(job.folder) == Path(claim.folder):
                self._warn(
                    f"{job.stage} of {claim.folder}, which this copy was of, was handed to "
                    f"{job.label or job.name}. It may still run, and is paid beside what runs now: "
                    f"stratos servers down {job.name}"
                )

    def _is_busy(self, claim: Claim | None) -> BusyError:
        url = redact(self._store.url)
        if claim is None or claim.is_given_up:
            return BusyError(f"{url}: another command has just begun to work with it.")
        ago = duration(max(0.0, time.time() - claim.at))
        return BusyError(
            f"{url}: another command works with this copy: {claim}; it said so {ago} ago. Where "
            f"that one is gone, wait until {counted(15, 'minute')} have passed since, or delete "
            f"{url}/{CLAIM}."
        )

    def _renew_until(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S / 2):
            with contextlib.suppress(Exception):  # whoever stores files says what fails
                self.renew()

    def _read(self, name: str = CLAIM) -> Claim | None:
        claim: Claim | None = self._store.read(name, Claim)
        return claim

    def _delete(self, name: str) -> None:
        self._store.system.rm_file(self._store.at(name))

    def _own(self) -> Claim:
        return Claim(self.token, Process.this(), str(self._folder), time.time())
