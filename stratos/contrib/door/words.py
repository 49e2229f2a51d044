"""What the room says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from stratos.core.counted import counted


@dataclass(frozen=True)
class DoorStatus:
    """Whether a door is open, and what closed it."""

    listen: str
    """Where it was opened, as HOST:PORT; "" where that is not known."""
    pid: int | None
    """Of the nginx that runs."""
    left: tuple[int, ...]
    """Processes that let clients in, of an nginx that was killed."""
    closed_since: str
    """When it closed by itself, and why; "" where it did not."""
    log: Path
    bundle: str
    """Whose door it is; "" where that is not known any more."""

    @property
    def is_open(self) -> bool:
        """Whether clients are let in."""
        return self.pid is not None or bool(self.left)

    def __str__(self) -> str:
        if self.pid is not None:
            where = self.listen or "?"
            return f"Open at {where} (process {self.pid}). Requests: {self.log}"
        if self.left:
            n = len(self.left)
            let_in = counted(n, "process of it still lets", "processes of it still let")
            folder = shlex.quote(self.bundle) if self.bundle else "outputs/<run>"
            return (
                f"Not closed: nginx was killed, and {let_in} in who has a key "
                f"({', '.join(map(str, self.left))}). To end what is left, type: "
                f"stratos door stop {folder}"
            )
        if self.closed_since:
            why = f"Closed {self.closed_since}."
        elif self.listen:
            why = "Closed: nginx, or the process that watched it, was ended from outside."
        else:
            return "Closed."
        return f"{why} The command that opened it opens it again when the server runs."
