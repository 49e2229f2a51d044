"""Exchange the numbers of a traced problem for others of their kind, and write it anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

from stratos.contrib.variants.number_tokens import LARGEST_IN_WORDS, Token, rewritten
from stratos.contrib.variants.traced import Traced

_MOST_TRIES = 200
_FURTHEST = 6
"""A result is at most so many times as large as it was, or so many times smaller."""


def redrawn(problem: Traced, rng: random.Random) -> tuple[str, str, Fraction] | None:
    """Return question, solution and answer with other numbers; None where none were found."""
    unknowns = [kind.value for kind in problem.kinds]
    commas = problem.with_commas
    for _ in range(_MOST_TRIES):
        drawn = list(unknowns)
        for place in problem.free:
            drawn[place] = problem.kinds[place].draw(rng)
        # What differs goes on to differ: `$50 and $100 bills`.
        if drawn == unknowns or len(set(drawn)) < len(drawn):
            continue
        found = problem.worked_out(drawn)
        if found is not None and _is_like(problem, found):
            question, solution = (
                rewritten(text, ((token, found[place]) for token, place in tokens), commas)
                for text, tokens in (
                    (problem.question, problem.asked),
                    (problem.solution, problem.worked),
                )
            )
            return question, solution, found[problem.answer[1]]
    return None


def _is_like(problem: Traced, found: Sequence[Fraction]) -> bool:
    """Return whether all numbers that are written are of the kind of those that they replace."""
    tokens = (*problem.asked, *problem.worked, problem.answer)
    return (
        all(_can_replace(token, found[at]) for token, at in tokens)
        and all(found[left] == found[right] for left, right in problem.equalities)
        and all(
            _sign(kind.value - token.value) == _sign(found[place] - found[at])
            for place, kind in enumerate(problem.kinds)
            if kind.is_ordered
            for token, at in tokens
        )
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
    if token.is_word and value > LARGEST_IN_WORDS:
        return False
    if old.denominator == 1:
        return value.denominator == 1
    return (value * 10 ** max(token.n_decimals, 2)).denominator == 1
