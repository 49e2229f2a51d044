"""The answer cache: content-addressed, shared by all runs.

One SQLite file in the cache folder. Every answer is committed as it arrives, so a run that is
killed keeps what it has; write-ahead logging lets many processes use the file at once. A process
claims a question before it asks it; another that needs the same answer waits for it. Claims of a
process that died are free at once, those of one that hangs after a while.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from stratos.core.formats import counted
from stratos.core.process import Process
from stratos.teachers.base import Answer, CacheMode, Question, Teacher

# Answers of paid teachers in the run folder, too, so that a copy of the folder has them.
#
# The answer cache is shared by the runs of a machine, and lost with it. Where a run keeps a copy of
# its folder elsewhere, each answer is also added to a file there as it arrives; another machine
# that fetches the copy puts them into its own cache, and pays for none of them again.

FOLDER = "answers"
"""In the run folder."""
_PART_BYTES = 4 * 2**20
"""Of a file: what was copied of the files before the last one is not copied again."""
MOST_BYTES = 256 * 2**20
"""Of all files: a run with more answers keeps the others in the cache alone."""


class KeptAnswer(msgspec.Struct, frozen=True):
    """A line: a row of the cache."""

    key: str
    answer: str
    digest: str


class KeptAnswers:
    """The files of one run; added to by one process at a time."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Add to what is in `folder`."""
        self._folder = folder
        self._warn = warn
        self._lock = threading.Lock()
        self._is_full = False
        self._path: Path | None = None

    def add(self, row: KeptAnswer) -> None:
        """Add an answer; it is paid for, so that a disk that fails is said and ends nothing."""
        with self._lock:
            if self._is_full:
                return
            try:
                with self._place().open("ab") as file:
                    file.write(msgspec.json.encode(row) + b"\n")
            except OSError as error:
                self._stop(f"{self._folder} cannot be written ({error})")

    def _place(self) -> Path:
        """Return the file that is added to, whole up to its last line."""
        if self._path is not None and self._path.stat().st_size < _PART_BYTES:
            return self._path
        self._folder.mkdir(parents=True, exist_ok=True)
        parts = _parts(self._folder)
        if sum(part.stat().st_size for part in parts) >= MOST_BYTES:
            self._stop(f"{self._folder} holds {MOST_BYTES // 2**20} MiB")
            raise OSError("it is full")
        # A line that was cut short by a kill is left in a file that nothing is added to.
        self._path = self._folder / f"{len(parts) + 1:05d}.jsonl"
        return self._path

    def _stop(self, why: str) -> None:
        if not self._is_full:
            self._is_full = True
            self._warn(
                f"{why}: more answers are kept in the cache of this machine alone, and are paid "
                "again where it is lost."
            )


def read_kept(folder: Path) -> Iterator[list[KeptAnswer]]:
    """Yield what the files of a run folder hold, file by file, without lines that were cut short.

    Args:
        folder: the run's.
    """
    for path in _parts(folder / FOLDER):
        rows = []
        with contextlib.suppress(OSError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError, RecursionError):
                    rows.append(msgspec.json.decode(line, type=KeptAnswer))
        yield rows


def n_bytes(folder: Path) -> int:
    """Return how much the files of a run folder hold."""
    return sum(part.stat().st_size for part in _parts(folder / FOLDER))


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


FILE_NAME = "teacher_answers.sqlite"

CLAIM_SECONDS = 900.0
"""How long a claim holds whose process lives but does not answer."""
_OWNER_SECONDS = 30 * 86_400.0
"""How long it is known which process an owner of claims was."""

