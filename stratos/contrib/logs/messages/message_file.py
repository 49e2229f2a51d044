"""A file of conversations as a stream, with what is wrong by line and what is left out counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stratos.contrib.logs.messages.conversation import (
    Conversation,
    PassedOver,
    UnansweredRow,
    WrongRow,
)
from stratos.contrib.logs.messages.recognised import conversation_in, parts_of_row
from stratos.contrib.logs.words import FieldOfWrongType
from stratos.core import extras
from stratos.core.foreign import cause
from stratos.core.reasons import Because, Reason
from stratos.core.remote import local_path
from stratos.tasks.files import is_local, read_records
from stratos.tasks.rows import Unanswered

_HUB = "hf://datasets/"
OF_WRONG_TYPES = (
    AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What reading raises where a field has another type than its format has, or a wild value."""


@dataclass
class Seen:
    """What was met in a file beside its conversations; filled while it is read."""

    n_rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    """Name of a format to how many conversations have it."""
    passed: Counter[str] = field(default_factory=Counter)
    """Why to how many rows are left out though nothing is wrong with them."""
    n_other: int = 0
    """Conversations that are not wanted; nothing else of them is counted."""
    n_wrong: int = 0
    n_images: int = 0
    n_calls: int = 0
    n_secrets: int = 0

    def add(self, found: Conversation) -> None:
        """Count a conversation."""
        self.formats[found.about.format] += 1
        self.n_images += found.n_images
        self.n_calls += found.n_calls
        self.n_secrets += found.n_secrets


def read_conversations(
    path: str,
    seen: Seen,
    messages: str | None = None,
    answer: str | None = None,
    wanted: Callable[[Conversation], bool] | None = None,
) -> Iterator[tuple[str, Conversation | Unanswered | Reason]]:
    """Yield where each conversation stands with it, or with what is wrong.

    Args:
        path: of JSON lines, JSON, CSV, Parquet (a path, a URL of fsspec), a folder that `datasets`
            saved, or a data set of the hub.
        seen: counts what is read.
        messages: dotted name of the list of messages; None recognises the format of each row.
        answer: dotted name of the model's answer beside it.
        wanted: tells the conversations that are read; None reads all.

    Raises:
        OSError: it cannot be read.
    """
    for line, row in _rows(path):
        seen.n_rows += 1
        if isinstance(row, Reason):
            seen.n_wrong += 1
            yield line, row
            continue
        for part, inner in _parts(row):
            if isinstance(inner, Reason):
                seen.n_wrong += 1
                yield line, inner
                continue
            try:
                found = conversation_in(inner, messages, answer)
            except UnansweredRow as error:
                yield line + part, Unanswered(Because(str(error)))
            except WrongRow as error:
                seen.n_wrong += 1
                yield line + part, Because(str(error))
            except PassedOver as kind:
                seen.passed[str(kind)] += 1
            except OF_WRONG_TYPES as error:
                seen.n_wrong += 1
                yield line + part, FieldOfWrongType(cause(error))
            else:
                if wanted is not None and not wanted(found):
                    seen.n_other += 1
                    continue
                seen.add(found)
                yield line + part, found


def _parts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        yield from parts_of_row(row)
    except OF_WRONG_TYPES as error:
        yield "", FieldOfWrongType(cause(error))


def _rows(path: str) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    here = os.path.expanduser(local_path(path))
    if is_local(path) and os.path.isdir(here):
        yield from _saved(here)
    elif path.startswith(_HUB) and path.removeprefix(_HUB).count("/") == 1:
        yield from _of_hub(path.removeprefix(_HUB))
    else:
        yield from read_records(path, any_json=True)


def is_saved(path: str) -> bool:
    """Return whether a path names a folder that the library `datasets` saved."""
    here = os.path.expanduser(local_path(path))
    return is_local(path) and any(
        os.path.isfile(os.path.join(here, name)) for name in ("state.json", "dataset_dict.json")
    )


def _saved(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not is_saved(folder):
        raise OSError("it is a folder, and no data set that datasets saved. Name a file in it")
    datasets = _library()
    try:
        found = datasets.load_from_disk(folder)
    except Exception as error:  # what the library raises on a damaged folder is its own affair
        raise OSError(f"datasets cannot load it ({cause(error)})") from error
    parts = found.values() if isinstance(found, dict) else [found]
    number = 0
    for part in parts:
        for row in part:
            number += 1
            yield f"row {number}", row


def _of_hub(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name, _, revision = name.partition("@")
    datasets = _library()
    try:
        found = datasets.load_dataset(
            name, split="train", streaming=True, revision=revision or None
        )
        for number, row in enumerate(found, start=1):
            yield f"row {number}", row
    except Exception as error:  # as above, and of the network
        raise OSError(f"datasets cannot load {name} ({cause(error)})") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise OSError(
            f"it needs the package datasets. Type: {extras.install('datasets')}"
        ) from error
    datasets.disable_progress_bars()
    return datasets
