"""Numbers with units, commas, fractions, powers and LaTeX; and the sums of a written solution.

Every number is read as an exact fraction, so that 0.5, 1/2, ½ and 50e-2 are one. Of sums, what has
words between (`84 holes / 3 holes a day = 28 days`) cannot be checked without understanding, and is
left alone; so are algebra and times of day (`0900 - 0130`).
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from operator import add, mul, sub, truediv
from typing import NamedTuple

from stratos.tasks.words import WrongStep

_MARKS = re.compile(r"<<([^<>]*)>>")
_EQUALS = re.compile(r"(?<![=<>!:≤≥])=(?!=)")
_SUM_CHARACTERS = re.compile(r"[\d.,+\-*/×÷x()$€£% ]*\Z")
_SUM_STARTS = re.compile(r"[\d.($€£]")
_RESULT = re.compile(
    r"\s*[$€£]?\s*(-?(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?!\d)|\d+)?(?:\.\d+)?)(\s?%)?"
    r"(?![\d.]*\d)(?![, ]\d{3}(?!\d))(?![A-Za-z])()"
)
_CLAUSE = re.compile(r"[.,]\s")
_UNFINISHED = re.compile(r"[-+*/×÷x(]\s*[.,]\s\Z")
"""A clause does not end behind an operator: a number was torn (`.8 + . 84`)."""
_TORN_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}, \Z")
"""The beginning of `14, 400`, if three digits follow."""
_THREE_DIGITS = re.compile(r"\d{3}(?![\d,.])")
_CENTS = re.compile(r"\s*cents?\b")
_MIXED = re.compile(r"\d and\s+\d+/\d+\b[^=]*\Z")
"""1 and 1/4 of something: one number, whose whole part is behind a word."""
_NUMBERED = re.compile(
    r"\b(?:on|of|in|for|from|to|through|until|at|by|after|before) "
    r"(?:day|night|week|month|year|hour|minute|round|lap|level|step|grade|room|page) \Z",
    re.IGNORECASE,
)
"""The number behind it is a name (`on day 1 * 2`): a count would come before its noun."""
_SINGLE_PERCENT = re.compile(
    r"(?<![\d.,])1 ?(?:%|percent\b)|\b(?:one|each|every) percent\b", re.IGNORECASE
)
_IN_WORDS = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?) (hundred|thousand|million|billion)\b")
_LARGE = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_LONE_NUMBER = re.compile(r"(?<![\d.,])\d+(?:\.\d+)?(?![\d.,%])")
_DASHES = str.maketrans("−–—", "---")
_CONTINUES = re.compile(r"\s*[-+*/×÷^(=]|\s*x\s*\d")
_TIMES = re.compile(r"(?<=[\d)%])\s*[x×]\s*(?=[\d($.])")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)(%?)|([-+*/()]))")
_UNDER = re.compile(r"/\s+(\d+/\d+)(?![\d.]|\s*/)")
"""25 / 1/3: what is written closely is one number, by which the rest is divided."""
_LONGEST = 200
"""Characters of a sum; longer ones are left alone."""
_LONGEST_NUMBER = 30


def without_marks(text: str) -> str:
    """Return a solution without GSM8K's calculator marks `<<9*2=18>>`."""
    return _MARKS.sub("", text)


def wrong_step(text: str) -> WrongStep | None:
    """Return the first sum of a text whose stated result it has not; None where all come out.

    A result may be rounded, or cut off, at its last digit. Where single percents are counted
    (`each 1% is 180/150 = 1.2`), 100% may be a hundred of them, and what is `5 thousand` in words
    may be 5 in a sum.
    """
    for step in _steps(text):
        values = [value for reading in step.readings if (value := _exact(reading)) is not None]
        if values and not any(_comes_to(value, step) for value in values):
            return WrongStep(step.readings[0], f"{step.result}{'%' if step.is_percent else ''}")
    return None


def n_steps(text: str) -> int:
    """Return how many sums of a text can be checked."""
    return sum(
        any(_exact(reading) is not None for reading in step.readings) for step in _steps(text)
    )


class _Step(NamedTuple):
    """A sum and what it is said to come to."""

    readings: tuple[str, ...]
    """The sum; where it can be read in several ways, all of them."""
    result: str
    is_percent: bool


