"""Reasons as values: why something cannot be, or is not done.

A function that may refuse returns `Reason | None`, not a text. Each room has one module `words.py`
with its reasons: small frozen dataclasses whose fields are the amounts and names, and whose
`__str__` is the sentence. Tests compare the values; the sentences are snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass


class Reason:
    """Why something cannot be: the fields of a subclass tell how much, `str` gives the sentence."""


@dataclass(frozen=True)
class Because(Reason):
    """A reason in the words of somebody else: another program, or code of the user's own."""

    text: str

    def __str__(self) -> str:
        return self.text
