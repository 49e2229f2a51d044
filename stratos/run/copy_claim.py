"""Which command works with a copy: one at a time, and the next where that one is gone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec

from stratos.core.counted import counted
from stratos.core.errors import BusyError, StratosError
from stratos.core.formats import duration
from stratos.core.process import Process
from stratos.core.redact import redact
from stratos.executors import started
from stratos.run.copy_store import CopyStore, Warn

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
        for one in started.jobs():
            if Path(one.folder) == Path(held.folder):
                self._warn(
                    f"{one.stage} of {held.folder}, which this copy was of, was handed to "
                    f"{one.place or one.name}. It may still run, and is paid beside what runs now: "
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
