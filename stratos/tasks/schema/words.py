"""Why a JSON Schema is refused, and what is wrong with an answer by it."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.core.reasons import Reason
from stratos.tasks.shown import shown


@dataclass(frozen=True)
class NoSchema(Reason):
    """A value is no object, and so no JSON Schema."""

    text: str

    def __str__(self) -> str:
        return f"a JSON Schema is an object, this is {shown(self.text)}."


@dataclass(frozen=True)
class InvalidSchema(Reason):
    """An object is no JSON Schema."""

    place: str
    problem: str
    """What the validator says."""

    def __str__(self) -> str:
        return f"no JSON Schema: {self.place}: {shown(self.problem, 160)}."


@dataclass(frozen=True)
class TooManyParts(Reason):
    """A schema has more parts than are read, or nests them deeper."""

    most: int
    deepest: int

    def __str__(self) -> str:
        return f"a schema may have {self.most:,} parts, {self.deepest} inside each other."


@dataclass(frozen=True)
class AtPlace(Reason):
    """Something is wrong with a part of a schema."""

    place: str
    reason: Reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class EndlessReference(Reason):
    """The reference of a part leads back to it."""

    def __str__(self) -> str:
        return "its $ref leads back to itself, so that checking it would never end."


@dataclass(frozen=True)
class EndlessAnswer(Reason):
    """A part requires itself."""

    def __str__(self) -> str:
        return (
            "it requires itself, so that no finite answer matches it. Take the property out of "
            '"required", or allow null.'
        )


@dataclass(frozen=True)
class UnknownKeyword(Reason):
    """A part has a keyword that cannot be checked."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} is not supported: leave it out."


@dataclass(frozen=True)
class DynamicReference(Reason):
    """A part has a reference whose target depends on the way that led to it."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} is not supported. Type $ref with a place in this file: #/$defs/…"


@dataclass(frozen=True)
class InnerId(Reason):
    """A part has an $id of its own."""

    def __str__(self) -> str:
        return "$id inside a schema changes what $ref means, and is not supported: leave it out."


@dataclass(frozen=True)
class OtherDocument(Reason):
    """A reference names another document."""

    reference: str

    def __str__(self) -> str:
        return (
            f"$ref {shown(self.reference)} names another document, which is not fetched. Copy it "
            "into this file under $defs, and type #/$defs/…"
        )


@dataclass(frozen=True)
class NoTarget(Reason):
    """A reference names no schema of the file."""

    reference: str

    def __str__(self) -> str:
        return f"$ref {shown(self.reference)} names no schema of this file."


@dataclass(frozen=True)
class InfiniteMultiple(Reason):
    """`multipleOf` is no finite number."""

    def __str__(self) -> str:
        return "multipleOf has to be finite."


@dataclass(frozen=True)
class UnsafePattern(Reason):
    """A pattern cannot be matched in linear time."""

    pattern: str
    problem: str
    """What the library of regular expressions says."""

    def __str__(self) -> str:
        return f"the pattern {shown(self.pattern)} cannot be matched safely ({self.problem})."


@dataclass(frozen=True)
class NestedTooDeep(Reason):
    """An answer cannot be checked."""

    def __str__(self) -> str:
        return "it is nested too deep"


@dataclass(frozen=True)
class Mismatch(Reason):
    """An answer does not match the schema."""

    place: str
    """Where in the answer."""
    problem: str
    """What the validator says."""

    def __str__(self) -> str:
        return f"{self.place}: {shown(self.problem, 120)}"
