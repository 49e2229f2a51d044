"""A copy of the run folder behind a URL, from which another machine goes on.

Files are stored under the SHA-256 of what is in them, and a manifest that names them is written
last: whoever reads the manifest finds all that it names, whole, wherever the writer was killed.
Records are read before what they were made from, and the ledger last, so that what a copy holds is
what a run leaves that is killed. One command at a time works with a copy: it holds a claim, which
it renews while it lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from stratos.config import Config
from stratos.core.counted import counted
from stratos.core.errors import StratosError
from stratos.core.process import Process
from stratos.core.redact import redact
from stratos.run.copied_files import RECORDS, CopiedFiles
from stratos.run.copy_claim import RENEW_S, CopyClaim
from stratos.run.copy_manifest import (
    MANIFEST,
    Known,
    Manifest,
    moment,
    read_known,
    write_known,
)
from stratos.run.copy_store import CopyStore, Stored
from stratos.run.held_folder import FolderGoneError, HeldFolder
from stratos.teachers.cache import n_bytes

_ANSWERS_S = 10.0
"""How long answers that were paid for may lie here alone."""
_SETTLES_S = 3.0
"""How long somebody who deletes the run folder may be at it between one file and its lock."""


@contextmanager
def mirrored(
    config: Config, held: HeldFolder, warn: Callable[[str], None], note: Callable[[str], None]
) -> Iterator[Mirror | None]:
    """Keep a copy of the run folder behind `paths.mirror` for as long as the block runs.

    Args:
        config: the run's config.
        held: the run folder.
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
    mirror = Mirror(config.run_dir, url, warn, held)
    held.how_to_go_on = mirror.how_to_go_on
    with mirror.claim.held():
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
            if not held.is_gone() and mirror.push_or_warn():
                note(f"The copy at {redact(url)} is whole.")


class Mirror:
    """The copy behind one URL."""

    def __init__(
        self,
        folder: Path,
        url: str,
        warn: Callable[[str], None],
        held: HeldFolder | None = None,
    ) -> None:
        """Copy `folder` to `url`.

        Args:
            folder: of the run.
            url: where the copy is.
            warn: says what the user should read.
            held: tells whether the folder is still there; the folder as it is now unless given.

        Raises:
            StratosError: the URL names no file system that can be used here.
        """
        self.folder, self.store = folder, CopyStore(url)
        self.claim = CopyClaim(self.store, folder, warn)
        self.url = self.store.url
        self._files = CopiedFiles(folder, self.store, warn)
        self._held_folder = HeldFolder(folder) if held is None else held
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
        with self.store.said("read"):
            manifest = self.store.read(MANIFEST, Manifest)
        known = read_known(self.folder, self.url)
        if manifest is None:
            if known is not None and known.ids:
                self._warn(
                    f"{redact(self.url)} has lost its copy of this run; it is copied there again."
                )
            self._know(())
            return 0
        self._copied_at = manifest.at
        if self._files.is_emptied(manifest):
            known = None
        elif known is not None and manifest.id in known.ids:
            self._know((manifest.id,), manifest.files)
            return 0
        if self._files.has_gone_on(known, manifest):
            raise StratosError(
                f"{self.folder} and {redact(self.url)} hold different runs, or each has gone on "
                f"from the same one: the copy was written by {manifest.host} at "
                f"{moment(manifest.at)}. To go on from the copy, type "
                "hydra.run.dir=<a new folder>; to keep what is here, paths.mirror=<another URL>."
            )
        n = self._files.fetch(manifest, known)
        self._know((manifest.id,), manifest.files)
        return n

    def push(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            FolderGoneError: the run folder was deleted or emptied; the copy stays as it is.
            StratosError: the URL cannot be written to.
        """
        self._held_folder.check()
        known = read_known(self.folder, self.url) or Known(self.url, ())
        with self.store.said("written to"):
            self.claim.renew()
            self._n_answer_bytes = n_bytes(self.folder)
            files = {}
            for path in self._files.find():
                if (stored := self._files.store_file(path, known)) is not None:
                    files[str(path.relative_to(self.folder))] = stored
            digests = {one.sha256 for one in files.values()}
            if known.ids and files == known.files:
                self.store.delete_other_objects(digests)
                return
            if known.files.keys() - files.keys():
                time.sleep(_SETTLES_S)  # somebody may be about to delete all of the folder
            self._held_folder.check()
            self.claim.renew(is_now=True)  # another may have taken it over while files were stored
            self._check_nobody_went_on(known)
            made = Manifest(uuid4().hex, Process.this().host, time.time(), files)
            # Where this process ends between the two, either manifest is its own.
            self._know((*known.ids[:1], made.id), known.files)
            self.store.write(MANIFEST, made)
            self._copied_at = made.at
            self._know((made.id,), files)
            for name in RECORDS & files.keys():
                self._held_folder.add_record(name)
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
        write_known(self.folder, Known(self.url, ids, files or {}))