def _comes_to(value: Fraction, step: _Step) -> bool:
    """Return whether a value is the stated result, rounded or cut off at its last digit."""
    result = step.result.replace(",", "").replace(" ", "")
    stated = Fraction(result) / (100 if step.is_percent else 1)
    digits = len(result.partition(".")[2]) + 2 * step.is_percent
    last_digit = Fraction(1, 10**digits)
    is_whole = (value / last_digit).denominator == 1
    # A percentage may be written as its number: 1/4 = 25%, and 100 * 1/4 = 25%.
    near = (stated, stated * 100) if step.is_percent else (stated,)
    return any(
        value == number or (not is_whole and abs(value - number) < last_digit) for number in near
    )


def _steps(text: str) -> Iterator[_Step]:
    """Yield each sum with its stated result."""
    counts_percents = _SINGLE_PERCENT.search(text) is not None
    in_words = dict(_IN_WORDS.findall(text))
    for line in text.translate(_DASHES).splitlines():
        begin = 0
        for equals in _EQUALS.finditer(line):
            before, begin = line[begin : equals.start()], equals.end()
            match = _SUM_CHARACTERS.search(before[-_LONGEST:])
            stated = _RESULT.match(line, equals.end())
            if match is None or stated is None or not stated[1].strip("-."):
                continue
            if _CONTINUES.match(line, stated.end()):
                continue
            clause = max((mark.end() for mark in _CLAUSE.finditer(match[0])), default=0)
            earlier, rest = match[0][:clause], match[0][clause:].strip()
            if _UNFINISHED.search(earlier):
                continue
            is_other_unit = "$" in rest and _CENTS.match(line, stated.end())
            if is_other_unit or _MIXED.search(before[-_LONGEST:]):
                continue
            words = before[: len(before) - len(match[0])] + match[0][:1]
            if not clause and _NUMBERED.search(words):
                continue
            glued = len(match[0]) < len(before[-_LONGEST:]) and match[0][:1] not in " ,."
            if rest and _SUM_STARTS.match(rest) and not glued:
                torn = _TORN_THOUSANDS.search(earlier)
                whole = (torn[0][:-2] + rest,) if torn and _THREE_DIGITS.match(rest) else ()
                percents = (rest.replace("%", ""),) if counts_percents and "%" in rest else ()
                readings = (rest, *whole, *percents, *_written_out(rest, in_words))
                yield _Step(readings, stated[1], bool(stated[2]))


def _written_out(sum_: str, in_words: dict[str, str]) -> Iterator[str]:
    """Yield a sum with one of its numbers as large as the text has it in words."""
    for number in _LONE_NUMBER.finditer(sum_):
        if number[0] in in_words:
            large = Fraction(number[0]) * _LARGE[in_words[number[0]]]
            if large.denominator == 1:
                yield f"{sum_[: number.start()]}{large}{sum_[number.end() :]}"


def _exact(text: str) -> Fraction | None:
    """Return what a sum comes to; None for what is none."""
    text = _TIMES.sub("*", text).replace("×", "*").replace("÷", "/")
    tokens = _tokens(_UNDER.sub(r"/(\1)", text))
    if tokens is None or len(tokens) < 3:
        return None
    # Each number by its name: what else an expression of Python may have, no text has here.
    names = (f"n{k}" if isinstance(token, Fraction) else token for k, token in enumerate(tokens))
    try:
        return _evaluated(ast.parse(" ".join(names), mode="eval").body, tokens)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


_OPERATIONS = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.Div: truediv}


def _evaluated(node: ast.expr, tokens: list[Fraction | str]) -> Fraction:
    """Return what a sum comes to whose numbers are named by their places in tokens."""
    if isinstance(node, ast.Name):
        return Fraction(tokens[int(node.id[1:])])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand, tokens)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        sides = _evaluated(node.left, tokens), _evaluated(node.right, tokens)
        return Fraction(_OPERATIONS[type(node.op)](*sides))
    raise ValueError


def _tokens(text: str) -> list[Fraction | str] | None:
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))|[$€£]", "", text).strip()
    tokens: list[Fraction | str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(match[1] or "") > _LONGEST_NUMBER:
            return None
        at = match.end()
        if match[1] and match[1][0] == "0" and match[1][1:2].isdigit():
            return None  # a time of day
        tokens.append(Fraction(match[1]) / (100 if match[2] else 1) if match[1] else match[3])
    return tokens


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
