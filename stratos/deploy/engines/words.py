"""Why an engine cannot be started, or cannot serve a model."""

from __future__ import annotations

from stratos.core.reasons import Reason


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


class NotInEnvironment(Reason):
    """The environment that a variable names does not have the engine."""

    title: str
    variable: str
    folder: str
    requirement: str

    says = (
        "{variable}={folder} is no virtual environment with {title}. Type: "
        '{folder}/bin/pip install "{requirement}"'
    )


class HeadWidth(Reason):
    """An engine has no kernels for attention heads of a width."""

    title: str
    width: int
    least: int
    most: int
    multiple: int

    says = (
        "its attention heads are {width} wide, and {title} has kernels for "
        "{least} to {most}, where {multiple} divides them"
    )


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


class NoGguf(Reason):
    """A model of which a card says no more than that a GGUF file cannot hold it."""

    says = "a GGUF file cannot hold it"


class UnknownArchitecture(Reason):
    """A GGUF file can be written of other architectures only."""

    architecture: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"its architecture is {self.architecture}, and those that can be written are "
            f"{', '.join(self.known)}"
        )


class ScaledRotary(Reason):
    """A GGUF file cannot be written yet of a model whose rotary embedding is scaled."""

    rope_type: str

    says = "its rotary embedding is scaled ({rope_type}), which cannot be written yet"


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


class LanguageModel(Reason):
    """An engine of other students cannot serve a language model."""

    title: str

    says = "it is a language model, and {title} serves other students"
