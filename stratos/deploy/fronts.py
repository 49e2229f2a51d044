"""What rooms of contrib put before hosted students, such as a teacher or an access control.

`stratos serve` asks every front there is; without any it hosts the student alone.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratos.core.extensions import extensions, load
from stratos.deploy.hosted_server import Hosted
from stratos.records import ServingSetting


@dataclass(frozen=True)
class FrontProgram:
    """A program that is started in place of the engine, and starts the engine itself."""

    module: str
    """As for `python -m`."""
    arguments: list[str]
    """Beside its port."""
    student: str
    """Name under which it has the student alone answer."""
    title: str
    """What it is, behind the engine's name: "with its teacher behind it"."""
    run: ServingSetting
    """How it runs the engine."""


@dataclass(frozen=True)
class FrontStatus:
    """How a front of a hosted student is."""

    line: str
    """For a terminal; "" where there is none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For scripts: keys of the status' JSON object."""


class ServerFront:
    """A front, as `stratos serve` knows it; by default it does nothing."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of a start."""

    def keep_options(self, args: argparse.Namespace, before: Hosted) -> None:
        """Set the options that are not typed to those of a server that is started again.

        Args:
            args: the options of the start.
            before: the server that runs.
        """

    def program(
        self, args: argparse.Namespace, bundle: Path, cache_dir: Path, before: Hosted | None
    ) -> FrontProgram | None:
        """Return what is started in place of the engine; None where the options ask for nothing.

        Args:
            args: the options of the start.
            bundle: that is to be served.
            cache_dir: where it is written down how it is served.
            before: the server that runs.

        Raises:
            StratosError: the options cannot be met.
        """
        return None

    def differing(self, before: Hosted, args: argparse.Namespace) -> list[str]:
        """Return which options of a start differ from what runs, as they are typed."""
        return []

    def status(self, state: Path, hosted: Hosted, answers: bool) -> FrontStatus:
        """Return how it is.

        Args:
            state: file of the hosted student.
            hosted: what stands in it.
            answers: whether the student answers.
        """
        return FrontStatus("")

    def stop(self, state: Path) -> str:
        """End what stands before a student that is about to be stopped, and say so; "" for nothing.

        Args:
            state: file of the hosted student.
        """
        return ""

    def hint(self, folder: str) -> str:
        """Return what is typed to use it with a student that runs alone; "" for nothing.

        Args:
            folder: of the student, as it is typed.
        """
        return ""


@functools.cache
def fronts() -> tuple[ServerFront, ...]:
    """Return the fronts of all rooms."""
    return tuple(load(room.front)() for room in extensions() if room.front)
