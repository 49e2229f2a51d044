"""What is said of a door."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stratos.contrib.door.nginx import DoorStatus

OPEN = DoorStatus("127.0.0.1:8443", 7, (), "", Path("/c/a.door/access.log"), "/my runs/bundle")


def test_a_status_in_words(snapshot: Any) -> None:
    closed = replace(OPEN, pid=None)
    statuses = {
        "open": OPEN,
        "left": replace(closed, left=(8,)),
        "several left, whose is not known": replace(closed, left=(8, 9), bundle=""),
        "closed by itself": replace(closed, closed_since="at 12:00, since its server is gone"),
        "ended from outside": closed,
        "stopped": replace(closed, listen=""),
    }
    assert {name: str(status) for name, status in statuses.items()} == snapshot
    assert [status.is_open for status in statuses.values()] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
