"""Near duplicates among the questions of a file: of one split, where that leaves even splits.

They are looked for as among conversations (`stratos.tasks.alike`). A question without any
keeps its own hash, so that the split of a file without near duplicates stays as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stratos.core.counted import counted
from stratos.tasks.alike import Alike
from stratos.tasks.split import content_hash, id_of
from stratos.tasks.table import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ROWS = 50_000
"""Rows of all files above which only exact duplicates are looked for."""
MOST_CHARACTERS = 50_000_000
"""The same of all characters of their questions."""
_LEAST = 1 / 2
"""Part of its rows that each split has to keep when near duplicates are put together."""
_LEAST_LABELS = 0.9
"""The same of the labels of a split."""


def _none() -> NDArray[np.uint64]:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Near:
    """Which questions have near duplicates, and the group of each."""

    families: NDArray[np.uint64] = field(default_factory=_none)
    """Family hashes of questions that have near duplicates, sorted."""
    groups: NDArray[np.uint64] = field(default_factory=_none)
    """Of each of these the hash of its group."""
    n_rows: int = 0
    """Rows with such a question."""
    why_not: str = ""
    """Why they were not looked for; "" where they were."""

    @staticmethod
    def among(rows: Rows) -> Near:
        """Return the near duplicates among rows, whatever their order."""
        if len(rows) > MOST_ROWS:
            return Near(why_not=f"there are more than {MOST_ROWS:,} rows")
        alike, n_characters = Alike(), 0
        for row in rows:
            n_characters += len(row.question)
            if n_characters > MOST_CHARACTERS:
                return Near(why_not=f"questions have more than {MOST_CHARACTERS:,} characters")
            alike.add(row.question)
        of_rows, keys = alike.wholes(), alike.keys()
        families, first = np.unique(of_rows, return_index=True)
        groups, inverse, sizes = np.unique(keys[first], return_inverse=True, return_counts=True)
        is_near = sizes[inverse] > 1
        near = families[is_near]
        # The key of a group is its least hash, which would put it into the test too often.
        own = [content_hash(id_of(int(key))) for key in groups[inverse][is_near]]
        return Near(near, np.array(own, np.uint64), int(np.isin(of_rows, near).sum()))

    def grouped(self, families: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return family hashes with those of near duplicates replaced by that of their group."""
        if not len(self.families):
            return families
        places = np.searchsorted(self.families, families).clip(max=len(self.families) - 1)
        return np.where(self.families[places] == families, self.groups[places], families)

    def sha256(self) -> str:
        """Return the digest of the groups; "" without any."""
        if not len(self.families):
            return ""
        return hashlib.sha256(self.families.tobytes() + self.groups.tobytes()).hexdigest()

    def told(self, is_used: bool) -> str:
        """Say how many rows are near duplicates, and of which split; "" where there are none.

        Args:
            is_used: whether they are of one split.
        """
        if self.why_not:
            return f" Only exact duplicates were looked for, no near ones: {self.why_not}."
        if not self.n_rows:
            return ""
        n = counted(self.n_rows, "row", spec=",")
        if is_used:
            return f" Near duplicates, which are in one split: {n}."
        return (
            f" Near duplicates: {n}, as of templates. They are in several splits: together, they "
            "would leave a split with too few rows or labels."
        )


def is_even(together: Rows, apart: Rows, labelled: bool) -> bool:
    """Return whether a split keeps enough rows, and labels, when near duplicates are together.

    Args:
        together: its rows then.
        apart: its rows when each question is by itself.
        labelled: whether answers are labels.
    """
    if len(together) < _LEAST * len(apart):
        return False
    n_labels = [len(np.unique(rows.column("answers"))) for rows in (together, apart)]
    return not labelled or n_labels[0] >= _LEAST_LABELS * n_labels[1]
