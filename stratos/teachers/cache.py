"""Answers are kept: content-addressed, shared by all runs, so that no question is asked twice.

One SQLite file in the cache folder. Every answer is committed as it arrives, so a run that is
killed keeps what it has; write-ahead logging lets many processes use the file at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from stratos.tasks.base import Message
from stratos.teachers.base import Answer

FILE_NAME = "teacher_answers.sqlite"

_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID
"""


def answer_key(identity: str, chat: Sequence[Message], max_tokens: int) -> str:
    """Return the address of an answer: a hash of all that decides it.

    Args:
        identity: of the teacher; see `Teacher.identity`.
        chat: the messages.
        max_tokens: longest answer.
    """
    text = json.dumps([identity, list(chat), max_tokens, "greedy"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """The answers in one folder. A cache that fails is said to fail, and the run goes on without.

    Args:
        folder: where the file lies; made if it is not there.
        warn: told about corrupt entries and about a file that cannot be used.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Remember the place; the file is opened at the first use."""
        self.path = folder / FILE_NAME
        self._warn = warn
        self._db: sqlite3.Connection | None = None
        self._usable = True

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the answers that are there, by key; a corrupt one counts as not there."""
        found: dict[str, Answer] = {}
        n_corrupt = 0
        for key in dict.fromkeys(keys):
            row = self._use("SELECT answer, digest FROM answers WHERE key = ?", (key,))
            if row is None:
                continue
            try:
                if row[1] != _digest(key, row[0]):
                    raise ValueError(f"the digest of {key} does not fit")
                found[key] = msgspec.json.decode(row[0], type=Answer)
            except (ValueError, TypeError):
                n_corrupt += 1
        if n_corrupt:
            self._warn(f"{n_corrupt} corrupt answers in {self.path} are asked for again.")
        return found

    def put(self, key: str, answer: Answer) -> None:
        """Keep one answer; it is safe from a kill of this process when this returns."""
        text = json.dumps(msgspec.to_builtins(answer))
        row = (key, text, _digest(key, text))
        self._use("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _use(self, statement: str, values: tuple[str, ...]) -> Any:
        """Run a statement and return its first row; a corrupt file is set aside, once."""
        for is_last_try in (False, True):
            if not self._usable:
                break
            try:
                if self._db is None:
                    self._db = _connect(self.path)
                return self._db.execute(statement, values).fetchone()
            except (sqlite3.DatabaseError, OSError) as error:
                self.close()
                unusable = isinstance(error, sqlite3.OperationalError | OSError)
                if unusable or is_last_try:
                    self._usable = False
                    self._warn(
                        f"{self.path} cannot be used ({error}): this run neither finds nor keeps "
                        "answers there."
                    )
                else:
                    self._set_aside(str(error))
        return None

    def _set_aside(self, reason: str) -> None:
        """Move a corrupt file out of the way, so that it can still be looked at."""
        aside = self.path.with_suffix(".corrupt")
        self._warn(
            f"{self.path} is corrupt ({reason}): it is kept as {aside.name}, and its answers are "
            "asked for again."
        )
        with suppress(OSError):
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Autocommit: an answer that was paid for is kept before the next one is asked.
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _digest(key: str, text: str) -> str:
    return hashlib.blake2b(f"{key} {text}".encode(), digest_size=8).hexdigest()
