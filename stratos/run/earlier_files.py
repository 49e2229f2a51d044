"""Files that earlier commands left: read whole before a stage uses them, blamed where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stratos.core.errors import StratosError
from stratos.core.foreign import cause
from stratos.run import resume
from stratos.run.resume import Kept, Stage


class EarlierFiles:
    """Those that the records name which another command made: they may be damaged by now."""

    def __init__(self) -> None:
        """Start without records."""
        self._unverified: dict[str, Path] = {}
        """Stage to the folder of its record, where the files that it names were not read yet."""
        self._unmarked: dict[str, Path] = {}
        """The same of records of older versions, of whose files nothing but the size is known."""

    def add(self, name: str, folder: Path, kept: Kept) -> None:
        """Take notice of a stage's record."""
        (self._unverified if kept.is_marked else self._unmarked)[name] = folder

    def verify(self, stage: Stage[Any]) -> None:
        """Read the files of all records that a stage takes, once.

        Raises:
            StratosError: one of them is damaged.
        """
        for name in (*stage.after, *stage.uses):
            if name in self._unverified:
                resume.verify(name, self._unverified.pop(name))

    @contextmanager
    def blamed(self, stage: Stage[Any]) -> Iterator[None]:
        """Say which stages left what a stage fails on, where their files cannot be verified.

        Raises:
            StratosError: the block failed on something that nobody expects.
        """
        try:
            yield
        except StratosError:
            raise
        except Exception as error:
            before = [name for name in (*stage.after, *stage.uses) if name in self._unmarked]
            if not before or (isinstance(error, OSError) and error.errno is not None):
                raise
            files = " and ".join(str(self._unmarked[name] / f"{name}.json") for name in before)
            raise StratosError(
                f"{stage.name} failed on what earlier stages left ({type(error).__name__}: "
                f"{cause(error)}). Their records are from an older version without checksums, so "
                f"damage cannot be detected. Delete {files} and give the same command again: these "
                "stages run again."
            ) from error
