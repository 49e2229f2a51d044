"""Files behind a URL, by the SHA-256 of their content or by name; one command a time has them.

The lease is numbered: its files are `leases/1.json`, `leases/2.json`, and the highest counts. A
store creates a file for one writer alone, so that of all who take over a lease one gets it; and no
number comes twice, so that a machine that slept sees that others had the copy since.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import msgspec

from stratos.core.atomic_files import create_atomically, write_atomically
from stratos.core.digest import copy_and_digest, digest_of, digest_of_open
from stratos.core.errors import BusyError, StratosError
from stratos.core.foreign import cause
from stratos.core.formats import counted, duration
from stratos.core.process import Process, every
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
        data, path = msgspec.json.encode(record), self.at(name)
        if self._is_local:  # fsspec would write it in its place, as no object store does
            write_atomically(Path(path), data)
        else:
            self.system.pipe_file(path, data)

    def create(self, name: str, record: msgspec.Struct) -> bool:
        """Write a file unless it is there; return whether it was written."""
        data, path = msgspec.json.encode(record), self.at(name)
        make_parent(self.system, path)
        try:
            if self._is_local:
                create_atomically(Path(path), data)
            else:
                self.system.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.system.rm_file(self.at(name))

    def sizes(self, folder: str) -> dict[str, int]:
        """Ask the URL for the names of the files in a folder, at any depth, and their bytes."""
        self.system.invalidate_cache()
        try:
            entries = self.system.find(self.at(folder), detail=True)
        except FileNotFoundError:
            entries = {}
        return {path.rpartition("/")[2]: int(of["size"] or 0) for path, of in entries.items()}

    def object_name(self, digest: str) -> str:
        """Return the name of an object."""
        return f"{OBJECTS}/{digest[:2]}/{digest}"

    def objects(self) -> dict[str, int]:
        """Return the digests that are stored, and their bytes; the URL is asked once."""
        if self._objects is None:
            self._objects = self.sizes(OBJECTS)
        return self._objects

    def add_object(self, file: BinaryIO) -> Stored | None:
        """Store what an open file has by now, unless it is there already; it may grow meanwhile.

        None where it was written to in another way: then it is no file of one moment.
        """
        objects = self.objects()
        digest, n_bytes = digest_of_open(file)
        if objects.get(digest) != n_bytes:
            name = self.object_name(digest)
            make_parent(self.system, self.at(name))
            file.seek(0)
            with self.system.open(self.at(name), "wb") as there:
                copied = copy_and_digest(file, n_bytes, there.write)
            if copied != digest:
                self.delete(name)
                return None
            objects[digest] = n_bytes
        return Stored(digest, n_bytes)

    def fetch_object(self, stored: Stored, to: Path) -> bool:
        """Write what is stored to a file; return whether it is what its digest says."""
        with self.naming_url("read"):
            self.system.get_file(self.at(self.object_name(stored.sha256)), str(to))
        return digest_of(to) == stored.sha256

    def delete_other_objects(self, digests: Collection[str]) -> None:
        """Delete the objects of other digests: old ones, and those of a push that was killed."""
        objects = self.objects()
        for digest in objects.keys() - set(digests):
            self.delete(self.object_name(digest))
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
            self._objects = None  # and what it has by now, too
            raise StratosError(
                f"{redact(self.url)} cannot be {what}: {redact(cause(error))}. Type "
                "paths.mirror=<another URL>, or paths.mirror=null for a run without a copy."
            ) from error


# --- the lease ------------------------------------------------------------------------------------

LEASES = "leases"
"""What leases lie in below the URL."""
LEASE_S = 900.0
"""A lease that was not renewed for so long has no living holder."""
RENEW_S = 60.0
"""A holder renews its lease so often."""
SETTLES_S = 3.0
"""How long two commands that take over one lease may be apart."""


def lease_name(number: int) -> str:
    """Return the name of the file of a lease."""
    return f"{LEASES}/{number}.json"


class Lease(msgspec.Struct, frozen=True):
    """Which command works with a copy."""

    number: int
    token: str
    holder: Process
    folder: str
    at: float
    """When it was renewed last, in seconds since the epoch."""
    is_returned: bool = False

    def __str__(self) -> str:
        return f"process {self.holder.pid} of {self.holder.host}, in {self.folder}"

    @property
    def is_free(self) -> bool:
        """Whether its holder is done, or gone as far as that is known here."""
        # Containers of several machines may share one name: only a process of this boot is looked
        # for. Of one that is seen alive the clock says nothing.
        is_seen = self.holder.boot == Process.this().boot
        if not self.is_returned and is_seen and self.holder.is_of_this_machine:
            return self.holder.is_dead()
        return self.is_returned or time.time() > self.at + LEASE_S


class CopyLease:
    """The lease of this process, which is renewed while it lives."""

    def __init__(self, store: CopyStore, folder: Path, warn: Warn) -> None:
        self._store, self._folder, self._warn = store, folder.resolve(), warn
        self.token = uuid4().hex
        self.number, self._renewed_at = 0, 0.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the copy against other commands.

        Raises:
            BusyError: another one works with it.
            StratosError: the URL cannot be written to.
        """
        with self._store.naming_url("written to"):
            self.take()
        try:
            with every(RENEW_S, self._renew_or_not):  # files may take longer than a lease lasts
                yield
        finally:
            with contextlib.suppress(Exception):  # where it cannot be returned, it runs out
                self.renew(is_returned=True)

    def take(self) -> None:
        """Take the copy for this process.

        Raises:
            BusyError: another command has it.
        """
        last = self.last()
        if last is not None and not last.is_free:
            raise self._is_busy(last)
        self.number = 1 if last is None else last.number + 1
        is_new = self._store.create(lease_name(self.number), self._own())
        if is_new and last is not None and not last.is_returned:
            time.sleep(SETTLES_S)  # where a file system overwrites all the same, the last one wins
        now = self.last()
        if now is None or now.token != self.token:
            raise self._is_busy(now)
        if last is not None:
            self._store.delete(lease_name(last.number))
            if not last.is_returned:
                self._name_jobs_of(last)

    def renew(self, *, is_returned: bool = False) -> None:
        """Look whether the lease is this process's; write that it lives where that is due, or done.

        Raises:
            StratosError: another command has had the copy since.
        """
        last = self.last()  # none where the URL has lost it, and nobody has come since
        if last is not None and last.token != self.token:
            raise StratosError(
                f"{redact(self._store.url)} is worked with by another command by now ({last}): "
                "nothing more is copied there. To go on from what is there, give the command with "
                "hydra.run.dir=<a new folder>."
            )
        now = time.monotonic()
        if is_returned or last is None or now >= self._renewed_at + RENEW_S / 2:
            self._store.write(lease_name(self.number), self._own(is_returned))
            self._renewed_at = now

    def last(self) -> Lease | None:
        """Return the lease that counts; None where nobody had one."""
        while numbers := [
            int(stem)
            for name in self._store.sizes(LEASES)
            if (stem := name.removesuffix(".json")).isdigit()  # the rest is half written
        ]:
            lease: Lease | None = self._store.read(lease_name(max(numbers)), Lease)
            if lease is not None:  # else somebody has just taken over
                return lease
        return None

    def _name_jobs_of(self, lease: Lease) -> None:
        """Name the jobs of a folder that the copy was of, and that nobody follows any more."""
        if Path(lease.folder) == self._folder:
            return  # they are followed
        for job in submission.listed():
            if Path(job.folder) == Path(lease.folder):
                self._warn(
                    f"{job.stage} of {lease.folder}, which this copy was of, was handed to "
                    f"{job.label or job.name}. It may still run, and is paid beside what runs now: "
                    f"stratos servers down {job.name}"
                )

    def _is_busy(self, lease: Lease | None) -> BusyError:
        url = redact(self._store.url)
        if lease is None or lease.is_free:
            return BusyError(f"{url}: another command has just begun to work with it.")
        ago = duration(max(0.0, time.time() - lease.at))
        return BusyError(
            f"{url}: another command works with this copy: {lease}; it said so {ago} ago. Where "
            f"that one is gone, wait until {counted(15, 'minute')} have passed since, or delete "
            f"{url}/{lease_name(lease.number)}."
        )

    def _renew_or_not(self) -> None:
        with contextlib.suppress(Exception):  # whoever stores files says what fails
            self.renew()

    def _own(self, is_returned: bool = False) -> Lease:
        this = Process.this()
        return Lease(
            self.number, self.token, this, str(self._folder), time.time(), is_returned=is_returned
        )
