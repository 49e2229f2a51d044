"""Variants of the training rows: their numbers exchanged, their sums worked out anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from stratos.contrib.variants.number_tokens import without_numbers
from stratos.contrib.variants.redrawn import redrawn
from stratos.contrib.variants.traced import Traced, UntraceableError, traced
from stratos.contrib.variants.words import NoVariant
from stratos.core.reasons import Reason
from stratos.tasks.base import Item
from stratos.tasks.math import n_steps
from stratos.tasks.numbers import write_number
from stratos.tasks.split import content_id, family_id

_MOST_IN_VAIN = 3
"""Draws in a row of one problem that bring nothing new, after which it is left."""


@dataclass(frozen=True)
class Exchanged:
    """Draws variants of problems whose solutions can be traced."""

    verify: Callable[[Item], Reason | None]
    """Returns what is wrong with an item."""
    held: frozenset[str] = frozenset()
    """`form_of` held-out questions, of which no variant is made."""
    _seen: dict[str, Traced | NoVariant] = field(default_factory=dict)
    """Of each row that was looked at, by its id, how it is worked out, or why it has no variant."""

    def __reduce__(self) -> tuple[type[Exchanged], tuple[object, ...]]:
        """Leave what was looked at here when it is sent to other machines."""
        return Exchanged, (self.verify, self.held)

    def draw(self, rows: Sequence[Item], n: int, seed: int) -> Iterator[Item]:
        """Yield up to `n` different variants, one of each row in turn.

        A row is looked at when its first turn comes. No more is kept of a variant than its id.
        """
        left = list(rows)
        drawn = {row.id for row in rows}
        in_vain: Counter[str] = Counter()
        turn = n_made = 0
        while left and n_made < n:
            again = []
            for row in left:
                problem = self._problem(row)
                if isinstance(problem, NoVariant):
                    continue
                made = self._variant(row, problem, random.Random(f"{seed} {turn} {row.id}"))
                if made is not None and made.id not in drawn:
                    in_vain[row.id] = 0
                    drawn.add(made.id)
                    n_made += 1
                    yield made
                    if n_made == n:
                        return
                else:
                    in_vain[row.id] += 1
                if in_vain[row.id] < _MOST_IN_VAIN:
                    again.append(row)
            left = again
            turn += 1

    @property
    def left_out(self) -> Counter[str]:
        """Return how many of the rows that were looked at have no variant, by reason."""
        reasons = (seen for seen in self._seen.values() if isinstance(seen, NoVariant))
        return Counter(f"row without a variant: {reason}" for reason in reasons)

    def _problem(self, row: Item) -> Traced | NoVariant:
        if row.id not in self._seen:
            self._seen[row.id] = self._traced(row)
        return self._seen[row.id]

    def _traced(self, row: Item) -> Traced | NoVariant:
        if form_of(row.question) in self.held:
            return NoVariant.HELD_OUT
        if self.verify(row) is not None:
            return NoVariant.UNVERIFIED
        if not n_steps(row.rationale):
            return NoVariant.NO_SUM
        try:
            return traced(row.question, row.rationale, row.answer)
        except UntraceableError as error:
            return error.reason

    def _variant(self, row: Item, problem: Traced, rng: random.Random) -> Item | None:
        found = redrawn(problem, rng)
        if found is None:
            return None
        question, solution, answer = found
        made = replace(
            row,
            id=content_id(question),
            family=family_id(question),
            question=question,
            rationale=solution,
            answer=write_number(answer),
            choices=(),
        )
        # Worked out a second time by another reading: that of `stratos.tasks.math`.
        if not n_steps(solution) or self.verify(made) is not None:
            return None
        return made


def exchanged(verify: Callable[[Item], Reason | None], held_out: Iterable[Item]) -> Exchanged:
    """Return what draws variants of a task's training rows.

    Args:
        verify: returns what is wrong with an item.
        held_out: items of whose questions no variant is made, whatever their numbers.
    """
    return Exchanged(verify, frozenset(form_of(item.question) for item in held_out))


def form_of(question: str) -> str:
    """Return the hash of a question that other numbers in it leave alone."""
    return family_id(without_numbers(question))
