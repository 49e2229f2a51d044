"""Which answers may be handed to a verifier that evaluates them as Python.

Some verifiers of reasoning-gym call `eval` on an answer, or SymPy's `parse_expr`, which does. What
a model writes is never executed: an answer that is more than a list of words or a sum is wrong.
"""

from __future__ import annotations

import re

LISTS = frozenset(
    ("binary_matrix", "n_queens", "number_sorting", "spiral_matrix", "string_insertion")
)
"""Generators whose verifier evaluates an answer as a list."""
EXPRESSIONS = frozenset(
    ("countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24",
     "simple_integration")
)  # fmt: skip
"""Generators whose verifier evaluates an answer as an expression."""
LONGEST = 2000
"""Characters of an answer to these."""
_LIST = re.compile(r"[\w\s\[\],.'\"-]*")
_EXPRESSION = re.compile(r"[\w\s+\-*/^().,|]*")
_NAME = re.compile(r"[^\W\d]\w*")
_FUNCTIONS = frozenset(
    ("exp", "log", "ln", "sqrt", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan",
     "sinh", "cosh", "tanh", "pi", "Abs")
)  # fmt: skip
_ATTRIBUTE = re.compile(r"[^\W\d]\w*\s*\.|\)\s*\.|\.\s*[^\W\d]")
_TOWER = re.compile(r"\*\*[^+\-]*\*\*|\^[^+\-]*\^|(?:\*\*|\^)\s*\(?\s*-?\s*\d{4}|\d{40}")
"""A power that fills the memory, or a number that does."""


def is_harmless(name: str, answer: str) -> bool:
    """Return whether an answer may be handed to the verifier of a generator."""
    if name in LISTS:
        return len(answer) <= LONGEST and _LIST.fullmatch(answer) is not None and "__" not in answer
    if name not in EXPRESSIONS:
        return True
    if len(answer) > LONGEST or "__" in answer or _EXPRESSION.fullmatch(answer) is None:
        return False
    words = _NAME.findall(answer)
    is_known = all(len(word) == 1 or word in _FUNCTIONS for word in words)
    return is_known and not _ATTRIBUTE.search(answer) and not _TOWER.search(answer)
