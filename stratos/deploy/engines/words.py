"""Why an engine cannot be started, or cannot serve a model."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.reasons import Reason


@dataclass(frozen=True)
class NotInstalled(Reason):
    """An engine is not installed on this machine."""

    title: str
    how_to_install: str
    variable: str = ""
    """Variable of the environment that may name another one which has it."""

    def __str__(self) -> str:
        elsewhere = (
            f". If another environment has it, type: export {self.variable}=<its folder>"
            if self.variable
            else ""
        )
        return f"{self.title} is not installed here. Type: {self.how_to_install}{elsewhere}"


@dataclass(frozen=True)
class NotInEnvironment(Reason):
    """The environment that a variable names does not have the engine."""

    title: str
    variable: str
    folder: str
    requirement: str

    def __str__(self) -> str:
        return (
            f"{self.variable}={self.folder} is no virtual environment with {self.title}. Type: "
            f'{self.folder}/bin/pip install "{self.requirement}"'
        )


@dataclass(frozen=True)
class HeadWidth(Reason):
    """An engine has no kernels for attention heads of a width."""

    title: str
    width: int
    least: int
    most: int
    multiple: int

    def __str__(self) -> str:
        return (
            f"its attention heads are {self.width} wide, and {self.title} has kernels for "
            f"{self.least} to {self.most}, where {self.multiple} divides them"
        )


@dataclass(frozen=True)
class SchemaTooLarge(Reason):
    """A JSON Schema breaks a bound of what a grammar is made of."""

    what: str
    """What there is too much of; or the key of a schema whose number is too large."""
    most: int
    most_in_pattern: int = 0
    """Repetitions that a pattern may ask for, where it is a key."""

    def __str__(self) -> str:
        if self.most_in_pattern:
            return (
                f"{self.what} may be {self.most:,} at most, and repetitions in a pattern "
                f"{self.most_in_pattern:,}."
            )
        return f"it may have {self.most:,} {self.what}."


@dataclass(frozen=True)
class NoGguf(Reason):
    """A model of which a card says no more than that a GGUF file cannot hold it."""

    def __str__(self) -> str:
        return "a GGUF file cannot hold it"


@dataclass(frozen=True)
class UnknownArchitecture(Reason):
    """A GGUF file can be written of other architectures only."""

    architecture: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"its architecture is {self.architecture}, and those that can be written are "
            f"{', '.join(self.known)}"
        )


@dataclass(frozen=True)
class ScaledRotary(Reason):
    """A GGUF file cannot be written yet of a model whose rotary embedding is scaled."""

    rope_type: str

    def __str__(self) -> str:
        return f"its rotary embedding is scaled ({self.rope_type}), which cannot be written yet"


@dataclass(frozen=True)
class UnevenRows(Reason):
    """The blocks of a format do not divide the rows of a model."""

    format: str
    block_width: int
    widths: tuple[int, ...]
    one_is_enough: bool

    def __str__(self) -> str:
        needs = "a width" if self.one_is_enough else "widths"
        return (
            f"{self.format} needs {needs} that {self.block_width} divides, and its widths are "
            f"{' and '.join(map(str, self.widths))}"
        )
