"""Why a JSON Schema is refused, and what is wrong with an answer by it."""

from __future__ import annotations

from stratos.core.reasons import Reason
from stratos.core.redact import shown


class NoSchema(Reason):
    """A value is no object, and so no JSON Schema."""

    text: str

    def __str__(self) -> str:
        return f"a JSON Schema is an object, this is {shown(self.text)}."


class InvalidSchema(Reason):
    """An object is no JSON Schema."""

    location: str
    problem: str
    """What the validator says."""

    def __str__(self) -> str:
        return f"no JSON Schema: {self.location}: {shown(self.problem, 160)}."


class TooManyParts(Reason):
    """A schema has more parts than are read, or nests them deeper."""

    most: int
    deepest: int

    says = "a schema may have {most:,} parts, {deepest} inside each other."


class AtPlace(Reason):
    """Something is wrong with a part of a schema."""

    location: str
    reason: Reason

    says = "{location}: {reason}"


class EndlessReference(Reason):
    """The reference of a part leads back to it."""

    says = "its $ref leads back to itself, so that checking it would never end."


class EndlessAnswer(Reason):
    """A part requires itself."""

    says = (
        "it requires itself, so that no finite answer matches it. Take the property out of "
        '"required", or allow null.'
    )


class UnknownKeyword(Reason):
    """A part has a keyword that cannot be checked."""

    name: str

    says = "{name} is not supported: leave it out."


class DynamicReference(Reason):
    """A part has a reference whose target depends on the way that led to it."""

    name: str

    says = "{name} is not supported. Type $ref with a place in this file: #/$defs/…"


class InnerId(Reason):
    """A part has an $id of its own."""

    says = "$id inside a schema changes what $ref means, and is not supported: leave it out."


class OtherDocument(Reason):
    """A reference names another document."""

    reference: str

    def __str__(self) -> str:
        return (
            f"$ref {shown(self.reference)} names another document, which is not fetched. Copy it "
            "into this file under $defs, and type #/$defs/…"
        )


class NoTarget(Reason):
    """A reference names no schema of the file."""

    reference: str

    def __str__(self) -> str:
        return f"$ref {shown(self.reference)} names no schema of this file."


class InfiniteMultiple(Reason):
    """`multipleOf` is no finite number."""

    says = "multipleOf has to be finite."


class UnsafePattern(Reason):
    """A pattern cannot be matched in linear time."""

    pattern: str
    problem: str
    """What the library of regular expressions says."""

    def __str__(self) -> str:
        return f"the pattern {shown(self.pattern)} cannot be matched safely ({self.problem})."


class SlowPatterns(Reason):
    """The patterns of a schema take too long for each answer."""

    most: float

    says = (
        "to match its patterns takes more than {most:g} s of CPU for each answer. Repeat less in "
        "them, or leave some out."
    )


class NestedTooDeep(Reason):
    """An answer cannot be checked."""

    says = "it is nested too deep"


class TooManySteps(Reason):
    """An answer has to be checked by more parts of the schema than are followed."""

    most: int

    says = "to check it by the schema takes more than {most:,} steps"


class TooManyFields(Reason):
    """A schema leads to more fields than are followed."""

    most: int

    says = (
        "its $refs lead to more than {most:,} parts. Name each part once, or leave some "
        "properties out."
    )


class Mismatch(Reason):
    """An answer does not match the schema."""

    location: str
    """Where in the answer."""
    problem: str
    """What the validator says."""

    def __str__(self) -> str:
        return f"{self.location}: {shown(self.problem, 120)}"
