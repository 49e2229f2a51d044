"""The contract of a serving engine: how it is installed and started, and what it can serve."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from msgspec import Meta

from stratos.core import extras
from stratos.core.errors import StratosError
from stratos.records import ServingSetting

Count = Annotated[int, Meta(ge=1)]
Measure = Literal["probability", "agreement"]
Message = dict[str, str]
"""One message of a chat: its role and its content."""

EXPORTS = "exports"
"""Folder of a bundle that holds what was exported for other engines."""


class ExportError(StratosError):
    """An engine cannot serve a student as transformers does; transformers itself can."""


@dataclass(frozen=True)
class Engine(ABC):
    """A program that serves a bundle, with its settings (`deploy.engine`)."""

    code_version: ClassVar[int] = 1
    """Raised when the code of the class serves or exports otherwise: records are made anew then."""
    kind: ClassVar[str]
    """Name in plans, in records, and on the command line."""
    title: ClassVar[str]
    """Name in a sentence."""
    requirement: ClassVar[str]
    """What `pip install` takes; "" where an extra of Stratos installs it."""
    extra: ClassVar[str] = ""
    """Extra of Stratos that installs it, and whose server Stratos itself runs."""
    packages: ClassVar[tuple[str, ...]]
    """What is installed on its server, as requirements; the versions are those of this machine,
    where it has them."""
    uses_torch: ClassVar[bool] = False
    """Whether PyTorch is among them, or comes with them."""
    needs: ClassVar[tuple[str, ...]]
    """Modules without which it cannot be started."""
    program: ClassVar[str]
    """What a user types to start it, before its arguments."""
    module: ClassVar[str]
    """The same, as for `python -m`."""
    note: ClassVar[str]
    """What its user has to know, as a comment of the service file."""
    wants: ClassVar[str] = "memory for the model"
    """What a server and a model have to have."""
    makes_files: ClassVar[bool] = False
    """Whether its formats are files of their own; else it makes them of the bundle when it loads
    it."""
    measures: ClassVar[tuple[Measure, ...]] = ("agreement",)
    """By what a cascade can tell how sure its answers are, the best first: probability, where it
    tells that of each token, and agreement, where it draws answers."""
    start_s: ClassVar[float] = 180.0
    """Seconds from its start to its first answer, at most."""

    at_once: Count = 1
    """Answers at once."""

    @property
    def exports(self) -> tuple[str, ...]:
        """Formats that are compared with the evaluation; none where it serves the bundle's own."""
        return ()

    @property
    def python(self) -> str:
        """Interpreter that has its packages here."""
        return sys.executable

    @property
    def environment(self) -> dict[str, str]:
        """Variables that it finds when it is started here, where the user has not set them."""
        return {}

    @property
    def served(self) -> str:
        """Return the format that is served; "" for the bundle's own weights."""
        return ""

    def cannot_serve(self, head: int) -> str | None:
        """Return why it serves no model of an attention head's width; None if it does."""
        return None

    def cannot_export(self, bundle: Path, form: str) -> str | None:
        """Return why a bundle cannot be exported in a format; None if it can."""
        return None

    def export(self, bundle: Path, forms: Sequence[str], chats: Sequence[list[Message]]) -> str:
        """Make exports of a bundle; return what has to be known about them.

        Args:
            bundle: Hugging Face folder.
            forms: formats, of `exports`.
            chats: questions that the engine has to cut into the same tokens as transformers.

        Raises:
            ExportError: they cannot be made, or the engine would read a question otherwise.
        """
        return ""

    def file_of(self, bundle: Path, form: str) -> Path:
        """Return where an export lies."""
        return export_path(bundle, form)

    def n_bytes(self, bundle: Path, form: str) -> int:
        """Return the bytes of the weights in a format."""
        return self.file_of(bundle, form).stat().st_size

    def compare_tokens(self, url: str, bundle: Path, chats: Sequence[list[Message]]) -> str:
        """Compare how its server cuts chats with transformers; return what has to be known.

        Args:
            url: address of its server.
            bundle: what it serves.
            chats: questions.

        Raises:
            ExportError: it reads a question otherwise.
        """
        return ""

    def setting(self) -> ServingSetting:
        """Return how it is run."""
        return ServingSetting(self.kind, slots=self.at_once, format=self.served)

    def as_planned(self, run: ServingSetting) -> Self:
        """Return the engine as a plan runs it."""
        return replace(self, at_once=run.slots)

    def version(self) -> str:
        """Return its package with its version."""
        name = self.needs[0]
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            return name

    def unusable(self) -> str | None:
        """Return why it cannot be started here, with what to type; None if it can."""
        if all(find_spec(name) is not None for name in self.needs):
            return None
        typed = extras.install(self.extra) if self.extra else f'pip install "{self.requirement}"'
        return f"{self.title} is not installed here. Type: {typed}"

    @abstractmethod
    def options(self, run: ServingSetting, n_devices: int, context: int) -> list[str]:
        """Return the arguments of its program beside model and address.

        Args:
            run: how it is run.
            n_devices: GPUs of the server.
            context: tokens of the longest chat with its answer.
        """


def export_path(bundle: Path, name: str) -> Path:
    """Return where an export of a bundle lies."""
    return bundle / EXPORTS / name
