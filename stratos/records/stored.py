"""Records on disk: written atomically, and read back with their types checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.redact import redact_text

T = TypeVar("T")

FORMAT = 1
"""Number of how records lie on disk: raised when what is written can no longer be read."""


@dataclass(frozen=True)
class FileMark:
    """By which a file is known again."""

    n_bytes: int
    mtime_ns: int
    """Time of its last change."""
    sha256: str


@dataclass(frozen=True)
class Envelope:
    """A stage record as it lies on disk: with the fingerprint of everything it was made from."""

    format: int
    """`FORMAT` of the code that wrote it."""
    stage: str
    fingerprint: str
    record: msgspec.Raw
    files: dict[str, FileMark]
    """Mark of every file that the record names, or that lies in a folder it names."""
    inputs: dict[str, str]
    """What it was made from, by name, each a short digest; none where nobody compares it."""
    folder: str
    """Where it was written."""
    sha256: str
    """Of all the rest."""


@dataclass(frozen=True)
class _Core:
    """What an envelope of every format has."""

    fingerprint: str
    record: msgspec.Raw
    format: int = 0


class FormatError(msgspec.ValidationError):
    """A record is of another format: code of another day has written it."""


class EditedError(msgspec.ValidationError):
    """A record is not as it was written: somebody has edited it, or a disk has spoilt it."""


def to_json(record: Any) -> bytes:
    """Return a record as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1)


def from_json(data: bytes, record_type: type[T]) -> T:
    """Read a record back, its types checked.

    Raises:
        msgspec.DecodeError: the text is no JSON, or does not fit the record.
    """
    try:
        return msgspec.json.decode(data, type=record_type)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def to_plain(record: Any) -> Mapping[str, Any]:
    """Return a record as plain dicts and lists, for W&B and templates."""
    return msgspec.to_builtins(record)


def save(
    path: Path,
    stage: str,
    fingerprint: str,
    record: Any,
    files: Mapping[str, FileMark] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write a stage record with its fingerprint and without secrets, atomically."""
    envelope = {
        "format": FORMAT,
        "stage": stage,
        "fingerprint": fingerprint,
        "record": _redacted(msgspec.to_builtins(record)),
        "files": msgspec.to_builtins(files or {}),
        "inputs": dict(inputs or {}),
        "folder": str(path.parent),
    }
    write_atomically(path, to_json({**envelope, "sha256": _digest(envelope)}))


def opened(data: bytes) -> Envelope:
    """Read the envelope of a record.

    Raises:
        FormatError: it is of another format.
        EditedError: it is not as it was written.
        msgspec.DecodeError: it is no envelope.
    """
    number = from_json(data, _Core).format
    if number != FORMAT:
        raise FormatError(f"it is of format {number}, not of {FORMAT}: start anew")
    envelope = from_json(data, Envelope)
    plain = from_json(data, dict[str, Any])
    del plain["sha256"]
    if _digest(plain) != envelope.sha256:
        raise EditedError("it was changed after it was written")
    return envelope


def _digest(envelope: Mapping[str, Any]) -> str:
    """Return the hash of an envelope that spacing leaves alone."""
    plain = msgspec.json.decode(msgspec.json.encode(envelope))
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _redacted(node: Any, name: str = "") -> Any:
    """Return plain dicts and lists without secrets; where files lie stays as it is."""
    if isinstance(node, dict):
        return {key: _redacted(value, key) for key, value in node.items()}
    if isinstance(node, list):
        return [_redacted(item, name) for item in node]
    if isinstance(node, str) and not (name == "path" or name.endswith("_path")):
        return redact_text(node)
    return node


def load(path: Path, fingerprint: str | None, record_type: type[T]) -> T | None:
    """Read a stage record; None if it is not there or was made from other inputs.

    `fingerprint=None` takes the record whatever it was made from.

    Raises:
        msgspec.DecodeError: the file is corrupt.
    """
    if not path.exists():
        return None
    envelope = opened(path.read_bytes())
    if fingerprint is not None and envelope.fingerprint != fingerprint:
        return None
    return from_json(bytes(envelope.record), record_type)


# Records of stages that rooms of contrib add.


@dataclass(frozen=True)
class Section:
    """Part of a run's report that shows one record."""

    anchor: str
    """Under which it is linked to."""
    title: str
    """In the page's navigation."""
    template: str
    """Jinja template, as a path below `stratos/contrib`; it gets `record` and `run_dir`."""


class RoomRecord:
    """What a stage of a room made: it says itself what it came to."""

    section: ClassVar[Section | None] = None
    """Its part of the report; None for none."""

    def outcome(self) -> str:
        """Return the line that is shown when the stage is done."""
        raise NotImplementedError

    def summary(self, run_dir: Path) -> str:
        """Return its line of the run's summary; "" for none.

        Args:
            run_dir: folder of the run.
        """
        return ""

    def numbers(self) -> Mapping[str, float | str]:
        """Return the numbers that runs are compared by."""
        return {}
