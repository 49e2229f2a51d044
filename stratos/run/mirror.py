"""A copy of the run folder behind a URL, from which another machine goes on.

Files are stored under the SHA-256 of what is in them, and a manifest that names them is written
last: whoever reads the manifest finds all that it names, whole, wherever the writer was killed.
Records are read before what they were made from, and the ledger last, so that what a copy holds is
what a run leaves that is killed. fsspec's own rsync would show a reader a folder half copied.
One command at a time works with a copy: it holds a lease, which it renews while it lives.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import msgspec

from stratos.config import STAGES, Config
from stratos.core.atomic_files import STAGED, replacing_file, write_atomically
from stratos.core.digest import digest_of
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.process import Process
from stratos.core.redact import redact
from stratos.records import from_json
from stratos.run.copy_store import CopyLease, CopyStore, Stored
from stratos.run.run_state import FolderGoneError, RunFolder
from stratos.teachers.cache import n_bytes

MANIFEST = "manifest.json"
"""What names the files, below the URL."""
KNOWN = ".mirror.json"
"""In the run folder: which manifests it goes on from."""
RECORDS = frozenset(f"{stage}.json" for stage in (*STAGES, "pilot"))
"""Files that no command deletes."""
_HYDRA = ".hydra"
_LEDGER = "ledger.jsonl"
_ANSWERS_S = 10.0
"""How long answers that were paid for may lie here alone."""
_SETTLES_S = 3.0
"""How long somebody who deletes the run folder may be at it between one file and its lock."""


_LAST_SECOND = 253_402_300_000
"""Of the year 9999, since the epoch: a clock cannot show a later one."""


class Manifest(msgspec.Struct, frozen=True):
    """What the run folder held at one moment."""

    id: str
    host: str
    at: Annotated[float, msgspec.Meta(ge=0, le=_LAST_SECOND)]
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


def copied_config(url: str) -> str:
    """Return the config of the last command that wrote the copy behind a URL; "" without a copy.

    Raises:
        StratosError: the URL cannot be read.
    """
    store = CopyStore(url)
    with store.naming_url("read"):
        manifest = store.read(MANIFEST, Manifest)
    stored = None if manifest is None else manifest.files.get(f"{_HYDRA}/config.yaml")
    if stored is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        is_whole = store.fetch_object(stored, path)
        return path.read_text(encoding="utf-8", errors="replace") if is_whole else ""


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


def _reading_order(name: str) -> tuple[int, str]:
    return (0 if _is_record(name) else 2 if name == _LEDGER else 1), name


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
    with mirror.lease.hold():
        if n := mirror.pull():
            files = counted(n, "file", spec=",")
            note(f"Fetched from {redact(url)}: {files}, as of {mirror.copied_at}.")
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
            if mirror.push_or_warn():
                note(f"The copy at {redact(url)} is whole.")


class Mirror:
    """The copy behind one URL."""

    def __init__(
        self, folder: Path, url: str, warn: Callable[[str], None], run_folder: RunFolder
    ) -> None:
        """Copy `folder` to `url`.

        Args:
            folder: of the run.
            url: where the copy is.
            warn: says what the user should read.
            run_folder: tells whether it is still there.

        Raises:
            StratosError: the URL names no file system that can be used here.
        """
        self.folder, self.store = folder, CopyStore(url)
        self.lease = CopyLease(self.store, folder, warn)
        self.url = self.store.url
        self._run_folder, self._warn = run_folder, warn
        self._links: set[Path] = set()
        """Links that the user was warned of."""
        self._copied_at = 0.0
        """When the manifest was written that is there now, in seconds since the epoch."""
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
        due = time.monotonic() + seconds
        while not self._ended.is_set():
            is_due = self._soon.wait(min(seconds, _ANSWERS_S)) or time.monotonic() >= due
            self._soon.clear()
            has_answers = n_bytes(self.folder) != self._n_answer_bytes
            if (is_due or has_answers) and not self._ended.is_set():
                self.push_or_warn()
                due = time.monotonic() + seconds

    @property
    def copied_at(self) -> str:
        """When the copy was written, as it is read here."""
        return moment(self._copied_at)

    def how_to_go_on(self) -> str:
        """Say what to type when the run folder is gone."""
        return (
            f"The same command fetches the copy of {self.copied_at} from {redact(self.url)} and "
            "goes on."
        )

    def push_or_warn(self) -> bool:
        """Copy what has changed; return whether the copy is whole.

        A failure is said, and tried again the next time. That the folder is gone ends the run.
        """
        try:
            self.push()
        except FolderGoneError:
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
        known = self._known()
        if manifest is None:
            if known.ids:
                self._warn(
                    f"{redact(self.url)} has lost its copy of this run; it is copied there again."
                )
            self._know(())
            return 0
        self._copied_at = manifest.at
        n = 0
        if (is_emptied := self._is_emptied(manifest)) or manifest.id not in known.ids:
            known = Known(self.url) if is_emptied else known
            if self._has_gone_on(known, manifest):
                raise StratosError(
                    f"{self.folder} and {redact(self.url)} hold different runs, or each has gone "
                    f"on from the same one: the copy was written by {manifest.host} at "
                    f"{moment(manifest.at)}. To go on from the copy, type "
                    "hydra.run.dir=<a new folder>; to keep what is here, paths.mirror=<another "
                    "URL>."
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
        known = self._known()
        with self.store.naming_url("written to"):
            self.lease.renew()
            self._n_answer_bytes = n_bytes(self.folder)
            stored = {name: self._store(name, known) for name in self._names()}
            files = {name: content for name, content in stored.items() if content is not None}
            if not known.ids or files != known.files:
                if known.files.keys() - files.keys():
                    time.sleep(_SETTLES_S)  # somebody may be about to delete all of the folder
                self._run_folder.check()
                self.lease.renew()  # another may have taken it over while files were stored
                made = Manifest(uuid4().hex, Process.this().host, time.time(), files)
                # Where this process ends between the two, either manifest is its own.
                self._know((*known.ids[:1], made.id), known.files)
                self.store.write(MANIFEST, made)
                self._copied_at = made.at
                self._know((made.id,), files)
                for name in RECORDS & files.keys():
                    self._run_folder.add_record(name)
            # Nobody else stores any, because the lease is held.
            self.store.delete_other_objects({content.sha256 for content in files.values()})

    def _store(self, name: str, known: Known) -> Stored | None:
        """Store a file; return what it was stored as, or None if it was deleted just now."""
        try:
            file = (self.folder / name).open("rb")
        except FileNotFoundError:
            return None
        with file:
            return self.store.add_object(file) or known.files.get(name)

    def _known(self) -> Known:
        """Return what the run folder knows of the copy behind this URL."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            known = from_json((self.folder / KNOWN).read_bytes(), Known)
            if known.url == self.url:
                return known
        return Known(self.url)

    def _know(self, ids: tuple[str, ...], files: dict[str, Stored] | None = None) -> None:
        known = Known(self.url, ids, files or {})
        write_atomically(self.folder / KNOWN, msgspec.json.encode(known))

    def _names(self) -> list[str]:
        """Return what is copied, in the order in which it is read; links as what they lead to."""
        names = []
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if any(map(_is_passing, name.parts)):
                continue
            if path.is_file():
                names.append(name.as_posix())
            elif path.is_symlink():
                self._warn_of_link(path)
        return sorted(names, key=_reading_order)

    def _warn_of_link(self, link: Path) -> None:
        """Warn of a link to a folder, or to nothing, once; what leads into the run folder is there.

        W&B links to the folder of its last run.
        """
        if link in self._links or link.resolve().is_relative_to(self.folder.resolve()):
            return
        self._links.add(link)
        self._warn(
            f"{link} is a link to {link.resolve()}, which is no file: it is not in the copy of "
            f"this run behind {redact(self.url)}. Put what it leads to into the run folder."
        )

    def _fetch(self, manifest: Manifest, known: Known) -> int:
        """Put all that a manifest names into the run folder, records last; return how many files.

        Raises:
            StratosError: an object is missing or damaged; then no record was put there.
        """
        n = 0
        for name in sorted(manifest.files, key=lambda name: (_is_record(name), name)):
            stored, path = manifest.files[name], self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise StratosError(f"{redact(self.url)}: {name} lies outside of the run folder.")
            # Its config and its log are this command's own.
            is_own = name.startswith(f"{_HYDRA}/") or (path.suffix == ".log" and path.exists())
            if is_own or digest_of(path) == stored.sha256:
                continue
            with replacing_file(path) as new:
                if not self.store.fetch_object(stored, new):
                    raise StratosError(
                        f"{redact(self.url)}: what is stored for {name} is damaged. Go on from "
                        "the folder of the machine that wrote it, or begin anew without a copy: "
                        "paths.mirror=null."
                    )
            n += 1
        for name in known.files.keys() - manifest.files.keys():
            (self.folder / name).unlink(missing_ok=True)
        return n

    def _has_content(self, name: str) -> bool:
        """Return whether there is more than an empty file: a ledger may have just been opened."""
        path = self.folder / name
        return path.is_file() and path.stat().st_size > 0

    def _is_emptied(self, manifest: Manifest) -> bool:
        """Return whether the run folder has lost all records, the ledger, and other files too.

        So it is after `rm -rf <folder>/*`, which leaves the hidden files. Where only records were
        deleted, the user wants their stages to run again.
        """
        lasting = {*RECORDS, _LEDGER}
        lost = {name for name in manifest.files if not self._has_content(name)}
        named = manifest.files.keys() & lasting
        return bool(named & RECORDS) and named <= lost and any(map(_tells, lost - lasting))

    def _has_gone_on(self, known: Known, manifest: Manifest) -> bool:
        """Return whether the run folder holds what its copy never had.

        What a copy holds may lie there already: a command that fetched it was cut short.
        """
        now = [name for name in self._names() if _tells(name) and self._has_content(name)]
        if not known.files and not any(_is_record(name) or name == _LEDGER for name in now):
            return False
        copies = (known.files, manifest.files)
        return any(
            digest_of(self.folder / name)
            not in {copy[name].sha256 for copy in copies if name in copy}
            for name in now
        )
