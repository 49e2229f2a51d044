"""Reasons as values: why something cannot be, or is not done.

A function that may refuse returns `Reason | None`, not a text. Each room has one module `words.py`
with its reasons: small classes whose fields are the amounts and names, and whose `says` is the
sentence with the fields in braces, or whose `__str__` makes it. Tests compare the values; the
sentences are snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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
