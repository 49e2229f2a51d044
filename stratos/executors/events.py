"""What a job says while it runs: lines of a file in the run folder, written there, read here."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from stratos.core.redact import redact
from stratos.executors import handed

TICK, WARN, NOTE, LOG, ERROR, BEGAN = "tick", "warn", "note", "log", "error", "began"
"""Kinds: how far it is, what to read, what comes next, metrics, what it died of, a start of it."""
_TICK_S = 0.5
"""Seconds between two lines of how far it is."""


class Teller:
    """Called with a kind and its values: adds them to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ticked_at = 0.0

    def __call__(self, kind: str, *values: Any) -> None:
        """Say something; how far the job is at most twice a second."""
        if kind == TICK:
            if time.monotonic() < self._ticked_at + _TICK_S:
                return
            self._ticked_at = time.monotonic()
        line = json.dumps({kind: redact(list(values))}, default=str)
        # Opened each time: others see it then on a network disk. What is said is worth less than
        # the work.
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(f"{line}\n")


def heard(folder: Path, stage: str, start: int) -> tuple[list[tuple[str, list[Any]]], int]:
    """Return what a stage's job has said from a byte on, and the byte behind it.

    Args:
        folder: of the run.
        stage: the stage.
        start: bytes that were read before.
    """
    try:
        with handed.events_path(folder, stage).open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole, end, _ = data.rpartition(b"\n")
    found = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, AttributeError):  # cut short when its node died
            [(kind, values)] = json.loads(line).items()
            found.append((kind, values))
    return found, start + len(whole) + len(end)
