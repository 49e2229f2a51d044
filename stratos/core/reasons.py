"""Reasons as values: why something cannot be, or is not done; and those of the core.

A function that may refuse returns `Reason | None`, not a text. Each room has one module `words.py`
with its reasons: small classes whose fields are the amounts and names, and whose `says` is the
sentence with the fields in braces, or whose `__str__` makes it. Tests compare the values; the
sentences are snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from typing_extensions import dataclass_transform


@dataclass_transform(frozen_default=True)
class Reason:
    """Why something cannot be: the fields of a subclass tell how much, `str` gives the sentence.

    A subclass is a dataclass whose values nobody changes, or an enum of sentences.
    """

    says = ""
    """The sentence, in which a field or a property stands as `{name}`, or as `{name:,}`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not issubclass(cls, Enum):
            dataclass(frozen=True)(cls)
            del cls.__setattr__, cls.__delattr__  # a class that is decorated, too, gets its own

    def __str__(self) -> str:
        return str(self.value) if isinstance(self, Enum) else self.says.format_map(_Fields(self))


class _Fields(dict[str, Any]):
    """Fields and properties of a reason by their names, as `says` has them."""

    def __init__(self, reason: Reason) -> None:
        super().__init__()
        self._reason = reason

    def __missing__(self, name: str) -> Any:
        return getattr(self._reason, name)


class Because(Reason):
    """A reason in the words of somebody else: another program, or code of the user's own."""

    text: str
    says = "{text}"


# --- names and paths ------------------------------------------------------------------------------


class Empty(Reason):
    """A name or a path has no letters."""

    what: str

    says = "a {what} cannot be empty"


class Invisible(Reason):
    """A name or a path has a character that nobody sees."""

    what: str
    character: str

    says = "a {what} cannot have the character {character}, which is invisible"


class LongName(Reason):
    """A name has too many characters."""

    n: int
    most: int

    says = "a name has at most {most} characters, this one has {n:,}"


class SlashInName(Reason):
    """A name would lead out of the folder that is named after it."""

    says = "a name cannot have a slash: folders are named after it"


class RelativeUrl(Reason):
    """A URL of this machine leads to a path below the current folder."""

    protocol: str
    meant: Path

    says = "two slashes make this a path below the current folder: type {protocol}://{meant}"


# --- files and folders ----------------------------------------------------------------------------


class NoFile(Reason):
    """There is nothing at a path."""

    or_folder: bool = False

    def __str__(self) -> str:
        return f"there is no such file{' or folder' if self.or_folder else ''}"


class IsFolder(Reason):
    """A folder stands where a file is read."""

    says = "it is a folder. Name a file in it"


class Special(Reason):
    """A pipe, a socket or a device stands where a file is read."""

    kind: str

    says = "it is {kind}, not a file. Save its output to a file, and name that file"


class Forbidden(Reason):
    """This user may not read a file."""

    says = "Permission denied"


class LargeSettings(Reason):
    """A file of settings has too many bytes."""

    most_mib: int

    says = "a settings file has at most {most_mib} MiB"


class ManyValues(Reason):
    """A file of settings becomes too many values."""

    most: int

    says = "with its aliases expanded it has more than {most:,} values"


class NoSearchPath(Reason, Enum):
    """An entry of `hydra.searchpath` leads nowhere."""

    PACKAGE = "there is no such package"
    SCHEME = "only file:// and pkg:// are supported"
    FOLDER = "there is no such folder"


class Unwritable(Reason):
    """A folder takes no file."""

    folder: Path
    cause: str | None

    says = "{folder} cannot be written ({cause})"


class InTheWay(Reason):
    """Something stands where a run writes a file or makes a folder."""

    path: Path

    says = "{path} is in the way of a file of the run"


class Refusal(Enum):
    """What a disk refuses, and what is to be done."""

    LIMIT = (
        "{where} cannot grow any more ({cause}): this shell limits the size of files. Type "
        "ulimit -f unlimited. {again}"
    )
    ROOM = "no space left to write {where} ({cause}). Free some. {again}"
    RIGHT = (
        "{where} cannot be written ({cause}). Give another folder with hydra.run.dir=<folder>, or "
        "paths.cache_dir=<folder> for the cache."
    )
    NAME = "{where} is in the way of a file of this run ({cause}). Remove or rename it. {again}"
    BROKEN = "{where} cannot be read or written ({cause}). {again}"


class DiskRefuses(Reason):
    """The system refused what a stage wrote or read."""

    kind: Refusal
    stage: str
    where: str
    cause: str | None
    folder: Path
    """Of the run."""

    def __str__(self) -> str:
        again = f"The same command with hydra.run.dir={self.folder} resumes from here."
        return f"{self.stage}: {self.kind.value.format(**vars(self), again=again)}"


# --- files of a record ----------------------------------------------------------------------------


class Gone(Reason):
    """A file is not there any more."""

    says = "is gone"


class NoLongerFile(Reason):
    """Something else lies where a file was."""

    says = "is no longer a file"


class OtherSize(Reason):
    """A file has more or fewer bytes than when it was written."""

    n_bytes: int
    n_written: int

    says = "has {n_bytes:,} bytes, not {n_written:,}"


class OtherContent(Reason):
    """A file holds other bytes than when it was written."""

    says = "has changed since it was written"


class Unreadable(Reason):
    """The system gives no bytes of a file."""

    cause: str

    says = "cannot be read ({cause})"


class ChangedFile(Reason):
    """A file of a record is not what it was."""

    path: Path
    how: Reason

    says = "{path}, which {how}"


# --- classes that a config names ------------------------------------------------------------------


class NoTarget(Reason, Enum):
    """A `_target_` names nothing that can be made."""

    NAME = "is not a dotted class name."
    CLASS = "is no class."
    DATACLASS = "is not a dataclass."


class NotAllowed(Reason):
    """A `_target_` lies under no trusted prefix."""

    prefixes: tuple[str, ...]
    variable: str
    package: str

    def __str__(self) -> str:
        return (
            f"only classes under {', '.join(self.prefixes)} may be created from a config. If you "
            f"trust this one, set {self.variable}={self.package}."
        )


class NotImportable(Reason):
    """Python cannot import what a `_target_` names."""

    cause: str

    says = "cannot be imported ({cause})."


class DefinedElsewhere(Reason):
    """A `_target_` names a class of a package that is not trusted."""

    home: str
    prefixes: tuple[str, ...]

    def __str__(self) -> str:
        return f"is defined in {self.home}, which is not under {', '.join(self.prefixes)}"


class NoSuchClass(Reason):
    """A package has no class of a name."""

    package: str
    name: str

    says = "{package} has no class {name}."


class Untrusted(Reason):
    """A node of a config names a class that may not be made."""

    target: str
    why: Reason

    says = "_target_={target}: {why}"


# --- models of the hub ----------------------------------------------------------------------------


class NotOnHub(Reason, Enum):
    """A model cannot be had from the hub or its cache."""

    OFFLINE = "HF_HUB_OFFLINE is set and nothing is cached"
    NAME = "this is not a valid model name"


class HubStatus(Reason):
    """The hub refuses a model."""

    status: int | None

    def __str__(self) -> str:
        return f"HTTP status {'no answer' if self.status is None else self.status}"


class HubUnreachable(Reason):
    """The hub does not answer."""

    error: str

    says = "{error}: the hub cannot be reached"
