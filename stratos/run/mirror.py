"""A copy of the run folder behind a URL, from which another machine goes on.

Files are stored under the SHA-256 of what is in them, and a manifest that names them is written
last: whoever reads the manifest finds all that it names, whole, wherever the writer was killed.
Records are read before what they were made from, and the ledger last, so that what a copy holds is
what a run leaves that is killed. fsspec's own rsync would show a reader a folder half copied.
One command at a time works with a copy: it holds a claim, which it renews while it lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from uuid import uuid4

import msgspec

from stratos.config import STAGES, Config
from stratos.core.atomic_files import STAGED, replacing_file, staged_apart, write_atomically
from stratos.core.digest import digest_of, identity
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.process import Process
from stratos.core.redact import redact
from stratos.records import from_json
from stratos.run.copy_store import RENEW_S, CopyClaim, CopyStore, Stored
from stratos.run.run_state import FolderGoneError, RunFolder
from stratos.teachers.cache import n_bytes

MANIFEST = "manifest.json"
"""What names the files, below the URL."""
KNOWN = ".mirror.json"
"""In the run folder: which manifests it goes on from."""
RECORDS = frozenset(f"{stage}.json" for stage in (*STAGES, "pilot"))
"""Files that no command deletes."""
_SMALL = 32 * 2**20
"""Bytes of a file that is read into memory, and so copied as it was at one moment."""
_HYDRA = ".hydra"
_LEDGER = "ledger.jsonl"
_ANSWERS_S = 10.0
"""How long answers that were paid for may lie here alone."""
_SETTLES_S = 3.0
"""How long somebody who deletes the run folder may be at it between one file and its lock."""


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
    ids: tuple[str, ...] = ()
    """The one that was written or fetched last, and the one that was about to be written."""
    files: dict[str, Stored] = {}
    """What the first of them names."""


def read_known(folder: Path, url: str) -> Known:
    """Return what a run folder knows of the copy behind a URL."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        known = from_json((folder / KNOWN).read_bytes(), Known)
        if known.url == url:
            return known
    return Known(url)


def moment(at: float) -> str:
    """Return a time in seconds since the epoch as it is read here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _is_passing(name: str) -> bool:
    """Return whether a file means nothing on another machine, or is only half there."""
    is_half = any(fnmatchcase(name, pattern) for pattern in STAGED)
    return is_half or name == KNOWN or name.endswith(".lock")


def _is_record(name: str) -> bool:
    return "/" not in name and name.endswith(".json")


def _tells(name: str) -> bool:
    """Return whether a file is work of the run, and not only a command's own log and config."""
    return not name.startswith(f"{_HYDRA}/") and not name.endswith(".log")


