"""Trace each number of a solution to where it comes from: the question, a sum, or a word.

The numbers of the question are unknowns: equal ones are one unknown, so that they stay equal
whatever each of them means. Every number of the solution is a function of them. Where it may be
one of several that other numbers would tell apart, the unknowns of all of them keep their values.

A number of a solution that the question does not give has to be one of these. Where the question
gives the same number, nothing tells which of them is meant, and neither is exchanged.

`stratos.tasks.numbers` checks whether sums come out; here they are taken apart, words in them
included, so that they can be worked out again with other numbers. What is taken for a sum is one
whose value is the result that is written: words between its numbers are passed over.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from types import CodeType

from stratos.contrib.variants.number_tokens import (
    Kind,
    NoVariant,
    Token,
    UntraceableError,
    has_commas,
    kind_of,
    numbers_in_words,
    tokens_of,
)
from stratos.core.extensions import table

Formula = str
"""A sum of numbers `v[0]`, `v[1]` and so on, in Python. It is made of these, of + - * / and
brackets, and of nothing that a text says."""

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
_NUMBER = re.compile(r"v\[(\d+)\]")
_MOST_PIECES = 60


@dataclass(frozen=True, slots=True)
class Equation:
    """A sum with its result."""

    formula: Formula
    """Of the tokens of the solution."""
    result: int
    """Number of the token that is the result."""
    scale: int
    """100 where the result is written as a percentage, else 1."""


def equations_of(text: str, tokens: Sequence[Token]) -> Iterator[Equation]:
    """Yield the sums of a solution in the order of their equals signs.

    Raises:
        UntraceableError: a sum is said to be equal to another sum.
    """
    start = 0
    for line in text.split("\n"):
        sides = _sides(line, start, tokens)
        for number, (side, after) in enumerate(pairwise(sides)):
            token = _token_of(after[0]) if after else None
            if token is None or not _BEFORE_RESULT.search(text[start : tokens[token].start]):
                continue
            if len(after) > 1 and after[1] in "+-*/":
                # Two equal sums: other numbers would make them differ, unless they are one sum.
                if number + 2 < len(sides) and next(_sums(side, tokens), None) is not None:
                    _check_equal(side, after, tokens)
                continue
            if (equation := _equation(side, token, tokens)) is not None:
                yield equation
        start += len(line) + 1


def _token_of(piece: str) -> int | None:
    match = _NUMBER.fullmatch(piece)
    return None if match is None else int(match[1])


def _equation(side: Sequence[str], token: int, tokens: Sequence[Token]) -> Equation | None:
    result = tokens[token]
    for formula, value in _sums(side, tokens):
        if value == result.value:
            return Equation(formula, token, 1)
        if result.is_percent and 100 * value == result.value:
            return Equation(formula, token, 100)
    return None


def _check_equal(side: Sequence[str], right: Sequence[str], tokens: Sequence[Token]) -> None:
    """Refuse two sums that come to the same and are not the same function of their numbers.

    Raises:
        UntraceableError: they differ for other numbers.
    """
    rights = [(formula, value) for formula, value in _readings(right, tokens)]
    same = {value for _, value in rights}
    pairs = [(a, b) for a, v in _sums(side, tokens) if v in same for b, w in rights if w == v]
    by_value = {token.value: k for k, token in enumerate(tokens)}
    first = [by_value[token.value] for token in tokens]
    rng = random.Random(0)
    drawn = [Fraction(rng.randint(2, 10**6)) for _ in tokens]
    # Equal numbers stay equal, and 100 is that of percent.
    values = [_HUNDRED if tokens[k].value == _HUNDRED else drawn[k] for k in first]
    if pairs and not any(evaluate(a, values) == evaluate(b, values) for a, b in pairs):
        raise UntraceableError(NoVariant.CHAINED)


def _sides(line: str, offset: int, tokens: Sequence[Token]) -> list[list[str]]:
    """Return the pieces of a line, numbers and signs, divided at its equals signs."""
    pieces: list[tuple[int, str]] = []
    for number, token in enumerate(tokens):
        if offset <= token.start < offset + len(line):
            pieces.append((token.start - offset, f"v[{number}]"))
            pieces += [(token.end - offset, "%")] if token.is_percent else []
    for match in _OPERATOR.finditer(line):
        pieces.append((match.start(), _SIGNS.get(str(match.lastgroup), match[0])))
    sides: list[list[str]] = [[]]
    for _, piece in sorted(pieces):
        if piece == "=":
            sides.append([])
        else:
            sides[-1].append(piece)
    return sides


def _sums(side: Sequence[str], tokens: Sequence[Token]) -> Iterator[tuple[Formula, Fraction]]:
    """Yield the sums that a side may end in with what each comes to, the longest first."""
    side = side[-_MOST_PIECES:]
    for start in range(len(side)):
        yield from _readings(side[start:], tokens)


def _readings(pieces: Sequence[str], tokens: Sequence[Token]) -> Iterator[tuple[Formula, Fraction]]:
    """Yield what pieces may mean that begin with a number and have an operator.

    Operators in words may be none (`3 times a week * 4`), and percents may be counted.
    """
    if not pieces or (pieces[0] not in "(" and _token_of(pieces[0]) is None):
        return
    values = [token.value for token in tokens]
    for words in (_IN_WORDS, dict.fromkeys(_IN_WORDS, "")):
        for percent in ("/100", ""):
            # A number and its percent sign are one: 50 / 20% is 250.
            joined = [words.get(piece, piece) for piece in pieces]
            formula = re.sub(r"(v\[\d+\])%", rf"(\1{percent})", "".join(joined))
            if not re.search(r"[\])][-+*/]", formula) or re.search(r"[\])][v(]|%", formula):
                continue
            if (value := evaluate(formula, values)) is not None:
                yield formula, value


@lru_cache(maxsize=65_536)
def _compiled(formula: Formula) -> CodeType | None:
    try:
        return compile(formula, "<sum>", "eval")
    except SyntaxError:
        return None


def evaluate(formula: Formula, values: Sequence[Fraction]) -> Fraction | None:
    """Return what a formula comes to; None where it is none, or divides by nothing."""
    code = _compiled(formula)
    try:
        return None if code is None else eval(code, {"__builtins__": {}}, {"v": values})
    except ZeroDivisionError:
        return None


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
    numbers = {Fraction(1)} | numbers_in_words(text)
    for word in set(_LETTERS.findall(text.lower())):
        numbers |= _OF_WORD.get(word, frozenset()) | _OF_WORD.get(word.removesuffix("s"), set())
    return numbers | {number for sign, number in _OF_SIGN.items() if sign in text}


def fractions_of(text: str) -> list[tuple[range, set[Fraction]]]:
    """Return where the fractions of a text stand, such as 3/4, and what is meant by each."""
    fractions = []
    for match in _FRACTION.finditer(text):
        top, bottom = Fraction(match[1]), Fraction(match[2])
        if bottom:
            share = top / bottom
            means = {top, bottom, share, 1 - share, bottom - top}
            fractions.append((range(*match.span()), means))
    return fractions


Node = Formula | Fraction
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


@dataclass(frozen=True, slots=True)
class TracedProblem:
    """A problem whose numbers are known as functions of those that its question gives."""

    question: str
    solution: str
    given: tuple[tuple[Token, int], ...]
    """Numbers of the question, with the node that each is."""
    worked: tuple[tuple[Token, int], ...]
    """Numbers of the solution, likewise."""
    answer: tuple[Token, int]
    nodes: tuple[Node, ...]
    """The unknowns, then what is made of them."""
    kinds: tuple[Kind, ...]
    """What each unknown may become."""
    with_commas: bool

    @property
    def free(self) -> tuple[int, ...]:
        """Unknowns that may be exchanged."""
        return tuple(k for k, kind in enumerate(self.kinds) if not kind.is_fixed)

    def worked_out(self, unknowns: Sequence[Fraction]) -> list[Fraction] | None:
        """Return every node for other unknowns; None where something is divided by nothing."""
        return _worked_out(self.nodes, unknowns)


def trace(question: str, solution: str, answer: str) -> TracedProblem:
    """Trace a problem.

    Raises:
        UntraceableError: a number of it is from nowhere, or nothing can be exchanged.
    """
    if _COMPARED.search(question) or _COMPARED.search(solution):
        raise UntraceableError(NoVariant.COMPARED)
    spans = [span for span, _ in fractions_of(question)]
    given = [
        token for token in tokens_of(question) if not any(token.start in span for span in spans)
    ]
    worked, gold = tokens_of(solution), tokens_of(answer)
    if len(gold) != 1:
        raise UntraceableError(NoVariant.NO_NUMBER)
    tracer = _Tracer(question, solution, given, worked)
    tracer.trace()
    at_answer = tracer.node_of_answer(gold[0])
    kinds = tracer.kinds(at_answer)
    if all(kind.is_fixed for kind in kinds):
        raise UntraceableError(NoVariant.ALL_FIXED)
    return TracedProblem(
        question,
        solution,
        tuple((token, tracer.unknowns.index(token.value)) for token in given),
        tuple((token, tracer.node_of[k]) for k, token in enumerate(worked)),
        (gold[0], at_answer),
        tuple(tracer.nodes),
        kinds,
        has_commas([*given, *worked]),
    )


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
    given: Sequence[Token]
    worked: Sequence[Token]
    nodes: list[Node] = field(default_factory=list)
    values: list[Fraction] = field(default_factory=list)
    """Of the nodes, as the problem stands."""
    node_of: dict[int, int] = field(default_factory=dict)
    """Of each number of the solution, by its index."""
    last_result: int | None = None
    unknowns: list[Fraction] = field(init=False)
    """The different numbers of the question, which are the first nodes."""
    _known: dict[Fraction, list[int]] = field(default_factory=dict)
    """The nodes that a number may be."""
    _choices: set[tuple[int, ...]] = field(default_factory=set)
    """Several nodes, one of which a number is."""

    def __post_init__(self) -> None:
        self.unknowns = list(dict.fromkeys(token.value for token in self.given))

    def trace(self) -> None:
        """Find the node of each number of the solution.

        Raises:
            UntraceableError: a number has none.
        """
        self._give()
        for equation in equations_of(self.solution, self.worked):
            result = self._sum(equation.formula)
            if equation.scale != 1:
                result = self._add(f"v[{result}]*v[{self._add(_HUNDRED)}]")
            self._know(result)
            if self.worked[equation.result].is_percent:
                self._know_percent(result)
            self.node_of[equation.result] = self.last_result = result
        if self.last_result is None:
            raise UntraceableError(NoVariant.NO_SUM)
        for k, token in enumerate(self.worked):
            if k not in self.node_of:
                self.node_of[k] = self._mention(token)

    def node_of_answer(self, gold: Token) -> int:
        """Return the last result where it is the answer, else what else is."""
        last = self.last_result
        return last if last is not None and self.values[last] == gold.value else self._mention(gold)

    def kinds(self, at_answer: int) -> tuple[Kind, ...]:
        """Return what each unknown may become.

        Raises:
            UntraceableError: the solution passes one over, on which the answer may depend.
        """
        used = self.ancestors(self.node_of.values())
        leads = self.ancestors([at_answer])
        ambiguous = self.ambiguous_unknowns()
        # How many numbers are added is a count that the text spells out, one after the other.
        counts = {Fraction(node.count("+") + 1) for node in self.nodes if isinstance(node, str)}
        kinds = []
        for k, value in enumerate(self.unknowns):
            if k not in used and value != 1:
                raise UntraceableError(NoVariant.UNUSED)
            is_fixed = k in ambiguous or k not in leads or value in counts
            tokens = [token for token in self.given if token.value == value]
            kinds.append(Kind(value) if is_fixed else kind_of(value, tokens, self.question))
        return tuple(kinds)

    def ancestors(self, nodes: Iterable[int]) -> set[int]:
        """Return the unknowns that nodes depend on."""
        seen: set[int] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            formula = self.nodes[node]
            if node not in seen and isinstance(formula, str):
                waiting += map(int, _NUMBER.findall(formula))
            seen.add(node)
        return {node for node in seen if node < len(self.unknowns)}

    def ambiguous_unknowns(self) -> set[int]:
        """Return the unknowns of numbers that may be several things, which then stay the same.

        Two functions that agree at a few random points are taken for one.
        """
        fixed: set[int] = set()
        rng = random.Random(0)
        for _ in range(_N_PROBES):
            probe = [
                value if k in fixed else value * rng.randint(2, 97) + rng.randint(1, 97)
                for k, value in enumerate(self.unknowns)
            ]
            values = _worked_out(self.nodes, probe)
            for choice in self._choices:
                if values is None or len({values[node] for node in choice}) > 1:
                    fixed |= self.ancestors(choice)
        return fixed

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
        constants = constants_of(f"{self.question}\n{self.solution}")
        for _, means in fractions_of(self.question):
            constants |= means
        for value in sorted(constants):
            self._know(self._add(value))
        for token in self.given:
            unknown = self.unknowns.index(token.value)
            if token.is_percent:
                self._know_percent(unknown)
            if token.is_cents:
                self._know(self._add(f"v[{unknown}]/v[{self._add(_HUNDRED)}]"))

    def _know_percent(self, node: int) -> None:
        """Add what sums have for 20%: 0.2, 0.8, 1.2, 80 and 120."""
        hundred, whole = self._add(_HUNDRED), self._add(Fraction(1))
        share = self._add(f"v[{node}]/v[{hundred}]")
        self._know(share)
        for base, part in ((whole, share), (hundred, node)):
            self._know(self._add(f"v[{base}]-v[{part}]"))
            self._know(self._add(f"v[{base}]+v[{part}]"))

    def _mention(self, token: Token) -> int:
        """Return a node that a number may be; whether the others are the same is seen later."""
        known = self._known.get(token.value)
        if known is None:
            raise UntraceableError(NoVariant.FROM_NOWHERE)
        if len(known) > 1:
            self._choices.add(tuple(known))
        return known[0]

    def _sum(self, formula: Formula) -> int:
        """Add a sum of tokens as a sum of the nodes that they are."""

        def node(match: re.Match[str]) -> str:
            token = int(match[1])
            if token not in self.node_of:
                self.node_of[token] = self._mention(self.worked[token])
            return f"v[{self.node_of[token]}]"

        return self._add(_NUMBER.sub(node, formula))
