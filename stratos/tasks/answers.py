"""Parse the answer from a text, or the object from JSON, and compare two answers.

Two objects are equal whatever the order of their keys and the spacing between them. Inside a list
the order counts.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.numbers import numbers_in, stated_number

_FENCE = "```"
_DECODER = json.JSONDecoder()
_NEAR = 1e-14
"""Relative difference of numbers that are not whole and are the same: some steps of rounding."""

Path = tuple[str, ...]


def object_of(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is, apart from a code fence around it; None if it is none.

    What stands before the object does not count, what stands behind it does.
    """
    text = text.rstrip().removesuffix(_FENCE).rstrip()
    start = text.find("{")
    if start < 0 or not text.endswith("}"):
        return None
    value, end = _decoded(text, start)
    return value if end == len(text) else None


def object_at_start(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text begins with, apart from a code fence; None if it does not.

    What stands behind the object does not count.
    """
    text = text.lstrip(" \t\r\n*`").removeprefix("json").lstrip()
    return _decoded(text, 0)[0] if text.startswith("{") else None


def written(value: Mapping[str, Any]) -> str:
    """Return an object as the text that a student learns to write."""
    return plain_json(value)


def plain_json(value: Any) -> str:
    """Return a value as one line of JSON, without the one character that grammars want escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def fields_of(value: Mapping[str, Any], outer: Path = ()) -> dict[Path, Any]:
    """Return path to value of every field: the names of the objects that it is in, then its own."""
    fields: dict[Path, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            fields |= fields_of(inner, (*outer, name))
        else:
            fields[*outer, name] = inner
    return fields


def nested(fields: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the object whose `fields_of` are given."""
    made: dict[str, Any] = {}
    for (*outer, last), value in fields.items():
        inner = made
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return made


def same(first: Any, second: Any) -> bool:
    """Return whether two JSON values are equal; in texts, case and spacing do not count."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, str) and isinstance(second, str):
        return normalised(first) == normalised(second)
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return bool(first == second)


def same_number(first: float, second: float) -> bool:
    """Return whether two numbers are equal: whole ones exactly, others up to rounding.

    What is not finite equals nothing.
    """
    if not (is_finite(first) and is_finite(second)):
        return False
    if first == second or (_is_whole(first) and _is_whole(second)):
        return first == second
    try:
        return math.isclose(first, second, rel_tol=_NEAR)
    except OverflowError:  # a whole number beyond the largest float, and one that is not whole
        return False


def is_finite(value: Any) -> bool:
    """Return whether each number of a JSON value is one: not infinite, as 1e999 is, and not NaN."""
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, float) and not math.isfinite(current):
            return False
        pending += (
            current.values()
            if isinstance(current, Mapping)
            else current
            if isinstance(current, list)
            else ()
        )
    return True


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()


def pairs_all(fits: Sequence[Sequence[bool]]) -> bool:
    """Return whether each row can have a column of its own that fits it."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not all(map(any, fits)):
        return False
    if len(fits) < 2:
        return True
    pairs = maximum_bipartite_matching(csr_matrix(np.array(fits, bool)), perm_type="column")
    return bool((pairs >= 0).all())


def form_of(value: Any) -> Any:
    """Return what two JSON values have in common exactly where they are the `same`."""
    if isinstance(value, Mapping):
        return {key: form_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [form_of(inner) for inner in value]
    if isinstance(value, str):
        return normalised(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_key(value: Any) -> str:
    """Return a JSON value as a text that differs where values are not the `same`."""
    return json.dumps(form_of(value), sort_keys=True)


def _decoded(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    try:
        decoded, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start
    return (decoded, end) if isinstance(decoded, dict) else (None, end)


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
