"""Parse numbers with units, commas, fractions, powers and LaTeX.

Every number is read as an exact fraction, so that 0.5, 1/2, ½ and 50e-2 are one.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_LARGEST_POWER = 400
"""Powers beyond it are no answer, and would take long to write out."""

_SPACE = "[\u00a0\u2007\u2009\u202f]"
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+]\s?(?=[\d.]))?"
    r"(?:(?P<whole>\d+)\s+(?=\d+\s?/\s?\d))?"
    r"(?P<top>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:e(?P<exponent>[-+]?\d{1,3}))?"
    r"(?:\s?\^\s?(?P<power>[-+]?\d{1,3}))?"
    r"(?:\s?/\s?(?P<bottom>\d+(?:\.\d+)?))?"
    r"(?!\d)",
    re.IGNORECASE,
)
_TIMES_POWER_OF_TEN = re.compile(r"(?<=\d)\s?(?:×|\*|·|x)\s?10\s?\^\s?([-+]?\d{1,3})(?!\d)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_MINUS = str.maketrans("−‒–—﹣", "-----")
_LATEX = (
    (re.compile(r"<<[^<>]*>>"), ""),  # GSM8K's calculator marks
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r" \1/\2"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°"), " "),
    (re.compile(r"\^\s*\{\s*([-+]?\d+)\s*\}"), r"^\1"),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"(?<=\d)\{,\}(?=\d)|(?<=\d)\\,(?=\d{3})|\\!"), ","),
    (re.compile(r",{2,}"), ","),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[,;:!$%()\[\]]|\\(?:left|right|quad|approx)\b"), " "),
    (re.compile(r"(?:US|CA|A|C)?\$|[€£¥₹]"), " "),
)
_STARTS = re.compile(r"[^\w.+-]*$")
_SUM = re.compile(r"[^=,;(\n]*?[-+*×÷/x]\s*\$?[(\d.][^=]*=")
"""What makes the number before it the beginning of a sum, whose result is what counts."""


def numbers_in(text: str) -> list[Fraction]:
    """Return the numbers of a text in order; units are left out, a percent sign too: 5% is 5."""
    return [number for _, _, number in _find(_plain(text))]


def stated_number(text: str) -> Fraction | None:
    """Return the number that a short statement gives as its result.

    The number that it begins with, unless that opens a sum; else the first behind the last equals
    sign; else the last of all: `18 dollars in 2 days`, `x = 18 (2 a day)`, `in 2 days she has 18`.
    """
    text = _plain(text)
    numbers = list(_find(text))
    if not numbers:
        return None
    start, end, number = numbers[0]
    if _STARTS.match(text[:start]) and not _SUM.match(text, end):
        return number
    behind = text.rfind("=")
    return next((n for at, _, n in numbers if behind >= 0 and at > behind), numbers[-1][2])


def write_number(number: Fraction) -> str:
    """Return a number in canonical spelling: whole, decimal where that ends, else a fraction."""
    if number.denominator == 1:
        return str(number.numerator)
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{number.numerator}/{number.denominator}"
    digits = 0
    while (number * 10**digits).denominator != 1:
        digits += 1
    whole = str(abs(int(number * 10**digits))).rjust(digits + 1, "0")
    return f"{'-' if number < 0 else ''}{whole[:-digits]}.{whole[-digits:]}"


def _plain(text: str) -> str:
    """Return a text with one spelling for what has several: minus signs, fractions, powers."""
    text = "".join(map(_plain_character, text)).translate(_MINUS)
    text = re.sub(rf"(?<=\d){_SPACE}(?=\d{{3}}(?!\d))", ",", text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return _TIMES_POWER_OF_TEN.sub(r"e\1", re.sub(r"[*_`]{2,}", " ", text))


def _plain_character(character: str) -> str:
    """Write ½ as 1/2; NFKC alone would make 11/2 of 1½."""
    kind, _, parts = unicodedata.decomposition(character).partition(" ")
    if kind != "<fraction>":
        return character
    return " " + "".join(chr(int(part, 16)) for part in parts.split()).replace("⁄", "/")


def _find(text: str) -> list[tuple[int, int, Fraction]]:
    """Return start, end and value of every number of a plain text."""
    numbers = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            numbers.append((match.start(), match.end(), value))
    return numbers


def _value(match: re.Match[str]) -> Fraction | None:
    power = int(match["power"] or 1)
    if abs(power) > _LARGEST_POWER:
        return None
    try:
        value = Fraction(match["top"].replace(",", ""))
        if abs(power) > 1 and abs(value) > 10**6:
            return None
        value = value**power * Fraction(10) ** int(match["exponent"] or 0)
        value = value / Fraction(match["bottom"] or 1) + int(match["whole"] or 0)
    except (ValueError, ZeroDivisionError):  # a zero below, or more digits than Python reads
        return None
    return -value if (match["sign"] or "").startswith("-") else value
