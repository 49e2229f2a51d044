"""The numbers of a text with where they stand and how they are written, so that others fit in.

Numbers in digits are exchanged; those in words stay as they are.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from stratos.core.extensions import table
from stratos.core.reasons import Reason


class NoVariant(Reason, Enum):
    """Why the numbers of a row cannot be exchanged."""

    HELD_OUT = "a held-out question with other numbers"
    UNVERIFIED = "it does not verify"
    NO_SUM = "no sum that is checked"
    COMPARED = "numbers that are compared"
    NO_NUMBER = "no number as its answer"
    ALL_FIXED = "no number that can be exchanged"
    UNUSED = "a number of the question is not used"
    CHAINED = "sums that are equal by their numbers alone"
    DIVISION = "a division by nothing"
    FROM_NOWHERE = "a number of the solution is from nowhere"
    TIME_OF_DAY = "a time of day"
    OTHER_FORM = "a number in another form"
    IN_A_NAME = "a number in a name"
    UNKNOWN = "an unknown of an equation"


_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6}
_SMALL = {word: n for n, word in enumerate(_WORDS)}
_SMALL |= {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_WORD = re.compile(rf"\b(?:{'|'.join([*list(_SMALL)[1:], *_LARGE])})\b", re.IGNORECASE)
_DIGITS = re.compile(
    r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?!\d)|(?<![\d.,])\.\d+"
)
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)\b", re.IGNORECASE)
_UNIT = re.compile(
    r"(?:kgs?|g|mg|cms?|m|kms?|mm|ml|l|lbs?|oz|ft|in|mph|kph|hrs?|mins?|MB|GB)(?![A-Za-z])"
)
_TIMES = re.compile(r"[xX]\s*[\d($.]")
_BEHIND_TIMES = re.compile(r"[\d )%][xX]\Z")
_PERCENT = re.compile(r"\s?(?:%|percent\b|per cent\b)", re.IGNORECASE)
_CENTS = re.compile(r"\s?(?:¢|cents?\b)", re.IGNORECASE)
_TIME_OF_DAY = re.compile(
    r"\d\s?:\s?\d|\d\s?[ap]\.?\s?m\b|\d\s?p\b|o'clock|\b(?:noon|midnight)\b", re.IGNORECASE
)
_FORM = re.compile(
    r"\d\s?(?:hundred|thousand|million|billion|trillion|[kK]\b)|[\^²³√!½¼¾⅓⅔]|\*\*|\d\s\d+/\d"
)
_ARTICLE = re.compile(r"\b([Aa])n? ([$€£]?)\Z")
_BEGINS_WITH_VOWEL = re.compile(r"8|1[18](?!\d)|1[18],\d{3}(?!,)")


class UntraceableError(Exception):
    """A problem cannot be worked out again with other numbers; the message says why."""

    def __init__(self, reason: NoVariant) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Token:
    """A number as it is written in a text."""

    start: int
    end: int
    text: str
    value: Fraction
    """What is written: 20 of 20%, 75 of 75 cents."""
    is_percent: bool = False
    is_cents: bool = False
    is_money: bool = False
    """A sign of a currency stands before it."""

    @property
    def n_decimals(self) -> int:
        """Digits behind the point."""
        return len(self.text.partition(".")[2])

    def written(self, value: Fraction, with_commas: bool) -> str:
        """Return another number, which ends, in the way in which this one is written."""
        n = 2 if self.n_decimals == 2 else 0  # dollars and cents
        while (value * 10**n).denominator != 1:
            n += 1
        digits = f"{int(value * 10**n):0{n + 1}d}"
        whole, behind = digits[: len(digits) - n], digits[len(digits) - n :]
        if with_commas:
            whole = f"{int(whole):,}"
        if self.text.startswith(".") and whole == "0":
            whole = ""
        return f"{whole}.{behind}" if behind else whole


def tokens_of(text: str) -> list[Token]:
    """Return the numbers of a text in digits, in order.

    Raises:
        UntraceableError: a digit of it belongs to none of them, or to a time of day.
    """
    if _TIME_OF_DAY.search(text):
        raise UntraceableError(NoVariant.TIME_OF_DAY)
    if _FORM.search(text):
        raise UntraceableError(NoVariant.OTHER_FORM)
    tokens = list(_tokens(text))
    # No number may be overlooked: it would keep its value beside those that are exchanged.
    read = [*(token.text for token in tokens), *_ORDINAL.findall(text)]
    if sum(map(_n_digits, read)) != _n_digits(text):
        raise UntraceableError(NoVariant.OTHER_FORM)
    return tokens


def _tokens(text: str) -> Iterator[Token]:
    ordinals = {match.start() for match in _ORDINAL.finditer(text)}
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        if start in ordinals:
            continue
        before, behind = text[max(0, start - 2) : start], text[end : end + 1]
        is_named = before[-1:].isalpha() and not _BEHIND_TIMES.match(before)
        if is_named or before[-1:] in ("#", "_"):
            raise UntraceableError(NoVariant.IN_A_NAME)
        if behind.isalpha() and not (_UNIT.match(text, end) or _TIMES.match(text, end)):
            raise UntraceableError(NoVariant.UNKNOWN)
        if match[0][0] == "0" and match[0][1:2].isdigit():
            raise UntraceableError(NoVariant.TIME_OF_DAY)
        yield Token(
            start,
            end,
            match[0],
            Fraction(match[0].replace(",", "")),
            is_percent=_PERCENT.match(text, end) is not None,
            is_cents=_CENTS.match(text, end) is not None,
            is_money=before[-1:] in ("$", "£", "€"),
        )


def numbers_in_words(text: str) -> set[Fraction]:
    """Return the numbers that words of a text name: three, two hundred and fifty-six."""
    numbers: set[Fraction] = set()
    for run in _runs(text):
        total = part = 0
        for word in run:
            if word in _SMALL:
                part += _SMALL[word]
            elif word == "hundred":
                part = max(part, 1) * 100
            else:
                total, part = total + max(part, 1) * _LARGE[word], 0
        numbers.add(Fraction(total + part))
    return numbers


def _runs(text: str) -> Iterator[list[str]]:
    """Yield number words, those together that are one number."""
    run: list[str] = []
    end = 0
    for match in _WORD.finditer(text):
        if run and text[end : match.start()] not in (" ", "-", " and "):
            yield run
            run = []
        run.append(match[0].lower())
        end = match.end()
    if run:
        yield run


def rewritten(text: str, exchanged: Iterable[tuple[Token, Fraction]], with_commas: bool) -> str:
    """Return a text with other numbers in place of its own; `a` and `an` go with them."""
    parts: list[str] = []
    position = 0
    for token, value in exchanged:
        before = text[position : token.start]
        written = token.text
        if value != token.value:
            written = token.written(value, with_commas)
            if article := _ARTICLE.search(before):
                n = "n" if _BEGINS_WITH_VOWEL.match(written) else ""
                before = f"{before[: article.start()]}{article[1]}{n} {article[2]}"
        parts += [before, written]
        position = token.end
    return "".join([*parts, text[position:]])


def without_numbers(text: str) -> str:
    """Return a text with `0` for each of its numbers, however they are written."""
    return _WORD.sub("0", _DIGITS.sub("0", text))


def has_commas(tokens: Sequence[Token]) -> bool:
    """Return whether the thousands of a text are set apart."""
    large = [token for token in tokens if token.value >= 1000]
    return bool(large) and all("," in token.text for token in large)


def _n_digits(text: str) -> int:
    return sum(map(str.isdigit, text))


# --- what a number may become --------------------------------------------------------------------

_STEPS = (
    *(Fraction(digit * 10**power) for power in range(6, -1, -1) for digit in (5, 1)),
    *(Fraction(1, parts) for parts in (2, 4, 10, 20, 100, 1000)),
)
"""Numbers are exchanged for multiples of the largest of them that fits: 120 for tens."""


def _behind(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"[ -](?:{pattern})\b", re.IGNORECASE)


def _before(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern}) [$€£]?\Z", re.IGNORECASE)


_BOUNDS = table(__file__, "bounds.toml")
_CAPPED = [(_behind(pattern), Fraction(cap)) for pattern, cap in _BOUNDS["caps"]]
_UNITS = [(_behind(pattern), Fraction(number)) for pattern, number in _BOUNDS["units"]]
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


def kind_of(value: Fraction, tokens: Sequence[Token], question: str) -> Kind:
    """Return what the equal numbers of a question may become.

    Args:
        value: of all of them.
        tokens: they themselves.
        question: the text around them.
    """
    step = _step_of(value, tokens)
    if step is None:
        return Kind(value)
    low, high = value / 2, value * 2
    if value <= 10 and value.denominator == 1:
        low, high = max(Fraction(2), low), max(high, value + 3)
    is_ordered = False
    for token in tokens:
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
    return Kind(value, not low <= value <= high, step, low, high, is_ordered)


def _step_of(value: Fraction, tokens: Sequence[Token]) -> Fraction | None:
    """Return of what a number becomes a multiple; None where it stays: 0, 1, 100%, a long one."""
    is_percent = any(token.is_percent for token in tokens)
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
