"""What records are made of: quantities with their range, and cards of models; and records on disk.

They are written atomically, and read back with their types checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.redact import redact_text


@dataclass(frozen=True)
class Tried:
    """What a training showed that was too short to predict from."""

    n_right: int
    """Validation items with the right answer."""
    n_items: int
    train_tokens: int

    @property
    def share(self) -> float:
        """Share of the items with the right answer."""
        return self.n_right / self.n_items if self.n_items else 0.0


@dataclass(frozen=True)
class Interval:
    """A quantity with the range that it may be trusted to (95% unless `source` says otherwise)."""

    mean: float
    low: float
    high: float
    source: str = ""
    """Where it comes from, as a phrase: "64 validation items, Wilson"."""
    is_known: bool = True
    """False where nothing was measured that it could rest on: its ends are bounds then, and its
    mean is no estimate."""
    tried: Tried | None = None
    """Of an unknown accuracy, what a short training showed nevertheless."""

    @property
    def is_share_known(self) -> bool:
        """Return False for a share that may be anything, as after no trials."""
        return (self.low, self.high) != (0.0, 1.0)


MOST_TRUNCATED = 0.05
"""Share of a model's answers that may end at the longest length before its accuracy is doubted."""


def is_cut_short(n_truncated: int, n_answers: int) -> bool:
    """Return whether so many answers were cut that what was measured of them is doubtful."""
    return n_truncated > MOST_TRUNCATED * n_answers


@dataclass(frozen=True)
class ModelCard:
    """The facts of a model that the estimate and the plan need; weights are not among them."""

    name: str
    n_params: int
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    intermediate_size: int
    vocab_size: int
    context_length: int
    license: str = "unknown"
    usd_per_million_input_tokens: float | None = None
    """Price of a hosted model; None for one that runs on a server of the plan."""
    usd_per_million_output_tokens: float | None = None
    usd_per_million_cached_input_tokens: float | None = None
    """Price of input tokens that the endpoint has read before; None for that of all others."""
    max_requests_per_minute: float | None = None
    max_tokens_per_minute: float | None = None
    """Rate limit of a hosted model, tokens in and out together."""
    usd_per_million_batch_input_tokens: float | None = None
    """Price of a batch that may take `batch_hours`; None for a model without."""
    usd_per_million_batch_output_tokens: float | None = None
    batch_hours: float = 24.0
    """Window within which a batch is answered."""
    runs: tuple[CardRun, ...] = ()
    """Recorded runs of this model as a student."""
    head_size: int | None = None
    """Width of one attention head; None for hidden_size / n_heads."""
    price_date: str = ""
    """Day of a hosted model's prices."""
    price_source: str = ""
    retires: str = ""
    """Day from which a hosted model answers no more, as YYYY-MM-DD; "" where none is known."""
    retires_source: str = ""
    is_gguf: bool = False
    """Whether llama.cpp's file can hold the model: its architecture, and how positions are told."""

    def input_usd(self, n_tokens: float, n_cached: float = 0) -> float:
        """Return the dollars of input tokens, some of which the endpoint has read before."""
        usd = self.usd_per_million_input_tokens or 0.0
        cached_usd = self.usd_per_million_cached_input_tokens
        discount = 0.0 if cached_usd is None else max(0.0, usd - cached_usd)
        return (n_tokens * usd - n_cached * discount) / 1e6


@dataclass(frozen=True)
class CardRun:
    """One recorded training of a student: what a card's accuracy and latency rest on."""

    task: str
    strategy: str
    accuracy: float
    """Exact match on the test split, all slices together: for show, no plan rests on it."""
    n_items: int
    """Test items."""
    train_tokens: int
    tokens_per_answer: float
    """Mean completion tokens of one answer, the reasoning path included."""
    ms_per_answer: float
    """Median latency of one answer at batch 1 on `machine`."""
    train_cpu_seconds: float
    seed: int
    date: str
    machine: str
    accuracy_by_slice: dict[str, float] = field(default_factory=dict, hash=False)
    student: str = ""
    """Name of the student, where the run stands elsewhere than on its own card."""
    validation_accuracy: float | None = None
    """Exact match of the kept weights on validation items: what plans rest on."""
    n_validation_items: int = 0
    task_version: int = 1
    """`task.version` that the run was made with."""
    computed: float = 1.0
    """Share of the training's tokens that was computed, as in `Student`."""


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


CONTENT_OF = "the content of "
"""Before the key that names a file: what its content is called among the inputs of a record."""


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
