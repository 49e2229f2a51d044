"""Parse the answer from a text, and compare two answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.numbers import numbers_in, stated_number

AnswerText: TypeAlias = str
"""An answer in canonical spelling, as it was read out of a text."""

_MARKER = re.compile(
    r"\\f?boxed\s*\{|####|=>|<answer>"
    r"|\banswer\b[*_`]*(?:\s+to\s[^.:\n]{1,80}?)?\s*(?:\bis\b|:|=)[*_`]*\s*:?",
    re.IGNORECASE,
)
"""What a text announces its answer with; the last one counts."""

LETTER = re.compile(r"(?<![A-Za-z'])\(?([A-Z])\)?(?![A-Za-z'])")
"""A letter that stands alone: the choice of an option."""
_LONGEST_BOX = 2000
"""Characters after which a box that was never closed ends."""
_MOST_MARKERS = 100
"""Markers that are looked behind, from the end of a text."""

_ASKED_AT_ONCE = 64
"""Texts whose nearest ones are found in one product."""

_QUOTES = " \t\r\n,;:!*_`'\"$"


def find_answer(text: str) -> AnswerText | None:
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
        numbers = numbers_in(line)
        if numbers:
            return numbers[-1]
    return None


def states_answer(text: str) -> bool:
    """Return whether a text ends with an answer: its last line announces one with a marker."""
    return _MARKER.search(text.rstrip().rpartition("\n")[2]) is not None


def behind_marker(text: str) -> str:
    """Return all that stands behind the last marker of an answer; "" where there is none."""
    markers = list(_MARKER.finditer(text))
    return text[markers[-1].end() :] if markers else ""


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
    for index, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:index]
    return text


def _trim(text: str) -> str:
    # A point in front belongs to a number, one behind ends a sentence.
    return text.lstrip(_QUOTES).rstrip(_QUOTES + ".")


def word_f1(answer: str, gold: str) -> float:
    """Return the harmonic mean of precision and recall of an answer's words (as in SQuAD)."""
    given, expected = _words(answer), _words(gold)
    both = sum((given & expected).values())
    return 2 * both / (sum(given.values()) + sum(expected.values())) if both else 0.0


def nearest_by_words(known: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Return for each text the index of the known one that shares most words with it.

    Words count by their rarity (inverse document frequency), lengths by their square root. Of
    equals, and where no word is shared, the first is taken.
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    columns: dict[str, int] = {}
    of_known = [[columns.setdefault(w, len(columns)) for w in _words(text)] for text in known]
    of_asked = [[columns[w] for w in _words(text) if w in columns] for text in texts]

    def matrix(rows: list[list[int]]) -> csr_matrix:
        ends = np.cumsum([0, *map(len, rows)])
        places = np.array([index for row in rows for index in row], dtype=np.int64)
        return csr_matrix((np.ones(len(places)), places, ends), shape=(len(rows), len(columns)))

    has = matrix(of_known)
    rarity = 1 / np.maximum(np.asarray(has.sum(axis=0)).ravel(), 1)
    sizes = np.sqrt([max(1, len(row)) for row in of_known])
    weighed = has.multiply(rarity[None, :]).multiply(1 / sizes[:, None]).T.tocsr()
    nearest: list[int] = []
    for start in range(0, len(texts), _ASKED_AT_ONCE):
        scores = matrix(of_asked[start : start + _ASKED_AT_ONCE]) @ weighed
        nearest += scores.toarray().argmax(axis=1).tolist()
    return nearest


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", normalised(text)))
