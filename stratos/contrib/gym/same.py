"""Whether an answer that a verifier takes says what the right one says, and nothing beside it.

Many verifiers of reasoning-gym look for the right answer in a text and do not read the rest, or
take what is no answer at all: NaN is near every complex number, and every text is true. A question
with one right answer has it in one set of words and numbers. So an answer has to have the same
ones, in whatever order, spacing and punctuation its verifier takes. Questions with several right
answers are left to their verifiers; those that ignore what they cannot read get a form beside.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

SEVERAL = frozenset(
    ("boxnet", "countdown", "cryptarithm", "graph_color", "intermediate_integration", "jugs",
     "kakurasu", "n_queens", "palindrome_generation", "polynomial_multiplication",
     "propositional_logic", "puzzle24", "quantum_lock", "rubiks_cube", "rush_hour",
     "shortest_path", "simple_integration", "sokoban", "tower_of_hanoi", "word_ladder")
)  # fmt: skip
"""Generators whose questions have several right answers, or one in many forms."""
_MOVE = r'"\s*(?:(?:fill|empty)\s+[A-Z]|pour\s+[A-Z]->[A-Z])\s*"'
_FORMS = {
    "jugs": rf"\[\s*{_MOVE}(?:\s*,\s*{_MOVE})*\s*\]",
    "kakurasu": r"[01\s]+",
    "quantum_lock": r"[ABC](?:\s*(?:→|->|,|\s)\s*[ABC])*",
    "rubiks_cube": r"[FBUDLRMESXYZw'2\d\s]+",
    "rush_hour": r"\[?\s*[A-Z][+-]\d+(?:[,;\s]+[A-Z][+-]\d+)*\s*\]?",
    "sokoban": r"[UDLR\s]+",
    "tower_of_hanoi": r"(?:Move disk \d+ from Peg \d+ to Peg \d+\.?\s*)+",
}
"""What an answer looks like of which the verifier reads no more than the parts that it knows."""
_TOKEN = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+(?![^\W_]))?|[^\W\d_]+")
_LATEX = re.compile(r"\\[a-z]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"([+-]?\d+\.?\d*(?:e[+-]?\d+)?)(?:\s*/\s*(\d+))?|([+-]?0[xbo][0-9a-f]+)")
_HUGE = re.compile(r"\d[eE][+-]?\d{4,}")
_NEAR = 1e-9
"""Part of a number by which another one is the same, where the verifier takes both."""
_ROUNDED = {"advanced_geometry": 1e-3, "power_function": 5e-3}
"""The same where the question asks for a rounded number."""


def is_huge(answer: str) -> bool:
    """Return whether an answer has a number whose digits alone would fill the memory."""
    return _HUGE.search(answer) is not None


def says_the_same(name: str, answer: str, gold: str) -> bool:
    """Return whether an answer that the verifier of a generator takes may count as right."""
    if name in SEVERAL:
        form = _FORMS.get(name)
        return form is None or re.fullmatch(form, answer.strip(), re.IGNORECASE) is not None
    near = _ROUNDED.get(name, _NEAR)
    values = _value(answer), _value(gold)
    if values[0] is not None and values[1] is not None:
        return _is_near(values[0], values[1], near)
    if "".join(answer.split()).casefold() == "".join(gold.split()).casefold():
        return True
    for without in (False, True):  # commas between thousands
        ours, right = _tokens(answer, without), _tokens(gold, without)
        numbers = [one for one in right if isinstance(one, float)]
        if _are_same(ours, right, near) or (numbers and _are_same(ours, numbers, near)):
            return True
    return False


def _tokens(text: str, without_thousands: bool) -> list[str | float]:
    text = _LATEX.sub(" ", text.casefold())
    if without_thousands:
        text = _THOUSANDS.sub("", text)
    found = _TOKEN.findall(text)
    return [one if (number := _value(one)) is None else number for one in found]


def _are_same(ours: Sequence[str | float], gold: Sequence[str | float], near: float) -> bool:
    """Compare words and numbers, in any order."""
    if len(ours) != len(gold):
        return False
    words = [Counter(one for one in some if isinstance(one, str)) for some in (ours, gold)]
    left, right = (sorted(one for one in some if isinstance(one, float)) for some in (ours, gold))
    return words[0] == words[1] and all(map(_is_near, left, right, [near] * len(left)))


def _is_near(one: float, gold: float, near: float) -> bool:
    return math.isclose(one, gold, rel_tol=near, abs_tol=0.0)


def _value(text: str) -> float | None:
    """Return the number that a text is, a fraction or a number in base 2, 8 or 16 too."""
    text = text.strip().casefold()
    found = _NUMBER.fullmatch(_THOUSANDS.sub("", text))
    if found is None:
        return None
    try:
        if found[3]:
            return float(int(found[3], 0))
        return float(found[1]) / (float(found[2]) if found[2] else 1.0)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
