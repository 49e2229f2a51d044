"""Reading the answer out of a text, and comparing two answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from stratos.tasks.split import normalised

_MARKER = re.compile(r"\\boxed\s*\{|####|=>|\banswer\s*(?:is|:|=)\s*:?", re.IGNORECASE)
"""What a text announces its answer with; the last one counts."""

_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:e[-+]?\d{1,3})?(?:\s*/\s*\d+)?(?![\d])",
    re.IGNORECASE,
)
_QUOTES = " \t\r\n,;:!*_`'\"$"


def find_answer(text: str) -> str | None:
    """Return what a text gives as its answer, trimmed: behind a marker, else its last line."""
    markers = list(_MARKER.finditer(text))
    if markers:
        last = markers[-1]
        rest = text[last.end() :]
        if last.group().endswith("{"):
            return _trim(_to_closing_brace(rest))
        return _trim(next((line for line in rest.splitlines() if line.strip()), ""))
    lines = [line for line in text.splitlines() if line.strip()]
    return _trim(lines[-1]) if lines else None


def states_answer(text: str) -> bool:
    """Return whether a text announces an answer with a marker."""
    return _MARKER.search(text) is not None


def _to_closing_brace(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place]
    return text


def _trim(text: str) -> str | None:
    # A point in front belongs to a number, one behind ends a sentence.
    return text.lstrip(_QUOTES).rstrip(_QUOTES + ".") or None


def read_number(text: str) -> Fraction | None:
    """Return the last number of a text: 1,234.5, -3/4, 2e6 and LaTeX fractions; units are left.

    A percent sign is a unit too: 5% is 5.
    """
    text = _FRACTION.sub(r"\1/\2", text).replace("−", "-").replace("\\!", "")
    text = re.sub(r"[$€£]\s*|\\[,;$%]|\\text\s*", " ", text)
    found = [match for match in _NUMBER.findall(text) if any(map(str.isdigit, match))]
    if not found:
        return None
    top, _, bottom = found[-1].replace(",", "").replace(" ", "").partition("/")
    try:
        return Fraction(top) / Fraction(bottom or 1)
    except (ValueError, ZeroDivisionError):
        return None


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


def word_f1(answer: str, gold: str) -> float:
    """Return the harmonic mean of precision and recall of an answer's words (as in SQuAD)."""
    given, wanted = _words(answer), _words(gold)
    both = sum((given & wanted).values())
    return 2 * both / (sum(given.values()) + sum(wanted.values())) if both else 0.0


def nearest_by_words(known: Sequence[str], asked: Sequence[str]) -> list[int]:
    """Return for each text the index of the known one that shares most words with it.

    Words count by their rarity (inverse document frequency), lengths by their square root.
    """
    places: dict[str, list[int]] = {}
    sizes = []
    for index, text in enumerate(known):
        words = set(_words(text))
        sizes.append(max(1, len(words)) ** 0.5)
        for word in words:
            places.setdefault(word, []).append(index)
    found = []
    for text in asked:
        scores: Counter[int] = Counter()
        for word in set(_words(text)):
            for index in places.get(word, ()):
                scores[index] += 1 / len(places[word]) / sizes[index]
        found.append(max(scores, key=lambda index: (scores[index], -index), default=0))
    return found


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", normalised(text)))
