"""The door before a hosted student, as `stratos serve` shows and stops it."""

from __future__ import annotations

from pathlib import Path

from stratos.contrib.door.nginx import Door
from stratos.deploy.hosted_server import FrontStatus, Hosted, ServerFront


class DoorFront(ServerFront):
    """nginx before a student, which `stratos door` opens."""

    def status(self, state: Path, hosted: Hosted, answers: bool) -> FrontStatus:
        """Return whether it is open; no facts where none was opened, or it was stopped."""
        door = Door(state.with_suffix(".door"))
        status = door.status()
        if door.opened is None and not status.is_open:
            return FrontStatus("", {"door": None})
        facts = {
            "is_open": status.is_open,
            "listen": status.listen if status.is_open else "",
            "pid": status.pid if status.pid is not None else next(iter(status.left), None),
            "text": str(status),
        }
        return FrontStatus(f"door: {status}", {"door": facts})

    def stop(self, state: Path) -> str:
        """Close it."""
        return "its door is closed" if Door(state.with_suffix(".door")).stop() else ""

    def hint(self, folder: str) -> str:
        """Return how others are let in."""
        return f"To let others reach it: stratos door {folder}"