def _has_content(path: Path) -> bool:
    """Return whether there is more than an empty file, such as a ledger that was just opened."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


@contextmanager
def mirrored(
    config: Config, folder: RunFolder, warn: Callable[[str], None], note: Callable[[str], None]
) -> Iterator[Mirror | None]:
    """Keep a copy of the run folder behind `paths.mirror` for as long as the block runs.

    Args:
        config: the run's config.
        folder: the run folder.
        warn: says what the user should read.
        note: says what was fetched, and that the copy is whole at the end.

    Raises:
        StratosError: the URL cannot be used, or holds another run than the folder.
        BusyError: another command works with it.
    """
    url = config.paths.mirror
    if url is None:
        yield None
        return
    mirror = Mirror(config.run_dir, url, warn, folder)
    folder.how_to_go_on = mirror.how_to_go_on
    with mirror.claim.hold():
        if n := mirror.pull():
            note(f"Fetched from {redact(url)}: {counted(n, 'file', spec=',')}, {mirror.as_of}.")
        mirror.push()
        thread = threading.Thread(
            target=mirror.keep_pushing, args=(config.paths.mirror_minutes * 60,), daemon=True
        )
        thread.start()
        try:
            yield mirror
        finally:
            mirror.end()
            thread.join()
            if not folder.is_gone() and mirror.push_or_warn():
                note(f"The copy at {redact(url)} is whole.")


class Mirror:
    """The copy behind one URL."""

    def __init__(
        self,
        folder: Path,
        url: str,
        warn: Callable[[str], None],
        run_folder: RunFolder | None = None,
    ) -> None:
        """Copy `folder` to `url`.

        Args:
            folder: of the run.
            url: where the copy is.
            warn: says what the user should read.
            run_folder: tells whether it is still there; the folder as it is now unless given.

        Raises:
            StratosError: the URL names no file system that can be used here.
        """
        self.folder, self.store = folder, CopyStore(url)
        self.claim = CopyClaim(self.store, folder, warn)
        self.url = self.store.url
        self._linked: set[Path] = set()
        self._run_folder = RunFolder(folder) if run_folder is None else run_folder
        self._is_gone_said = False
        self._copied_at = 0.0
        """When the manifest was written that is there now, in seconds since the epoch."""
        self._warn = warn
        self._soon, self._ended = threading.Event(), threading.Event()
        self._n_answer_bytes = 0

    def soon(self) -> None:
        """Have what was made by now copied without waiting for the next time."""
        self._soon.set()

    def end(self) -> None:
        """Copy no more by itself."""
        self._ended.set()
        self._soon.set()

    def keep_pushing(self, seconds: float) -> None:
        """Copy what has changed every so many seconds, and whenever `soon` is called.

        Answers that were paid for wait no longer than `_ANSWERS_S`.
        """
        seconds = min(seconds, RENEW_S)
        due = time.monotonic() + seconds
        while not self._ended.is_set():
            is_asked = self._soon.wait(min(seconds, _ANSWERS_S))
            self._soon.clear()
            has_answers = n_bytes(self.folder) != self._n_answer_bytes
            is_due = is_asked or has_answers or time.monotonic() >= due
            if is_due and not self._ended.is_set():
                self.push_or_warn()
                due = time.monotonic() + seconds

    @property
    def as_of(self) -> str:
        """When the copy was written, as the end of a sentence."""
        return f"as of {moment(self._copied_at)}"

    def how_to_go_on(self) -> str:
        """Say what to type when the run folder is gone."""
        return (
            f"The same command fetches the copy of {moment(self._copied_at)} from "
            f"{redact(self.url)} and goes on."
        )

    def push_or_warn(self) -> bool:
        """Copy what has changed; return whether the copy is whole.

        A failure is said, and tried again the next time. That the run folder is gone is said once.
        """
        try:
            self.push()
        except FolderGoneError:
            if not self._is_gone_said:
                self._is_gone_said = True
                self._warn(
                    f"The run folder {self.folder} is gone or was emptied: nothing more is copied "
                    f"to {redact(self.url)}, which keeps the copy of {moment(self._copied_at)}. "
                    "The command ends as soon as its present stage does."
                )
            return False
        except StratosError as error:
            self._warn(str(error))
            return False
        return True

    def pull(self) -> int:
        """Bring the run folder to where the copy was left; return how many files were fetched.

        A folder that was emptied since is filled again.

        Raises:
            StratosError: both have gone on, or what was stored is damaged.
        """
        with self.store.naming_url("read"):
            manifest = self.store.read(MANIFEST, Manifest)
        known = read_known(self.folder, self.url)
        if manifest is None:
            if known.ids:
                self._warn(
                    f"{redact(self.url)} has lost its copy of this run; it is copied there again."
                )
            self._know(())
            return 0
        self._copied_at = manifest.at
        if self._is_emptied(manifest):
            known = Known(self.url)
        elif manifest.id in known.ids:
            self._know((manifest.id,), manifest.files)
            return 0
        if self._has_gone_on(known, manifest):
            raise StratosError(
                f"{self.folder} and {redact(self.url)} hold different runs, or each has gone on "
                f"from the same one: the copy was written by {manifest.host} at "
                f"{moment(manifest.at)}. To go on from the copy, type "
                "hydra.run.dir=<a new folder>; to keep what is here, paths.mirror=<another URL>."
            )
        n = self._fetch(manifest, known)
        self._know((manifest.id,), manifest.files)
        return n

    def push(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            FolderGoneError: the run folder was deleted or emptied; the copy stays as it is.
            StratosError: the URL cannot be written to.
        """
        self._run_folder.check()
        known = read_known(self.folder, self.url)
        with self.store.naming_url("written to"):
            self.claim.renew()
            self._n_answer_bytes = n_bytes(self.folder)
            files = {}
            for path in self._find():
                if (stored := self._store_file(path, known)) is not None:
                    files[str(path.relative_to(self.folder))] = stored
            digests = {stored.sha256 for stored in files.values()}
            if known.ids and files == known.files:
                self.store.delete_other_objects(digests)
                return
            if known.files.keys() - files.keys():
                time.sleep(_SETTLES_S)  # somebody may be about to delete all of the folder
            self._run_folder.check()
            self.claim.renew(is_now=True)  # another may have taken it over while files were stored
            self._check_nobody_went_on(known)
            made = Manifest(uuid4().hex, Process.this().host, time.time(), files)
            # Where this process ends between the two, either manifest is its own.
            self._know((*known.ids[:1], made.id), known.files)
            self.store.write(MANIFEST, made)
            self._copied_at = made.at
            self._know((made.id,), files)
            for name in RECORDS & files.keys():
                self._run_folder.add_record(name)
            # Nobody else stores any, because the claim is held.
            self.store.delete_other_objects(digests)

    def _check_nobody_went_on(self, known: Known) -> None:
        """Check that the manifest is still the one that the run folder goes on from.

        A machine that slept may have lost its claim to a command that has ended since, and took its
        own claim away.

        Raises:
            StratosError: it is another's.
        """
        there = self.store.read(MANIFEST, Manifest)
        if there is not None and there.id not in known.ids:
            raise StratosError(
                f"{redact(self.url)}: a command on {there.host} has gone on from the copy since "
                f"({moment(there.at)}): nothing more is copied there. To go on from what it left, "
                "give the command with hydra.run.dir=<a new folder>."
            )

    def _know(self, ids: tuple[str, ...], files: dict[str, Stored] | None = None) -> None:
        known = Known(self.url, ids, files or {})
        write_atomically(self.folder / KNOWN, msgspec.json.encode(known))

    def _find(self) -> list[Path]:
        """Return what is copied, in the order in which it is read; links as what they lead to."""
        paths = []
        for path in self.folder.rglob("*"):
            if any(map(_is_passing, path.relative_to(self.folder).parts)):
                continue
            if path.is_file():
                paths.append(path)
            elif path.is_symlink():
                self._say_left_out(path)

        def key(path: Path) -> tuple[int, str]:
            is_record = path.parent == self.folder and path.suffix == ".json"
            return (0 if is_record else 2 if path.name == _LEDGER else 1), str(path)

        return sorted(paths, key=key)

    def _say_left_out(self, link: Path) -> None:
        """Warn of a link to a folder, or to nothing, once; what leads into the run folder is there.

        W&B links to the folder of its last run.
        """
        if link in self._linked or link.resolve().is_relative_to(self.folder.resolve()):
            return
        self._linked.add(link)
        self._warn(
            f"{link} is a link to {link.resolve()}, which is no file: it is not in the copy of "
            f"this run behind {redact(self.store.url)}. Put what it leads to into the run folder."
        )

    def _store_file(self, path: Path, known: Known) -> Stored | None:
        """Store a file; return what it was stored as, or None if it is gone or being written."""
        try:
            before = path.stat()
            if before.st_size <= _SMALL:
                data = path.read_bytes()
                stored = Stored(hashlib.sha256(data).hexdigest(), len(data))
                self.store.add_object(stored, data)
                return stored
            if path.suffix == ".jsonl":
                return self._store_begun(path, before.st_size)
            stored = Stored(digest_of(path), before.st_size)
            self.store.add_object(stored, path)
            if identity(path.stat()) == identity(before):
                return stored
        except FileNotFoundError:
            if path.exists():
                raise
            return None
        return known.files.get(str(path.relative_to(self.folder)))

    def _store_begun(self, path: Path, n_bytes: int) -> Stored:
        """Store the lines that a file has by now, which may always be written to."""
        whole = staged_apart(path)
        try:
            with path.open("rb") as file, whole.open("wb") as copy:
                while n_bytes > 0 and (data := file.read(min(n_bytes, _SMALL))):
                    n_bytes -= copy.write(data)
            stored = Stored(digest_of(whole), whole.stat().st_size)
            self.store.add_object(stored, whole)
            return stored
        finally:
            whole.unlink(missing_ok=True)

    def _fetch(self, manifest: Manifest, known: Known) -> int:
        """Put all that a manifest names into the run folder, records last; return how many files.

        Raises:
            StratosError: an object is missing or damaged; then no record was put there.
        """
        names = sorted(manifest.files, key=lambda name: (_is_record(name), name))
        n = 0
        for name in names:
            stored, path = manifest.files[name], self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise StratosError(
                    f"{redact(self.store.url)}: {name} lies outside of the run folder."
                )
            if name.startswith(f"{_HYDRA}/") or digest_of(path) == stored.sha256:
                continue  # the config is that of this command
            if path.suffix == ".log" and path.exists():
                continue  # this command writes to it
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(path) as new:
                if not self.store.fetch_object(stored, new):
                    raise StratosError(
                        f"{redact(self.store.url)}: what is stored for {name} is damaged. Go on "
                        "from the folder of the machine that wrote it, or begin anew without a "
                        "copy: paths.mirror=null."
                    )
            n += 1
        for name in known.files.keys() - manifest.files.keys():
            (self.folder / name).unlink(missing_ok=True)
        return n

    def _is_emptied(self, manifest: Manifest) -> bool:
        """Return whether the run folder has lost all records, the ledger, and other files too.

        So it is after `rm -rf <folder>/*`, which leaves the hidden files. Where only records were
        deleted, the user wants their stages to run again.
        """
        lasting = {*RECORDS, _LEDGER}
        lost = {name for name in manifest.files if not _has_content(self.folder / name)}
        named = manifest.files.keys() & lasting
        return bool(named & RECORDS) and named <= lost and any(map(_tells, lost - lasting))

    def _has_gone_on(self, known: Known, manifest: Manifest) -> bool:
        """Return whether the run folder holds what its copy never had.

        What a copy holds may lie there already: a command that fetched it was cut short.
        """
        names = [str(path.relative_to(self.folder)) for path in self._find()]
        now = [name for name in names if _tells(name) and _has_content(self.folder / name)]
        if not known.files and not any(_is_record(name) or name == _LEDGER for name in now):
            return False
        copies = (known.files, manifest.files)
        return any(
            digest_of(self.folder / name)
            not in {copy[name].sha256 for copy in copies if name in copy}
            for name in now
        )