_PROCESS = uuid4().hex[:16]
_BUSY_SECONDS = 60.0
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, owner TEXT NOT NULL,
    until REAL NOT NULL
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS owners (
    owner TEXT PRIMARY KEY, boot TEXT NOT NULL, started TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS same (identity TEXT PRIMARY KEY, teacher TEXT NOT NULL) WITHOUT ROWID
""",
    """
CREATE TRIGGER IF NOT EXISTS answered AFTER INSERT ON answers BEGIN
    DELETE FROM claims WHERE key = NEW.key;
END
""",
)
_CLAIM = """
INSERT INTO claims VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET host = ?2, pid = ?3, owner = ?4, until = ?5
WHERE owner = ?4 OR until < ?6 OR (owner = ?7 AND ?7 <> '')
RETURNING 1
"""
_RIVAL = """
SELECT host, pid, owner, coalesce(boot, ''), coalesce(started, '')
FROM claims LEFT JOIN owners USING (owner) WHERE key = ?
"""
_FORGET = "DELETE FROM owners WHERE at < ? AND owner NOT IN (SELECT owner FROM claims)"
# One statement and one commit for a file of rows. What the cache has already stays as it is.
_RESTORE = """
INSERT OR IGNORE INTO answers
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(?) RETURNING 1
"""
_SAME = """
INSERT INTO same VALUES (?1, ?2) ON CONFLICT (identity) DO UPDATE SET teacher = ?2
"""


def question_key(identity: str, question: Question) -> str:
    """Return the address of an answer: a hash of all that decides it."""
    drawn: Any = "greedy"
    if question.sample or question.temperature is not None:
        drawn = [question.sample, question.temperature, 0]
    text = json.dumps([identity, question.chat, question.max_tokens, drawn], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """The answers in one folder. A cache that fails is said to fail, and the run goes on without.

    Args:
        folder: where the file lies; made if it is not there.
        warn: told about corrupt entries and about a file that cannot be used.
        mode: off neither finds nor keeps, read finds, write does both.
        also: where answers are kept, too.
    """

    def __init__(
        self,
        folder: Path,
        warn: Callable[[str], None],
        mode: CacheMode = "write",
        also: KeptAnswers | None = None,
    ) -> None:
        """Remember the place; the file is opened at the first use."""
        self._also = also
        self.path = folder / FILE_NAME
        self._warn = warn
        self._mode = mode
        self._db: sqlite3.Connection | None = None
        self._usable = mode != "off"
        # One owner a process: a stream that is paused must not keep its own process waiting.
        self._owner = f"{_PROCESS}:{os.getpid()}"
        self._n_claims = 0
        self._next_renewal = 0.0
        self._corrupt: set[str] = set()

    def same(self, identities: Sequence[str]) -> tuple[str, ...]:
        """Return all identities of one teacher; new answers are kept under the first of them.

        Whoever gives several says that one model is behind them. That is remembered: what was
        kept under any is found under each, also when one is left out or added later.

        Args:
            identities: at least one.
        """
        names: dict[str, str] = {}
        for identity in identities if self._mode != "off" else ():
            row = self._use("SELECT teacher FROM same WHERE identity = ?", (identity,))
            if row is not None and row[0] not in names.values():
                names |= self._rows("SELECT * FROM same WHERE teacher = ?", (row[0],))
        teacher = min(names.values(), default=identities[0])
        everyone = dict.fromkeys((teacher, *identities, *sorted(names)))
        if self._mode == "write" and len(everyone) > 1:
            for identity in everyone:
                if names.get(identity) != teacher:
                    self._use(_SAME, (identity, teacher))
        return tuple(everyone)

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the answers that are there, by key; a corrupt one counts as not there."""
        answers: dict[str, Answer] = {}
        for key in dict.fromkeys(keys):
            row = self._use("SELECT answer, digest FROM answers WHERE key = ?", (key,))
            if row is None:
                continue
            try:
                if row[1] != _digest(key, row[0]):
                    raise ValueError(f"the digest of {key} does not fit")
                answers[key] = msgspec.json.decode(row[0], type=Answer)
            except (ValueError, TypeError):
                self._corrupt.add(key)
        return answers

    def put(self, key: str, answer: Answer) -> None:
        """Keep one answer; it is safe from a kill of this process when this returns."""
        if self._mode != "write":
            return
        text = json.dumps(msgspec.to_builtins(answer))
        row = (key, text, _digest(key, text))
        self._use("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)
        if self._also is not None:
            self._also.add(KeptAnswer(*row))

    def restore(self, rows: Sequence[KeptAnswer]) -> int:
        """Take over rows of another machine's cache that are whole, and return how many are new."""
        whole = [
            (row.key, row.answer, row.digest)
            for row in rows
            if row.digest == _digest(row.key, row.answer)
        ]
        return len(self._rows(_RESTORE, (json.dumps(whole),))) if whole else 0

    def claim(self, key: str) -> bool:
        """Return whether this process may ask a question: no other one is about to.

        Where nothing is kept, nobody waits for anybody.
        """
        if self._mode != "write":
            return True
        me = Process.this()
        if not self._n_claims:
            row = (self._owner, me.boot, me.started, time.time())
            self._use("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?)", row)
            self._use(_FORGET, (time.time() - _OWNER_SECONDS,))
        self._n_claims += 1
        now = time.time()
        mine = (key, me.host, me.pid, self._owner, now + CLAIM_SECONDS, now)
        if self._use(_CLAIM, (*mine, "")) is not None:
            return True
        rival = self._use(_RIVAL, (key,))
        if rival is None:
            return True
        host, pid, owner, boot, started = rival
        if not Process(host, pid, boot, started).is_dead():
            return False
        return self._use(_CLAIM, (*mine, owner)) is not None

    def renew(self) -> None:
        """Hold this process's claims for longer; may be called often, and acts now and then."""
        now = time.time()
        if not self._n_claims or now < self._next_renewal:
            return
        self._next_renewal = now + CLAIM_SECONDS / 4
        self._use("UPDATE claims SET until = ? WHERE owner = ?", (now + CLAIM_SECONDS, self._owner))

    def close(self) -> None:
        """Free the claims, close the file and say what was corrupt in it."""
        if self._corrupt:
            n = len(self._corrupt)
            verb = "is" if n == 1 else "are"
            self._warn(f"{counted(n, 'corrupt answer')} in {self.path} {verb} asked for again.")
            self._corrupt.clear()
        if self._n_claims and self._usable:
            self._use("DELETE FROM claims WHERE owner = ?", (self._owner,))
            self._n_claims = 0
        self._disconnect()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _use(self, statement: str, values: tuple[Any, ...]) -> Any:
        """Run a statement and return its first row, or None."""
        return next(iter(self._rows(statement, values)), None)

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        """Run a statement and return its rows; a corrupt file is set aside, once."""
        for is_last_try in (False, True):
            if not self._usable:
                break
            try:
                if self._db is None:
                    self._db = _connect(self.path)
                return self._db.execute(statement, values).fetchall()
            except (sqlite3.DatabaseError, OSError) as error:
                self._disconnect()
                unusable = isinstance(error, sqlite3.OperationalError | OSError)
                if unusable or is_last_try:
                    self._usable = False
                    self._warn(
                        f"{self.path} cannot be used ({error}): this run neither finds nor keeps "
                        "answers there."
                    )
                else:
                    self._set_aside(str(error))
        return []

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
        _write_ahead(db)
        db.execute("PRAGMA synchronous=NORMAL")
        for statement in _SCHEMA:
            db.execute(statement)
    except BaseException:
        db.close()
        raise
    return db


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging.

    SQLite's own timeout does not cover this switch: of processes that open a new file at once,
    all but one would be refused at once.
    """
    last_try = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > last_try:
                raise
        time.sleep(random.uniform(0.001, 0.02))


def _digest(key: str, text: str) -> str:
    return hashlib.blake2b(f"{key} {text}".encode(), digest_size=8).hexdigest()


# Look questions up in the answer cache.

_AT_A_TIME = 256


def look_up(
    teacher: Teacher, questions: Sequence[Question], cache_dir: Path
) -> tuple[list[tuple[Question, Answer]], list[Question]]:
    """Return the questions whose answer is kept, with it, and the others; equal ones once."""
    known: list[tuple[Question, Answer]] = []
    with closing(AnswerCache(cache_dir, lambda _: None, teacher.cache)) as cache:
        first, *further = cache.same(teacher.identities())
        unknown = {question_key(first, question): question for question in questions}
        for identity in (first, *further):
            by_key = {question_key(identity, question): key for key, question in unknown.items()}
            cached = cache.get(by_key)
            known += [(unknown.pop(by_key[key]), answer) for key, answer in cached.items()]
    return known, list(unknown.values())


def kept_answers_of(
    teacher: Teacher, questions: Sequence[Question], cache_dir: Path
) -> list[Answer] | None:
    """Return the kept answers to questions in their order; None where one of them is not kept."""
    known, unknown = look_up(teacher, questions, cache_dir)
    if unknown:
        return None
    by_key = {question_key("", question): answer for question, answer in known}
    return [by_key[question_key("", question)] for question in questions]


def restored(run_dir: Path, cache_dir: Path, warn: Callable[[str], None]) -> int:
    """Put the answers that lie in a run folder into the cache; return how many it did not have."""
    with closing(AnswerCache(cache_dir, warn)) as cache:
        return sum(cache.restore(rows) for rows in read_kept(run_dir))


def n_kept(teacher: Teacher, questions: Iterable[Question], cache_dir: Path) -> int:
    """Return how many of the answers are kept, of questions in the order they are asked in.

    None among the first ends the search: others come behind those.
    """
    if teacher.cache == "off" or not (cache_dir / FILE_NAME).exists():
        return 0
    n, remaining = 0, iter(questions)
    while some := list(islice(remaining, _AT_A_TIME)):
        known, _ = look_up(teacher, some, cache_dir)
        n += len(known)
        if not n:
            break
    return n
