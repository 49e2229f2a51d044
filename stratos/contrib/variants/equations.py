"""The sums of a solution with the numbers they are made of: `2 boxes * 3 apples = 6 apples`.

`stratos.tasks.math` checks whether sums come out; here they are taken apart, words in them
included, so that they can be worked out again with other numbers. What is taken for a sum is one
whose value is the result that is written: words between its numbers are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from stratos.contrib.variants.number_tokens import Token

Piece = int | str
"""A number, as its place among the tokens, or an operator or a bracket."""
Postfix = tuple[Piece, ...]
"""A sum in postfix order; `%` behind a number divides it by 100."""

_OPERATOR = re.compile(
    r"(?P<times>[*×·]|(?<=[\d)%\s])[xX](?=\s*[$€£]?[\d(.]))|(?P<over>÷|/(?![A-Za-z]))|(?P<plus>\+)"
    r"|(?P<minus>(?<![A-Za-z])[-−–—](?![A-Za-z]))"
    r"|(?P<word>\btimes\b|\bmultiplied by\b|\bof\b|\bdivided by\b|\bplus\b|\bminus\b)"
    r"|(?P<open>\((?=[^)]*\d))|(?P<close>\))|(?P<equals>(?<![<>!≤≥])=)"
)
_IN_WORDS = {
    "times": "*", "multiplied by": "*", "of": "*", "divided by": "/", "plus": "+", "minus": "-",
}  # fmt: skip
_SIGNS = {
    "times": "*", "over": "/", "plus": "+", "minus": "-",
    "open": "(", "close": ")", "equals": "=",
}  # fmt: skip
_BEFORE_RESULT = re.compile(r"=\s*[$€£]?\Z")
_ORDER = {"+": 1, "-": 1, "*": 2, "/": 2}
_MOST_PIECES = 60


@dataclass(frozen=True, slots=True)
class Equation:
    """A sum with its result."""

    left: Postfix
    result: int
    """Place of the token that is the result."""
    scale: int
    """100 where the result is written as a percentage, else 1."""


@dataclass(frozen=True, slots=True)
class Equality:
    """Two sums that come to the same."""

    left: Postfix
    right: Postfix


def equations_of(text: str, tokens: Sequence[Token]) -> Iterator[Equation | Equality]:
    """Yield the sums of a solution in the order of their equals signs."""
    start = 0
    for line in text.split("\n"):
        end = start + len(line)
        here = [k for k, token in enumerate(tokens) if start <= token.start < end]
        yield from _of_line(text[start:end], start, tokens, here)
        start = end + 1


def _of_line(
    line: str, offset: int, tokens: Sequence[Token], here: Sequence[int]
) -> Iterator[Equation | Equality]:
    sides = _sides(line, offset, tokens, here)
    values = [token.value for token in tokens]
    for place, (side, after) in enumerate(pairwise(sides)):
        if not after or not isinstance(first := after[0], int):
            continue
        if not _BEFORE_RESULT.search(line[: tokens[first].start - offset]):
            continue
        goes_on = len(after) > 1 and after[1] in _ORDER
        if goes_on and place + 2 < len(sides):
            equal = next(_equalities(side, after, values), None)
            if equal is not None:
                yield equal
                continue
        elif goes_on:
            continue
        for left in _sums(side):
            scale = _scale_of(left, tokens[first], values)
            if scale:
                yield Equation(left, first, scale)
                break


def _sides(
    line: str, offset: int, tokens: Sequence[Token], here: Sequence[int]
) -> list[list[Piece]]:
    """Return the pieces of a line, divided at its equals signs."""
    pieces: list[tuple[int, Piece]] = [(tokens[k].start - offset, k) for k in here]
    for k in here:
        if tokens[k].is_percent:
            pieces.append((tokens[k].end - offset, "%"))
    for found in _OPERATOR.finditer(line):
        pieces.append((found.start(), _SIGNS.get(str(found.lastgroup), found[0])))
    sides: list[list[Piece]] = [[]]
    for _, piece in sorted(pieces, key=lambda one: one[0]):
        if piece == "=":
            sides.append([])
        else:
            sides[-1].append(piece)
    return sides


def _equalities(
    left: Sequence[Piece], right: Sequence[Piece], values: Sequence[Fraction]
) -> Iterator[Equality]:
    """Yield the ways in which two sides are equal sums, the second of them as a whole."""
    for second in _readings(right):
        value = evaluate(second, values)
        for first in _sums(left):
            if value is not None and evaluate(first, values) == value:
                yield Equality(first, second)


def _sums(side: Sequence[Piece]) -> Iterator[Postfix]:
    """Yield the sums that a side may end in, the longest first."""
    side = side[-_MOST_PIECES:]
    for start in range(len(side)):
        yield from _readings(side[start:])


def _readings(pieces: Sequence[Piece]) -> Iterator[Postfix]:
    """Yield what pieces may mean that begin with a number and have an operator.

    Operators in words may be none (`3 times a week * 4`), and percents may be counted.
    """
    if not pieces or not (isinstance(pieces[0], int) or pieces[0] == "("):
        return
    for words in (_IN_WORDS, dict.fromkeys(_IN_WORDS, "")):
        signs = [words.get(one, one) if isinstance(one, str) else one for one in pieces]
        for left_out in (("",), ("", "%")):
            found = postfix([one for one in signs if one not in left_out])
            if found is not None and any(piece in _ORDER for piece in found):
                yield found


def _scale_of(left: Postfix, result: Token, values: Sequence[Fraction]) -> int:
    """Return how often the value of a sum is what is written as its result; 0 for not."""
    value = evaluate(left, values)
    if value is None:
        return 0
    if value == result.value:
        return 1
    return 100 if result.is_percent and 100 * value == result.value else 0


def postfix(pieces: Sequence[Piece]) -> Postfix | None:
    """Return pieces in postfix order (Dijkstra's shunting yard); None where they are no sum."""
    out: list[Piece] = []
    waiting: list[str] = []
    wants_number = True
    for piece in pieces:
        if isinstance(piece, int):
            if not wants_number:
                return None
            out.append(piece)
            wants_number = False
        elif piece == "(":
            if not wants_number:
                return None
            waiting.append(piece)
        elif wants_number:
            return None
        elif piece == "%":
            out.append(piece)
        elif piece == ")":
            while waiting and waiting[-1] != "(":
                out.append(waiting.pop())
            if not waiting:
                return None
            waiting.pop()
        else:
            while waiting and waiting[-1] != "(" and _ORDER[waiting[-1]] >= _ORDER[piece]:
                out.append(waiting.pop())
            waiting.append(piece)
            wants_number = True
    if wants_number or "(" in waiting:
        return None
    return (*out, *reversed(waiting))


def evaluate(sum_: Postfix, values: Sequence[Fraction]) -> Fraction | None:
    """Return what a sum comes to; None where it divides by nothing."""
    stack: list[Fraction] = []
    for piece in sum_:
        if isinstance(piece, int):
            stack.append(values[piece])
        elif piece == "%":
            stack[-1] /= 100
        else:
            right = stack.pop()
            left = stack.pop()
            if piece == "+":
                left += right
            elif piece == "-":
                left -= right
            elif piece == "*":
                left *= right
            elif right:
                left /= right
            else:
                return None
            stack.append(left)
    return stack[0]
