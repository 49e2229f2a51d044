"""Warnings of a run, by the stage that gave them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.records import from_json, to_json
from stratos.run.held_folder import HeldFolder


class Warnings:
    """What the user should read: said once, and kept by stage for the report and a resumed run."""

    def __init__(
        self, path: Path, say: Callable[[str], None], held: HeldFolder | None = None
    ) -> None:
        """Go on with the warnings that an earlier run left at `path`.

        Args:
            path: of the file.
            say: shows a warning.
            held: the run folder; nothing is written once it is gone.
        """
        self.path = path
        self._held = held
        self.stage = "start"
        self._say = say
        self._by_stage: dict[str, list[str]] = {}
        # A file that was cut short holds nothing worth stopping for.
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self._by_stage = from_json(path.read_bytes(), dict[str, list[str]])
        self._by_stage.pop("start", None)

    def begin(self, stage: str) -> None:
        """Forget what the last run of a stage warned of."""
        self.stage = stage
        self._by_stage.pop(stage, None)

    def add(self, text: str) -> None:
        """Say a warning, unless this stage said it already."""
        said = self._by_stage.setdefault(self.stage, [])
        if text not in said:
            said.append(text)
            self._say(text)
            if self._held is not None and self._held.is_gone():
                return
            write_atomically(self.path, to_json(self._by_stage))

    def all(self) -> list[str]:
        """Return every warning of the run, each once."""
        return list(dict.fromkeys(text for said in self._by_stage.values() for text in said))
