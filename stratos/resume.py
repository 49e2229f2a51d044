"""Stage records that let the same command go on where it stopped.

A record lies in the run folder with the fingerprint of all that it was made from: the part of the
config that its stage reads, the records before it, and the code. Where all three are as they were,
and the files that the record names are still there, the stage is not run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from stratos import records
from stratos.config import Config
from stratos.errors import StratosError
from stratos.rules import local_files

T = TypeVar("T")

_TABLES = (".csv", ".parquet", ".jsonl")
"""What is read in full anyway, so that its hash costs little."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Stage(Generic[T]):
    """One stage: what it makes, and everything that its outcome depends on."""

    name: str
    record: type[T]
    reads: tuple[str, ...]
    """Keys of the config that it reads, as "group" or "group.key"; the key of each candidate, where
    the group has several."""
    code: tuple[str, ...]
    """Packages and modules of `stratos` that it runs, besides records.py and its own package."""
    after: tuple[str, ...] = ()
    """Stages whose records it needs."""
    uses: tuple[str, ...] = ()
    """Stages whose records it takes where there are any."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage to the fields of its record that matter here; a change of the others does not."""
    remembers: tuple[str, ...] = ()
    """Fields of its own record that hold what it saw outside of config and records."""


@dataclass(frozen=True)
class Kept:
    """A record that was found, or why the file that should hold it is of no use."""

    record: Any = None
    fingerprint: str = ""
    trouble: str = ""


def fingerprint(
    stage: Stage[Any],
    config: Config,
    made: dict[str, Any],
    marks: dict[str, str],
    own: Any = None,
) -> str:
    """Return the SHA-256 of everything that a stage's record is made from.

    Args:
        stage: the stage.
        config: the run's config, of which the stage's part counts.
        made: stage name to the record, of every stage that has one.
        marks: stage name to that record's own fingerprint.
        own: the stage's own record, of which what it remembers counts.
    """
    subset = {key: _select(config.plain, key) for key in stage.reads}
    upstream = {
        name: [getattr(made[name], part) for part in stage.only[name]]
        if name in stage.only
        else marks[name]
        for name in (*stage.after, *stage.uses)
        if name in made
    }
    files = [(key, _digest_path(path)) for key, path in local_files(subset)]
    made_of = {
        "config": subset,
        "files": files,
        "upstream": upstream,
        "code": _digest_code(("records.py", stage.name, *stage.code)),
        "user_code": _digest_user_code(config),
        "seen": [getattr(own, name) for name in stage.remembers if own is not None],
    }
    text = json.dumps(made_of, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _select(plain: dict[str, Any], key: str) -> Any:
    """Return a group of the config, or a key of it: where it has candidates, that of each."""
    group, _, name = key.partition(".")
    node = plain.get(group)
    if not name or node is None:
        return node
    several = node.get("candidates")
    if name != "candidates" and isinstance(several, Mapping):
        return {one: fields.get(name) for one, fields in several.items()}
    return node.get(name)


def find(stage: Stage[T], folder: Path) -> Kept | None:
    """Read the record of a stage in `folder`; None if there is no such file."""
    path = folder / f"{stage.name}.json"
    try:
        envelope = records.from_json(path.read_bytes(), records.Envelope)
        record = records.from_json(bytes(envelope.record), stage.record)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Kept(trouble=f"{path} is corrupt ({error})")
    for name, n_bytes in envelope.files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != n_bytes:
            return Kept(trouble=f"{path} names {file}, which is gone or was changed")
    return Kept(record, envelope.fingerprint)


def keep(stage: Stage[T], folder: Path, mark: str, record: T) -> None:
    """Write the record of a stage with its fingerprint, atomically."""
    files = _files_of(record, folder)
    records.save(folder / f"{stage.name}.json", stage.name, mark, record, files)


@contextlib.contextmanager
def disk_errors(stage: str, folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a message that says how to go on.

    Raises:
        StratosError: the disk cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        again = f"The same command with hydra.run.dir={folder} goes on from here."
        if error.errno in _NO_ROOM:
            raise StratosError(
                f"{stage}: no space left to write {where} ({error.strerror}). Free some. {again}"
            ) from error
        if error.errno in _NO_RIGHT:
            raise StratosError(
                f"{stage}: {where} cannot be written ({error.strerror}). Give another folder "
                f"with hydra.run.dir=<folder>, or paths.cache_dir=<folder> for the cache."
            ) from error
        raise


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Args:
        path: the file that is locked; made if need be.
        waiting: called if another process holds it, before waiting for that one to finish;
            without it, a held lock is an error.

    Raises:
        BlockingIOError: another process holds the lock, and `waiting` was not given.
    """
    if sys.platform == "win32":  # no flock there: two runs of one folder are the user's to avoid
        yield
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files_of(record: Any, folder: Path) -> dict[str, int]:
    """Return the size of every file that a record names, or that lies in a folder it names."""
    found: dict[str, int] = {}
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        if value and (entry.name == "path" or entry.name.endswith("_path")):
            named = folder / value
            for path in [named] if named.is_file() else sorted(named.rglob("*")):
                if path.is_file():
                    key = Path(value) / path.relative_to(named)
                    found[key.as_posix()] = path.stat().st_size
    return found


def _digest_path(path: Path) -> Any:
    """Return the hash of a file; of a folder or a pattern that of its tables, and other sizes.

    Other files in folders are weights, which are not hashed each time: a model that is changed
    and keeps the size of every file is not noticed.
    """
    if path.is_file():
        return _digest_file(path)
    found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    root = str(path)
    return sorted(
        (
            str(file).removeprefix(root),
            _digest_file(file) if file.suffix in _TABLES else file.stat().st_size,
        )
        for file in found
        if file.is_file()
    )


def _digest_file(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _digest_code(names: tuple[str, ...]) -> str:
    """Return the hash of the source and data files of some of our packages."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for name in sorted(set(names)):
        path = root / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"{file.relative_to(root)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _digest_user_code(config: Config) -> dict[str, str]:
    """Return the hash of each module of the user's own that a `_target_` names."""
    found = {}
    # A task may itself have parts that a `_target_` names: a verifier.
    parts = getattr(config.task, "parts", ())
    for one in (config.task, *parts, *config.teachers, *config.strategies):
        module = sys.modules[type(one).__module__]
        path = getattr(module, "__file__", None)
        if path is not None and not module.__name__.startswith("stratos."):
            found[module.__name__] = _digest_file(Path(path))
    return found
