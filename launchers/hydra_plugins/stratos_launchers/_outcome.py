"""How a job of a sweep ended, as a file that its node writes and the sweep reads: no code in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_privately


class Outcome(msgspec.Struct, frozen=True):
    """How a job ended."""

    token: str
    """Of the submission that it is of."""
    is_done: bool
    value: Any = None
    """What the job returned: numbers and texts; of other kinds, how they are written."""
    message: str = ""
    """What a job that failed says."""


def read_outcome(file: Path, token: str) -> Outcome | None:
    """Return how a job ended; None where it has left nothing, or another one did."""
    with suppress(OSError, msgspec.DecodeError):
        found = msgspec.json.decode(file.read_bytes(), type=Outcome)
        if found.token == token:
            return found
    return None


def write_outcome(file: Path, outcome: Outcome) -> None:
    """Write down how a job ended."""
    write_privately(file, msgspec.json.encode(outcome, enc_hook=str))
