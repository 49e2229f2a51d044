"""Reading the answer out of a text, and comparing two answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

from stratos.tasks.numbers import numbers_in, stated_number
from stratos.tasks.split import normalised

_MARKER = re.compile(
    r"\\f?boxed\s*\{|####|=>|<answer>"
    r"|\banswer\b[*_`]*(?:\s+to\s[^.:\n]{1,80}?)?\s*(?:\bis\b|:|=)[*_`]*\s*:?",
    re.IGNORECASE,
)
"""What a text announces its answer with; the last one counts."""

_LONGEST_BOX = 2000
"""Characters after which a box that was never closed ends."""
_MOST_MARKERS = 100
"""Markers that are looked behind, from the end of a text."""

_QUOTES = " \t\r\n,;:!*_`'\"$"


def find_answer(text: str) -> str | None:
    """Return what a text gives as its answer, trimmed: behind a marker, else its last line."""
    announced = next(_announced(text), None)
    if announced is not None:
        return announced or None
    return next((line for line in map(_trim, reversed(text.splitlines())) if line), None)


def find_number(text: str) -> Fraction | None:
    """Return the number that a text gives as its answer.

    Behind the last marker that a number follows; without one, the last number of the last line that
    has any.
    """
    for announced in _announced(text):
        number = stated_number(announced)
        if number is not None:
            return number
    for line in reversed(text.splitlines()):
        found = numbers_in(line)
        if found:
            return found[-1]
    return None


def states_answer(text: str) -> bool:
    """Return whether a text ends with an answer: its last line announces one with a marker."""
    return _MARKER.search(text.rstrip().rpartition("\n")[2]) is not None


def _announced(text: str) -> Iterator[str]:
    """Yield what stands behind each marker, trimmed, the last marker first."""
    for marker in list(_MARKER.finditer(text))[: -_MOST_MARKERS - 1 : -1]:
        rest = text[marker.end() :]
        if marker.group().endswith("{"):
            yield _trim(_to_closing_brace(rest[:_LONGEST_BOX]))
        else:
            rest = rest.partition("</answer>")[0]
            yield next((line for line in map(_trim, rest.splitlines()) if line), "")


def _to_closing_brace(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:place]
    return text


def _trim(text: str) -> str:
    # A point in front belongs to a number, one behind ends a sentence.
    return text.lstrip(_QUOTES).rstrip(_QUOTES + ".")


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
