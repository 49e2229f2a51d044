"""Files that earlier commands left: read whole before a stage uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stratos.run import resume
from stratos.run.resume import Stage


class EarlierFiles:
    """Those that the records name which another command made: they may be damaged by now."""

    def __init__(self) -> None:
        self._unverified: dict[str, Path] = {}
        """Stage to the folder of its record, where the files that it names were not read yet."""

    def add(self, name: str, folder: Path) -> None:
        """Take notice of a stage's record."""
        self._unverified[name] = folder

    def verify(self, stage: Stage[Any]) -> None:
        """Read the files of all records that a stage takes, once.

        Raises:
            StratosError: one of them is damaged.
        """
        for name in (*stage.after, *stage.uses):
            if name in self._unverified:
                resume.verify(name, self._unverified.pop(name))
