"""A record in a run folder that was moved, copied or fetched since it was written."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import msgspec

from stratos import records
from stratos.records import Envelope


def opened_in(path: Path) -> Envelope:
    """Read the envelope of a record, with the files that it names where they lie now.

    Raises:
        FormatError: it is of another format.
        EditedError: it is not as it was written.
        msgspec.DecodeError: it is no envelope.
        OSError: it cannot be read.
    """
    envelope = records.opened(path.read_bytes())
    old, new = envelope.folder, str(path.parent)
    if old == new:
        return envelope
    record = _moved(msgspec.json.decode(envelope.record), old, new)
    files = {_moved(name, old, new): mark for name, mark in envelope.files.items()}
    return dataclasses.replace(
        envelope, record=msgspec.Raw(msgspec.json.encode(record)), files=files
    )


def _moved(node: Any, old: str, new: str) -> Any:
    """Return plain values in which what lay below one folder lies below another."""
    if isinstance(node, dict):
        return {key: _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, old, new) for value in node]
    if not isinstance(node, str) or old not in node:
        return node
    if _is_below(node, old):
        return new + node[len(old) :]
    try:
        words = shlex.split(node)
    except ValueError:  # it is no command
        return node
    if not any(_is_below(word, old) for word in words):
        return node
    return shlex.join(new + word[len(old) :] if _is_below(word, old) else word for word in words)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
