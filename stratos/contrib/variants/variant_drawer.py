"""Variants of the training rows: their numbers exchanged, their sums worked out anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from stratos.contrib.variants.number_tokens import (
    NoVariant,
    Token,
    UntraceableError,
    rewritten,
    without_numbers,
)
from stratos.contrib.variants.problem_trace import TracedProblem, trace
from stratos.core.reasons import Reason
from stratos.tasks.base import Item
from stratos.tasks.dedup.hashes import content_id, family_id
from stratos.tasks.numbers import n_steps, write_number

_MOST_TRIES = 200
_FURTHEST = 6
"""A result is at most so many times as large as it was, or so many times smaller."""


def redrawn(problem: TracedProblem, rng: random.Random) -> tuple[str, str, Fraction] | None:
    """Return question, solution and answer with other numbers; None where none were found."""
    unknowns = [kind.value for kind in problem.kinds]
    commas = problem.with_commas
    for _ in range(_MOST_TRIES):
        drawn = list(unknowns)
        for unknown in problem.free:
            drawn[unknown] = problem.kinds[unknown].draw(rng)
        # What differs goes on to differ: `$50 and $100 bills`.
        if drawn == unknowns or len(set(drawn)) < len(drawn):
            continue
        values = problem.worked_out(drawn)
        if values is not None and _is_like(problem, values):
            question, solution = (
                rewritten(text, ((token, values[node]) for token, node in tokens), commas)
                for text, tokens in (
                    (problem.question, problem.given),
                    (problem.solution, problem.worked),
                )
            )
            return question, solution, values[problem.answer[1]]
    return None


def _is_like(problem: TracedProblem, values: Sequence[Fraction]) -> bool:
    """Return whether all numbers that are written are of the kind of those that they replace."""
    tokens = (*problem.given, *problem.worked, problem.answer)
    return all(_can_replace(token, values[node]) for token, node in tokens) and all(
        _sign(kind.value - token.value) == _sign(values[unknown] - values[node])
        for unknown, kind in enumerate(problem.kinds)
        if kind.is_ordered
        for token, node in tokens
    )


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


def _can_replace(token: Token, value: Fraction) -> bool:
    """Return whether a number may stand in the place of another: one of its kind and magnitude.

    None becomes 1 or stops being 1, so that singular and plural stay right, and so does what a
    share of one is.
    """
    old = token.value
    if value == old:
        return True
    if min(value, old) <= 0 or 1 in (value, old) or (value < 1) != (old < 1):
        return False
    if not old / _FURTHEST <= value <= old * _FURTHEST:
        return False
    if token.is_percent and (value > 100) != (old > 100):
        return False
    if old.denominator == 1:
        return value.denominator == 1
    return (value * 10 ** max(token.n_decimals, 2)).denominator == 1


_MOST_IN_VAIN = 3
"""Draws in a row of one problem that bring nothing new, after which it is left."""


@dataclass(frozen=True)
class VariantDrawer:
    """Draws variants of problems whose solutions can be traced."""

    verify: Callable[[Item], Reason | None]
    """Returns what is wrong with an item."""
    held_out: frozenset[str] = frozenset()
    """`form_of` held-out questions, of which no variant is made."""
    _seen: dict[str, TracedProblem | NoVariant] = field(default_factory=dict)
    """Of each row that was looked at, by its id, how it is worked out, or why it has no variant."""

    def __reduce__(self) -> tuple[type[VariantDrawer], tuple[object, ...]]:
        """Leave what was looked at here when it is sent to other machines."""
        return VariantDrawer, (self.verify, self.held_out)

    def draw(self, rows: Sequence[Item], n: int, seed: int) -> Iterator[Item]:
        """Yield up to `n` different variants, one of each row in turn.

        A row is looked at when its first turn comes. No more is kept of a variant than its id.
        """
        waiting = list(rows)
        drawn = {row.id for row in rows}
        in_vain: Counter[str] = Counter()
        turn = n_made = 0
        while waiting and n_made < n:
            again = []
            for row in waiting:
                problem = self._problem(row)
                if isinstance(problem, NoVariant):
                    continue
                variant = self._variant(row, problem, random.Random(f"{seed} {turn} {row.id}"))
                if variant is not None and variant.id not in drawn:
                    in_vain[row.id] = 0
                    drawn.add(variant.id)
                    n_made += 1
                    yield variant
                    if n_made == n:
                        return
                else:
                    in_vain[row.id] += 1
                if in_vain[row.id] < _MOST_IN_VAIN:
                    again.append(row)
            waiting = again
            turn += 1

    @property
    def left_out(self) -> Counter[str]:
        """Return how many of the rows that were looked at have no variant, by reason."""
        reasons = (seen for seen in self._seen.values() if isinstance(seen, NoVariant))
        return Counter(f"row without a variant: {reason}" for reason in reasons)

    def _problem(self, row: Item) -> TracedProblem | NoVariant:
        if row.id not in self._seen:
            self._seen[row.id] = self._traced(row)
        return self._seen[row.id]

    def _traced(self, row: Item) -> TracedProblem | NoVariant:
        if form_of(row.question) in self.held_out:
            return NoVariant.HELD_OUT
        if self.verify(row) is not None:
            return NoVariant.UNVERIFIED
        if not n_steps(row.rationale):
            return NoVariant.NO_SUM
        try:
            return trace(row.question, row.rationale, row.answer)
        except UntraceableError as error:
            return error.reason

    def _variant(self, row: Item, problem: TracedProblem, rng: random.Random) -> Item | None:
        if (drawn := redrawn(problem, rng)) is None:
            return None
        question, solution, answer = drawn
        variant = replace(
            row,
            id=content_id(question),
            family=family_id(question),
            question=question,
            rationale=solution,
            answer=write_number(answer),
            choices=(),
        )
        # Worked out a second time by another reading: that of `stratos.tasks.numbers`.
        if not n_steps(solution) or self.verify(variant) is not None:
            return None
        return variant


def drawer(verify: Callable[[Item], Reason | None], held_out: Iterable[Item]) -> VariantDrawer:
    """Return what draws variants of a task's training rows.

    Args:
        verify: returns what is wrong with an item.
        held_out: items of whose questions no variant is made, whatever their numbers.
    """
    return VariantDrawer(verify, frozenset(form_of(item.question) for item in held_out))


def form_of(question: str) -> str:
    """Return the hash of a question that other numbers in it leave alone."""
    return family_id(without_numbers(question))
