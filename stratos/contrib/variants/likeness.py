"""What a number of a question may be exchanged for: one of its kind and magnitude."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from stratos.contrib.variants.number_tokens import LARGEST_IN_WORDS, Token

_STEPS = (
    *(Fraction(digit * 10**power) for power in range(6, -1, -1) for digit in (5, 1)),
    *(Fraction(1, parts) for parts in (2, 4, 10, 20, 100, 1000)),
)
"""Numbers are exchanged for multiples of the largest of them that fits: 120 for tens."""
_CAPS = (
    (r"(?:days?|nights?|mornings?|evenings?|afternoons?|times?) "
     r"(?:a|per|each|every|in a|of the|of each|out of the) week|day (?:work |school )?week", 7),
    (r"hours? (?:\w+ )?(?:a|per|each|every|in a|of each) (?:day|night)", 16),
    (r"weeks? (?:a|per|each|every|in a|of the) month", 4),
    (r"months? (?:a|per|each|every|in a|of the|out of the) year", 12),
    (r"weeks? (?:a|per|each|every|in a|of the) year", 52),
    (r"days? (?:a|per|each|every|in a|of the|in the) month", 28),
    (r"minutes? (?:a|per|each|every|of each|of an|in an) hour", 60),
)  # fmt: skip
"""What stands behind a number that has a largest value."""
_OF_UNITS = (
    (r"hours? (?:in|per|of|each|a) (?:a |the |each )?day", 24),
    (r"minutes? (?:in|per|of) (?:a |an |each )?hour", 60),
    (r"seconds? (?:in|per|of) (?:a |each )?minute", 60),
    (r"days? (?:in|per|of|a|each) (?:a |the |each )?week", 7),
    (r"days? (?:in|per|of|a|each)", 365),
    (r"weeks? (?:in|per|of|a|each)", 52),
    (r"months? (?:in|per|of|a|each)", 12),
    (r"inches", 12),
    (r"ounces (?:in|per|of|to)", 16),
    (r"cm|centimeters|meters|grams|ml|milliliters|cents", 100),
    (r"cm|centimeters|meters|grams|ml|milliliters|pounds", 1000),
)
"""Numbers that a unit has, whatever the problem."""


def _behind(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"[ -](?:{pattern})\b", re.IGNORECASE)


def _before(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern}) [$€£]?\Z", re.IGNORECASE)


_CAPPED = [(_behind(pattern), Fraction(cap)) for pattern, cap in _CAPS]
_UNITS = [(_behind(pattern), Fraction(number)) for pattern, number in _OF_UNITS]
_OLD = _behind(r"(?:years?|yrs?)[ -](?:old|of age)")
_AGED = _before(r"aged?(?: of)?|turn(?:s|ed|ing)?")
_PART = _behind(r"(?:\w+ )?of (?:them|these|those|the|his|her|its|their|which|whom)")
_BOUND = _before(
    r"first|over|under|than|least|most|exceeds?|exceeding|above|below|within|up to|every|only|"
    r"limit of|maximum of|minimum of|capacity of|until|from|between"
)
_ALL_OF = _before(r"the|all|these|those|other|their|his|her|our|both")
_NAMED = _before(
    r"day|night|week|month|year|hour|minute|round|lap|level|step|grade|room|page|number|no\.|"
    r"class|chapter|route|highway|flight|bus|size|line|in|since|january|february|march|april|may|"
    r"june|july|august|september|october|november|december"
)
_COUNTED = re.compile(r"[ -][a-z]|%")
_YEARS = range(1700, 2101)
_CONTEXT = 60
"""Characters before and behind a number that tell what it is."""
_LARGEST_SHARE, _LEAST_ABOVE_ALL = Fraction(95), Fraction(105)
"""Percents below and above 100 stay there."""
_USUAL_IN_WORDS = Fraction(12)


@dataclass(frozen=True, slots=True)
class Kind:
    """What an unknown is and may become."""

    value: Fraction
    is_fixed: bool = True
    step: Fraction = Fraction(1)
    """It becomes a multiple of it."""
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    is_ordered: bool = False
    """Larger numbers of question and solution stay larger, smaller ones smaller."""

    def draw(self, rng: random.Random) -> Fraction:
        """Return a number of this kind."""
        low, high = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return rng.randint(low, high) * self.step if low <= high else self.value


def kind_of(
    value: Fraction,
    asked: Sequence[Token],
    worked: Sequence[Token],
    question: str,
    *,
    is_fixed: bool,
) -> Kind:
    """Return what the equal numbers of a question may become.

    Args:
        value: of all of them.
        asked: they themselves.
        worked: the same numbers where the solution has them.
        question: the text around them.
        is_fixed: they keep their value whatever they are.
    """
    step = _step_of(value, asked)
    if is_fixed or step is None:
        return Kind(value)
    low, high = value / 2, value * 2
    if value <= 10 and value.denominator == 1:
        low, high = max(Fraction(2), low), max(high, value + 3)
    is_ordered = False
    for token in asked:
        before = question[max(0, token.start - _CONTEXT) : token.start]
        behind = question[token.end : token.end + _CONTEXT]
        if _never_changes(token, before, behind):
            return Kind(value)
        caps = [cap for pattern, cap in _CAPPED if pattern.match(behind)]
        if _OLD.match(behind) or _AGED.search(before):
            low, high = max(low, value * Fraction(7, 10)), value * Fraction(7, 5)
            caps.append(Fraction(100))
        if token.is_percent and value < 100:
            caps.append(_LARGEST_SHARE)
        elif token.is_percent:
            low = max(low, _LEAST_ABOVE_ALL)
        high = min([high, *caps])
        is_ordered |= bool(_PART.match(behind) or _BOUND.search(before))
    if any(token.is_word for token in (*asked, *worked)):
        high = min(high, Fraction(LARGEST_IN_WORDS) if value > _USUAL_IN_WORDS else _USUAL_IN_WORDS)
    return Kind(value, not low <= value <= high, step, low, high, is_ordered)


def _step_of(value: Fraction, asked: Sequence[Token]) -> Fraction | None:
    """Return of what a number becomes a multiple; None where it stays: 0, 1, 100%, a long one."""
    is_percent = any(token.is_percent for token in asked)
    if value in (0, 1) or (is_percent and value == 100):
        return None
    if is_percent and (value / 5).denominator == 1:
        return Fraction(5)
    for step in _STEPS:
        n = value / step
        # 10 becomes any whole number, 15 a multiple of 5.
        if n.denominator == 1 and n >= 2 and not (n == 2 and step.numerator % 5 == 0):
            return step
    return None


def _never_changes(token: Token, before: str, behind: str) -> bool:
    """Return whether a number is a year, a name, a count of what is named, or that of a unit."""
    is_plain = not token.is_money and token.text.isdigit()
    if is_plain and token.value in _YEARS and token.value % 100:
        return True
    if is_plain and _NAMED.search(before) and not _COUNTED.match(behind):
        return True
    if token.value < 10 and not token.is_money and _ALL_OF.search(before):
        return True
    return any(token.value == number and unit.match(behind) for unit, number in _UNITS)
