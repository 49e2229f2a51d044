"""Which answers may be handed to a verifier that evaluates them, and which it takes too easily.

Some verifiers of reasoning-gym call `eval` on an answer, or SymPy's `parse_expr`, which does. What
a model writes is never executed: an expression is parsed here first, and has to be made of numbers,
letters, known functions and small powers; where an answer would be evaluated as a list, only the
right text counts.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

LISTS = frozenset(("binary_matrix", "spiral_matrix", "string_insertion"))
"""Generators whose verifier evaluates an answer as a list, for which it gives no full points."""
BOARDS = frozenset(("n_queens",))
"""Generators whose verifier knows all right boards, and evaluates what is none."""
EXPRESSIONS = frozenset(
    ("countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24",
     "simple_integration")
)  # fmt: skip
"""Generators whose verifier evaluates an answer as an expression."""
INTEGRALS = frozenset(("intermediate_integration", "simple_integration"))
"""Generators whose verifier differentiates an answer."""
LONGEST = 1000
"""Characters of an answer to these."""
_MOST_NODES = 200
_MOST_DIGITS = 60.0
"""Of any number that an expression comes to."""
_MOST_DEGREE = 64.0
_MOST_POWER_DIGITS = 4.0
_BOARD = re.compile(r"[Q_\s]*")
_FUNCTIONS = frozenset(
    ("exp", "log", "ln", "sqrt", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan",
     "sinh", "cosh", "tanh", "Abs")
)  # fmt: skip
_NAMES = frozenset(("pi",))
_LETTER = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_CONSTANTS = frozenset("CcKk")
"""Letters that stand for the constant of an integral."""
_TARGET = 24


def is_harmless(name: str, answer: str) -> bool:
    """Return whether an answer may be handed to the verifier of a generator."""
    if name in LISTS:
        return False
    if name in BOARDS:
        return _BOARD.fullmatch(answer) is not None
    if name not in EXPRESSIONS:
        return True
    tree = _parsed(answer)
    if tree is None or sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
        return False
    try:
        _size(tree.body)
    except (ValueError, OverflowError, RecursionError):
        return False
    return True


def is_really_right(name: str, answer: str, entry: Mapping[str, Any]) -> bool:
    """Return whether an answer is right that a lenient verifier takes.

    That of puzzle24 does not ask for the numbers of its question, and cuts fractions off; that of
    number_sorting takes numbers that are off by one. Those of integrals take any letter that is not
    the question's own for a constant.
    """
    if name in INTEGRALS:
        known = {*_LETTER.findall(str(entry["answer"]))} | _CONSTANTS
        return known.issuperset(_LETTER.findall(answer))
    if name == "puzzle24":
        used = sorted(int(one) for one in re.findall(r"\d+", answer))
        tree = _parsed(answer)
        is_used_up = used == sorted(entry["metadata"]["numbers"])
        return is_used_up and tree is not None and _value(tree.body) == _TARGET
    if name == "number_sorting":
        ours, gold = (_numbers(text) for text in (answer, str(entry["answer"])))
        return ours is not None and ours == gold
    return True


def _parsed(answer: str) -> ast.Expression | None:
    if len(answer) > LONGEST:
        return None
    try:
        return ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _size(node: ast.expr) -> tuple[float, float]:
    """Return how many digits an expression's numbers have at most, and its degree.

    Raises:
        ValueError: it is more than a sum, or too large.
    """
    digits, degree = _sizes(node)
    if digits > _MOST_DIGITS or degree > _MOST_DEGREE:
        raise ValueError("too large")
    return digits, degree


def _sizes(node: ast.expr) -> tuple[float, float]:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return math.log10(abs(node.value) + 1), 0.0
    if isinstance(node, ast.Name) and (len(node.id) == 1 or node.id in _NAMES):
        return 1.0, 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        return _size(node.operand)
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        if not is_known or node.keywords or len(node.args) != 1:
            raise ValueError("an unknown call")
        digits, degree = _size(node.args[0])
        return digits, max(1.0, degree)
    if isinstance(node, ast.BinOp):
        (left, left_degree), (right, right_degree) = _size(node.left), _size(node.right)
        if isinstance(node.op, ast.Add | ast.Sub):
            return max(left, right) + 1, max(left_degree, right_degree)
        if isinstance(node.op, ast.Mult | ast.Div):
            return left + right, left_degree + right_degree
        if isinstance(node.op, ast.Pow):
            power = _value(node.right)
            if power is None:
                if right > _MOST_POWER_DIGITS or not _is_product(node.right):
                    raise ValueError("a power that may come to any number")
                return left + right, left_degree + right_degree + 1  # of letters: it stays so
            return left * abs(float(power)), left_degree * max(1.0, abs(float(power)))
    raise ValueError("more than a sum")


def _is_product(node: ast.expr) -> bool:
    """Return whether an expression multiplies letters and numbers, and does nothing else."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        return _is_product(node.left) and _is_product(node.right)
    if isinstance(node, ast.UnaryOp):
        return _is_product(node.operand)
    return isinstance(node, ast.Name | ast.Constant)


def _value(node: ast.expr) -> Fraction | None:
    """Return what an expression of numbers comes to; None where it has others, or no value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        inner = _value(node.operand)
        return inner if inner is None or isinstance(node.op, ast.UAdd) else -inner
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    if isinstance(node.op, ast.Div):
        return left / right if right else None
    is_small = isinstance(node.op, ast.Pow) and right.denominator == 1 and abs(right) <= 12
    return left ** int(right) if is_small and (left or right >= 0) else None


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(one) for one in json.loads(text.replace("'", '"'))]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
