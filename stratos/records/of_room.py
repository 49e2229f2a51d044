"""Records of stages that rooms of contrib add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


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
