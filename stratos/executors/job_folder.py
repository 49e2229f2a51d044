"""What lies in a run folder of its jobs, and what a job says there for whoever follows it."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from stratos.core.redact import redact

FOLDER = "jobs"
"""Of a run: what its jobs leave."""


def folder_of(run: Path) -> Path:
    """Return where a run keeps what its jobs leave."""
    return run / FOLDER


def events_path(run: Path, stage: str) -> Path:
    """Return the file in which a job says how far it is."""
    return folder_of(run) / f"{stage}.events.jsonl"


def config_path(run: Path, stage: str) -> Path:
    """Return the folder with the config that a job was submitted with, as Hydra keeps it."""
    return folder_of(run) / f"{stage}.hydra"


TICK, WARN, NOTE, LOG, ERROR, BEGAN = "tick", "warn", "note", "log", "error", "began"
"""Kinds: how far it is, what to read, what comes next, metrics, what it died of, a start of it."""
_TICK_S = 0.5
"""Seconds between two lines of how far it is."""


class EventWriter:
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
        # Opened each time: others see it then on a network disk. A line is worth less than the
        # work.
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(f"{line}\n")


def read_events(run: Path, stage: str, start: int) -> tuple[list[tuple[str, list[Any]]], int]:
    """Return what a stage's job has said from a byte on, and the byte behind it."""
    try:
        with events_path(run, stage).open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole, end, _ = data.rpartition(b"\n")
    events = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, AttributeError):  # cut short when its node died
            [(kind, values)] = json.loads(line).items()
            events.append((kind, values))
    return events, start + len(whole) + len(end)
