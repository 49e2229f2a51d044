"""Reasons as values: why something cannot be, or is not done.

A function that may refuse returns `Reason | None`, not a text. Each room has one module `words.py`
with its reasons: small frozen dataclasses whose fields are the amounts and names, and whose
`__str__` is the sentence, of a template (`Sentence`) wherever that suffices. Tests compare the
values; the sentences are snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from typing_extensions import dataclass_transform


class Reason:
    """Why something cannot be: the fields of a subclass tell how much, `str` gives the sentence."""


@dataclass(frozen=True)
class Because(Reason):
    """A reason in the words of somebody else: another program, or code of the user's own."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass_transform(frozen_default=True)
class Sentence(Reason):
    """A reason that is said by a template, in which `self` is the reason.

    Every subclass is a frozen dataclass; one that needs more than a template overrides `__str__`.
    """

    template: ClassVar[str]

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)

    def __str__(self) -> str:
        return self.template.format(self=self)


class Phrase(Reason, Enum):
    """Reasons without amounts: each member is its sentence."""

    def __str__(self) -> str:
        return str(self.value)
