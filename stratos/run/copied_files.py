"""The files of a run folder that its copy holds: which they are, stored there and fetched here."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from pathlib import Path

from stratos.config import STAGES
from stratos.core.atomic_files import STAGED, replacing_file, staged_apart
from stratos.core.digest import digest_of, identity
from stratos.core.errors import StratosError
from stratos.core.redact import redact
from stratos.run.copy_manifest import KNOWN, Known, Manifest
from stratos.run.copy_store import CopyStore, Stored, Warn

RECORDS = frozenset(f"{stage}.json" for stage in (*STAGES, "pilot"))
"""Files that no command deletes."""
_SMALL = 32 * 2**20
"""Bytes of a file that is read into memory, and so copied as it was at one moment."""
_HYDRA = ".hydra"
_LEDGER = "ledger.jsonl"


class CopiedFiles:
    """Those of one run folder, beside what is behind one URL."""

    def __init__(self, folder: Path, store: CopyStore, warn: Warn) -> None:
        """Copy between a run folder and a store.

        Args:
            folder: of the run.
            store: what lies behind the URL.
            warn: says what the user should read.
        """
        self._folder, self._store, self._warn = folder, store, warn
        self._linked: set[Path] = set()

    def find(self) -> list[Path]:
        """Return what is copied, in the order in which it is read; links as what they lead to."""
        found = []
        for one in self._folder.rglob("*"):
            if any(map(_is_passing, one.relative_to(self._folder).parts)):
                continue
            if one.is_file():
                found.append(one)
            elif one.is_symlink():
                self._say_left_out(one)

        def key(path: Path) -> tuple[int, str]:
            is_record = path.parent == self._folder and path.suffix == ".json"
            return (0 if is_record else 2 if path.name == _LEDGER else 1), str(path)

        return sorted(found, key=key)

    def _say_left_out(self, link: Path) -> None:
        """Warn of a link to a folder, or to nothing, once; what leads into the run folder is there.

        W&B links to the folder of its last run.
        """
        if link in self._linked or link.resolve().is_relative_to(self._folder.resolve()):
            return
        self._linked.add(link)
        self._warn(
            f"{link} is a link to {link.resolve()}, which is no file: it is not in the copy of "
            f"this run behind {redact(self._store.url)}. Put what it leads to into the run folder."
        )

    def store_file(self, path: Path, known: Known) -> Stored | None:
        """Store a file; return what it was stored as, or None if it is gone or being written."""
        try:
            before = path.stat()
            if before.st_size <= _SMALL:
                data = path.read_bytes()
                stored = Stored(hashlib.sha256(data).hexdigest(), len(data))
                self._store.keep_object(stored, data)
                return stored
            if path.suffix == ".jsonl":
                return self._store_begun(path, before.st_size)
            stored = Stored(digest_of(path), before.st_size)
            self._store.keep_object(stored, path)
            if identity(path.stat()) == identity(before):
                return stored
        except FileNotFoundError:
            if path.exists():
                raise
            return None
        return known.files.get(str(path.relative_to(self._folder)))

    def _store_begun(self, path: Path, n_bytes: int) -> Stored:
        """Store the lines that a file has by now, which may always be written to."""
        whole = staged_apart(path)
        try:
            with path.open("rb") as file, whole.open("wb") as copy:
                while n_bytes > 0 and (data := file.read(min(n_bytes, _SMALL))):
                    n_bytes -= copy.write(data)
            stored = Stored(digest_of(whole), whole.stat().st_size)
            self._store.keep_object(stored, whole)
            return stored
        finally:
            whole.unlink(missing_ok=True)

    def fetch(self, manifest: Manifest, known: Known | None) -> int:
        """Put all that a manifest names into the run folder, records last; return how many files.

        Raises:
            StratosError: an object is missing or damaged; then no record was put there.
        """
        names = sorted(manifest.files, key=lambda one: (_is_record(one), one))
        n = 0
        for name in names:
            stored, path = manifest.files[name], self._folder / name
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise StratosError(
                    f"{redact(self._store.url)}: {name} lies outside of the run folder."
                )
            if name.startswith(f"{_HYDRA}/") or digest_of(path) == stored.sha256:
                continue  # the config is that of this command
            if path.suffix == ".log" and path.exists():
                continue  # this command writes to it
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(path) as new:
                if not self._store.fetch_object(stored, new):
                    raise StratosError(
                        f"{redact(self._store.url)}: what is stored for {name} is damaged. Go on "
                        "from the folder of the machine that wrote it, or begin anew without a "
                        "copy: paths.mirror=null."
                    )
            n += 1
        for name in (known.files if known is not None else {}).keys() - manifest.files.keys():
            (self._folder / name).unlink(missing_ok=True)
        return n

    def is_emptied(self, manifest: Manifest) -> bool:
        """Return whether the run folder has lost all records, the ledger, and other files too.

        So it is after `rm -rf <folder>/*`, which leaves the hidden files. Where only records were
        deleted, the user wants their stages to run again.
        """
        kept = {*RECORDS, _LEDGER}
        lost = {name for name in manifest.files if not _has_content(self._folder / name)}
        named = manifest.files.keys() & kept
        return bool(named & RECORDS) and named <= lost and any(map(_tells, lost - kept))

    def has_gone_on(self, known: Known | None, manifest: Manifest) -> bool:
        """Return whether the run folder holds what its copy never had.

        What a copy holds may lie there already: a command that fetched it was cut short.
        """
        names = [str(one.relative_to(self._folder)) for one in self.find()]
        now = [name for name in names if _tells(name) and _has_content(self._folder / name)]
        then = {} if known is None else known.files
        if not then and not any(_is_record(name) or name == _LEDGER for name in now):
            return False
        for name in now:
            had = [files[name].sha256 for files in (then, manifest.files) if name in files]
            if digest_of(self._folder / name) not in had:
                return True
        return False


def _is_passing(name: str) -> bool:
    """Return whether a file means nothing on another machine, or is only half there."""
    is_half = any(fnmatchcase(name, one) for one in STAGED)
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
