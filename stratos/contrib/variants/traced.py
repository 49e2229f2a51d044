"""Trace each number of a solution to where it comes from: the question, a sum, or a word.

The numbers of the question are unknowns: equal ones are one unknown, so that they stay equal
whatever each of them means. Every number of the solution is a function of them. Where it may be
one of several that other numbers would tell apart, the unknowns of all of them keep their values.

A number of a solution that the question does not give has to be one of these. Where the question
gives the same number, nothing tells which of them is meant, and neither is exchanged.

`stratos.tasks.math` checks whether sums come out; here they are taken apart, words in them
included, so that they can be worked out again with other numbers. What is taken for a sum is one
whose value is the result that is written: words between its numbers are passed over.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from operator import add, mul, sub, truediv

from stratos.contrib.data_files import table
from stratos.contrib.variants.number_tokens import (
    Kind,
    Token,
    UnreadableError,
    has_commas,
    kind_of,
    large_in_words,
    tokens_of,
)
from stratos.contrib.variants.words import NoVariant

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
_APPLY = {"+": add, "-": sub, "*": mul, "/": truediv}
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
            right, left = stack.pop(), stack.pop()
            if piece == "/" and not right:
                return None
            stack.append(_APPLY[piece](left, right))
    return stack[0]


_OF_WORD: dict[str, frozenset[Fraction]] = {}
"""What each word may stand for."""
_IMPLIED = table(__file__, "implied.toml")
for _words, _numbers in _IMPLIED.items():
    for _word in _words.split():
        _OF_WORD[_word] = _OF_WORD.get(_word, frozenset()) | set(map(Fraction, _numbers))
_OF_SIGN = {"%": Fraction(100), "$": Fraction(100), "¢": Fraction(100)}
_LETTERS = re.compile(r"[a-z]+")
_FRACTION = re.compile(r"(?<![\d/.])(\d+)/(\d+)(?![\d/])")


def constants_of(text: str) -> set[Fraction]:
    """Return the numbers that the words and signs of a text may stand for."""
    found = {Fraction(1)}
    for word in set(_LETTERS.findall(text.lower())):
        found |= _OF_WORD.get(word, frozenset()) | _OF_WORD.get(word.removesuffix("s"), frozenset())
    return found | {number for sign, number in _OF_SIGN.items() if sign in text}


def fractions_of(text: str) -> list[tuple[range, set[Fraction]]]:
    """Return where the fractions of a text stand, such as 3/4, and what is meant by each."""
    found = []
    for match in _FRACTION.finditer(text):
        top, bottom = Fraction(match[1]), Fraction(match[2])
        if bottom:
            share = top / bottom
            means = {top, bottom, share, 1 - share, bottom - top}
            found.append((range(*match.span()), means))
    return found


Node = Postfix | Fraction
"""A sum of earlier nodes, or a number: that of an unknown, or a constant."""
_COMPARED = re.compile(
    r"\b(?:cheap\w*|better|whichever|minimum|maximum|(?:the|at) most|least|lowest|highest|largest|"
    r"smallest|biggest|greatest|fewest|closest|nearest|farthest|longest|shortest|tallest|heaviest|"
    r"lightest|oldest|youngest|fastest|slowest|triangles?)\b|[<>≤≥]",
    re.IGNORECASE,
)
"""The way to the answer may hang on which of two numbers is larger, so that others lead elsewhere.
Of a triangle, each side is shorter than the two others."""
_HUNDRED = Fraction(100)
"""A constant that no number of the solution is taken for, as it is not known (`_Tracer._know`)."""
_N_PROBES = 4
"""Draws by which functions are told apart."""


class UntraceableError(Exception):
    """A problem cannot be worked out again with other numbers."""

    def __init__(self, reason: NoVariant) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Traced:
    """A problem whose numbers are known as functions of those that its question gives."""

    question: str
    solution: str
    asked: tuple[tuple[Token, int], ...]
    """Numbers of the question, with the node that each is."""
    worked: tuple[tuple[Token, int], ...]
    """Numbers of the solution, likewise."""
    answer: tuple[Token, int]
    nodes: tuple[Node, ...]
    """The unknowns, then what is made of them."""
    kinds: tuple[Kind, ...]
    """What each unknown may become."""
    equalities: tuple[tuple[int, int], ...]
    """Nodes that the solution says are equal."""
    with_commas: bool

    @property
    def free(self) -> tuple[int, ...]:
        """Unknowns that may be exchanged."""
        return tuple(k for k, kind in enumerate(self.kinds) if not kind.is_fixed)

    def worked_out(self, unknowns: Sequence[Fraction]) -> list[Fraction] | None:
        """Return every node for other unknowns; None where something is divided by nothing."""
        return _worked_out(self.nodes, unknowns)


def traced(question: str, solution: str, answer: str) -> Traced:
    """Trace a problem.

    Raises:
        UntraceableError: a number of it is from nowhere, or nothing can be exchanged.
    """
    if _COMPARED.search(question) or _COMPARED.search(solution):
        raise UntraceableError(NoVariant.COMPARED)
    in_fractions = [place for place, _ in fractions_of(question)]
    try:
        asked = [
            token
            for token in tokens_of(question)
            if not any(token.start in place for place in in_fractions)
        ]
        worked, gold = tokens_of(solution), tokens_of(answer)
    except UnreadableError as error:
        raise UntraceableError(error.reason) from error
    if len(gold) != 1:
        raise UntraceableError(NoVariant.NO_NUMBER)
    tracer = _Tracer(question, solution, asked, worked)
    equalities = tracer.trace()
    at_answer = tracer.node_of_answer(gold[0])
    kinds = _kinds(tracer, question, at_answer)
    if all(kind.is_fixed for kind in kinds):
        raise UntraceableError(NoVariant.ALL_FIXED)
    return Traced(
        question,
        solution,
        tuple((token, tracer.unknowns.index(token.value)) for token in asked),
        tuple((token, tracer.node_of[k]) for k, token in enumerate(worked)),
        (gold[0], at_answer),
        tuple(tracer.nodes),
        kinds,
        tuple(equalities),
        has_commas([*asked, *worked]),
    )


def _kinds(tracer: _Tracer, question: str, at_answer: int) -> tuple[Kind, ...]:
    """Return what each unknown may become.

    Raises:
        UntraceableError: the solution passes one over, on which the answer may depend all the same.
    """
    used = tracer.ancestors(tracer.node_of.values())
    leads = tracer.ancestors([at_answer])
    kept = tracer.ambiguous_unknowns()
    # How many numbers are added is a count that the text spells out, one number after the other.
    counts = {Fraction(node.count("+") + 1) for node in tracer.nodes if isinstance(node, tuple)}
    kinds = []
    for place, value in enumerate(tracer.unknowns):
        if place not in used and value != 1:
            raise UntraceableError(NoVariant.UNUSED)
        written = [token for token in tracer.asked if token.value == value]
        written_again = [tracer.worked[k] for k, node in tracer.node_of.items() if node == place]
        is_fixed = place in kept or place not in leads or value in counts
        kinds.append(kind_of(value, written, written_again, question, is_fixed=is_fixed))
    return tuple(kinds)


def _worked_out(nodes: Sequence[Node], unknowns: Sequence[Fraction]) -> list[Fraction] | None:
    values = list(unknowns)
    for node in nodes[len(unknowns) :]:
        value = node if isinstance(node, Fraction) else evaluate(node, values)
        if value is None:
            return None
        values.append(value)
    return values


@dataclass
class _Tracer:
    question: str
    solution: str
    asked: Sequence[Token]
    worked: Sequence[Token]
    nodes: list[Node] = field(default_factory=list)
    values: list[Fraction] = field(default_factory=list)
    """Of the nodes, as the problem stands."""
    node_of: dict[int, int] = field(default_factory=dict)
    """Of each number of the solution, by its place among them."""
    last_result: int | None = None
    unknowns: list[Fraction] = field(init=False)
    """The different numbers of the question, which are the first nodes."""
    _known: dict[Fraction, list[int]] = field(default_factory=dict)
    """The nodes that a number may be."""
    _choices: set[tuple[int, ...]] = field(default_factory=set)
    """Several nodes, one of which a number is."""

    def __post_init__(self) -> None:
        self.unknowns = list(dict.fromkeys(token.value for token in self.asked))

    def trace(self) -> list[tuple[int, int]]:
        """Find the node of each number of the solution; return nodes that are equal.

        Raises:
            UntraceableError: a number has none.
        """
        self._give()
        equalities = []
        for one in equations_of(self.solution, self.worked):
            left = self._sum(one.left)
            if isinstance(one, Equality):
                equalities.append((left, self._sum(one.right)))
                continue
            token = self.worked[one.result]
            result = left if one.scale == 1 else self._add((left, self._add(_HUNDRED), "*"))
            self._know(result)
            if token.is_percent:
                self._know_percent(result)
            self.node_of[one.result] = self.last_result = result
        if self.last_result is None:
            raise UntraceableError(NoVariant.NO_SUM)
        for k, token in enumerate(self.worked):
            if k not in self.node_of:
                self.node_of[k] = self._mention(token)
        return equalities

    def node_of_answer(self, gold: Token) -> int:
        """Return the last result where it is the answer, else what else is."""
        last = self.last_result
        return last if last is not None and self.values[last] == gold.value else self._mention(gold)

    def ancestors(self, nodes: Iterable[int]) -> set[int]:
        """Return the unknowns that nodes depend on."""
        seen: set[int] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                parts = self.nodes[node]
                if not isinstance(parts, Fraction):
                    waiting += [piece for piece in parts if isinstance(piece, int)]
        return {node for node in seen if node < len(self.unknowns)}

    def ambiguous_unknowns(self) -> set[int]:
        """Return the unknowns of numbers that may be several things, which then stay the same.

        Two functions that agree at a few random places are taken for one.
        """
        kept: set[int] = set()
        rng = random.Random(0)
        for _ in range(_N_PROBES):
            probe = [
                value if place in kept else value * rng.randint(2, 97) + rng.randint(1, 97)
                for place, value in enumerate(self.unknowns)
            ]
            found = _worked_out(self.nodes, probe)
            for choice in self._choices:
                if found is None or len({found[place] for place in choice}) > 1:
                    kept |= self.ancestors(choice)
        return kept

    # --- nodes -----------------------------------------------------------------------------------

    def _add(self, node: Node) -> int:
        value = node if isinstance(node, Fraction) else evaluate(node, self.values)
        if value is None:
            raise UntraceableError(NoVariant.DIVISION)
        self.nodes.append(node)
        self.values.append(value)
        return len(self.nodes) - 1

    def _know(self, node: int) -> None:
        known = self._known.setdefault(self.values[node], [])
        known += [node] if node not in known else []

    def _give(self) -> None:
        """Add what is known before the first sum: numbers of the question, and constants."""
        for value in self.unknowns:
            self._know(self._add(value))
        text = f"{self.question}\n{self.solution}"
        constants = constants_of(text) | large_in_words(text)
        for _, means in fractions_of(self.question):
            constants |= means
        in_words = {token.value for token in self.asked if token.is_word}
        constants |= {token.value for token in self.worked if token.is_word} - in_words
        for value in sorted(constants):
            self._know(self._add(value))
        for token in self.asked:
            if token.is_percent:
                self._know_percent(self.unknowns.index(token.value))
            if token.is_cents:
                place = self.unknowns.index(token.value)
                self._know(self._add((place, self._add(_HUNDRED), "/")))

    def _know_percent(self, place: int) -> None:
        """Add what sums have for 20%: 0.2, 0.8, 1.2, 80 and 120."""
        hundred, one = self._add(_HUNDRED), self._add(Fraction(1))
        share = self._add((place, hundred, "/"))
        self._know(share)
        for part in ((one, share, "-"), (one, share, "+"), (hundred, place, "-")):
            self._know(self._add(part))
        self._know(self._add((hundred, place, "+")))

    def _mention(self, token: Token) -> int:
        """Return a node that a number may be; whether the others are the same is seen later."""
        known = self._known.get(token.value)
        if known is None:
            raise UntraceableError(NoVariant.FROM_NOWHERE)
        if len(known) > 1:
            self._choices.add(tuple(known))
        return known[0]

    def _sum(self, sum_: Postfix) -> int:
        parts: list[int | str] = []
        for piece in sum_:
            if isinstance(piece, int) and piece not in self.node_of:
                self.node_of[piece] = self._mention(self.worked[piece])
            parts.append(self.node_of[piece] if isinstance(piece, int) else piece)
        return self._add(tuple(parts))
