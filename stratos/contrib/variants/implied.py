"""Numbers that words stand for: half is 2, a week 7, a dozen 12.

A number of a solution that the question does not give has to be one of these. Where the question
gives the same number, nothing tells which of them is meant, and neither is exchanged.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BY_WORDS = {
    "half halves halved": "2 1/2",
    "third": "3 1/3 2/3 2",
    "quarter quarterly fourth": "4 1/4 3/4 3 25",
    "fifth": "5 1/5 2/5 3/5 4/5 2 3 4",
    "sixth": "6 1/6 5/6 5",
    "seventh": "7 1/7",
    "eighth": "8 1/8 3/8 5/8 7/8 3 5 7",
    "ninth": "9 1/9",
    "tenth": "10 1/10 3/10 7/10 9/10 3 7 9",
    "second twice double doubled doubling both couple pair twin duo either neither round return "
    "back between parent bicycle bike biweekly semester weekend hand eye ear shoe sock glove arm "
    "wing lens lense": "2",
    "triple tripled tripling thrice triplet trio tricycle triangle": "3",
    "quadruple quadrupled quadruplet square rectangle rectangular season grandparent tire wheel "
    "leg side paw feet": "4 2",
    "quintuple quintupled weekday workday workweek school": "5",
    "finger toe hand": "5 10",
    "insect hexagon dice die cube": "6 12",
    "leg spider octopus octopuse octagon": "8 6",
    "week weekly weekday daily": "7",
    "fortnight": "14 2",
    "day daily": "24 7",
    "hour hourly minute second": "60 3600",
    "dozen": "12",
    "month monthly": "12 30 4 31 28",
    "year yearly annual annually": "12 52 365 4",
    "january march may july august october december": "31",
    "april june september november": "30",
    "february": "28 29",
    "decade": "10",
    "century centurie": "100",
    "foot feet inch inche": "12",
    "yard": "3 36",
    "ton": "2000",
    "pound ounce lb oz": "16",
    "kilogram kilometer kilometre kg km gram g liter litre milliliter ml l meter metre m mm mg": (
        "1000 100"
    ),
    "centimeter centimetre cm": "100",
    "gallon": "4 16 128 8",
    "quart": "4 2",
    "pint cup": "2 8 16",
    "dollar cent percent percentage discount tax tip interest profit": "100",
    "penny pennies pennie": "100 1/100",
    "dime": "10 1/10",
    "nickel": "5 1/20",
    "deck card": "52",
    "alphabet": "26",
    "degree angle circle": "90 180 360",
}  # fmt: skip
_OF_WORD: dict[str, frozenset[Fraction]] = {}
for _words, _numbers in _BY_WORDS.items():
    for _word in _words.split():
        _OF_WORD[_word] = _OF_WORD.get(_word, frozenset()) | set(map(Fraction, _numbers.split()))
_OF_SIGN = {"%": Fraction(100), "$": Fraction(100), "¢": Fraction(100)}
_LETTERS = re.compile(r"[a-z]+")
_FRACTION = re.compile(r"(?<![\d/.])(\d+)/(\d+)(?![\d/])")


def constants_of(text: str) -> set[Fraction]:
    """Return the numbers that the words and signs of a text may stand for."""
    found = {Fraction(1)}
    for word in set(_LETTERS.findall(text.lower())):
        found |= _OF_WORD.get(word, frozenset()) | _OF_WORD.get(word.removesuffix("s"), frozenset())
    return found | {number for sign, number in _OF_SIGN.items() if sign in text}


def fractions_of(text: str) -> list[tuple[range, set[Fraction]]]:
    """Return where the fractions of a text stand, such as 3/4, and what is meant by each."""
    found = []
    for match in _FRACTION.finditer(text):
        top, bottom = Fraction(match[1]), Fraction(match[2])
        if bottom:
            share = top / bottom
            means = {top, bottom, share, 1 - share, bottom - top}
            found.append((range(*match.span()), means))
    return found
