"""A generator of reasoning-gym as a task: questions without end, and answers that are verified.

Many verifiers of reasoning-gym look for the right answer in a text and do not read the rest, or
take what is no answer at all: NaN is near every complex number, and every text is true. A question
with one right answer has it in one set of words and numbers. So an answer has to have the same
ones, in whatever order, spacing and punctuation its verifier takes. Questions with several right
answers are left to their verifiers; those that ignore what they cannot read get a form beside.

Some verifiers of reasoning-gym call `eval` on an answer, or SymPy's `parse_expr`, which does. What
a model writes is never executed: an expression is parsed here first, and has to be made of numbers,
letters, known functions and small powers; where an answer would be evaluated as a list, only the
right text counts.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from importlib.metadata import version as version_of
from operator import add, mul, sub
from typing import Any

from typing_extensions import override

from stratos.contrib.gym import source
from stratos.core.extensions import table
from stratos.core.limited import limited
from stratos.tasks import chat
from stratos.tasks.answers import AnswerText, word_f1
from stratos.tasks.base import Item, Message, Score, Split, Task

_VERIFIERS = table(__file__, "verifiers.toml")
_FORMS = _VERIFIERS["forms"]
LISTS, BOARDS, EXPRESSIONS, INTEGRALS, SEVERAL = (
    frozenset(_VERIFIERS[key]) for key in ("lists", "boards", "expressions", "integrals", "several")
)
"""Generators by what their verifiers do; the file says it of each."""
LONGEST = 1000
"""Characters of an answer to these."""
_MOST_NODES = 200
_MOST_NUMBER, _MOST_POWER = 10**15, 32
"""Numbers of an expression, and its powers, which are not within each other."""
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
    return _is_small(tree.body)


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
        used = sorted(int(number) for number in re.findall(r"\d+", answer))
        tree = _parsed(answer)
        is_used_up = used == sorted(entry["metadata"]["numbers"])
        return is_used_up and tree is not None and _number_of(tree.body) == _TARGET
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


def _is_small(node: ast.expr, in_power: bool = False) -> bool:
    """Return whether an expression is a sum, product or small power of numbers and letters."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) <= _MOST_NUMBER
    if isinstance(node, ast.Name):
        return len(node.id) == 1 or node.id in _NAMES
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.UAdd | ast.USub) and _is_small(node.operand, in_power)
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        is_plain = is_known and not node.keywords and len(node.args) == 1
        return is_plain and _is_small(node.args[0], in_power)
    if not isinstance(node, ast.BinOp):
        return False
    if isinstance(node.op, ast.Pow):
        power = _number_of(node.right)
        is_near = power is not None and abs(power) <= _MOST_POWER
        return is_near and not in_power and _is_small(node.left, in_power=True)
    is_sum = type(node.op) in (*_OPERATIONS, ast.Div)
    return is_sum and _is_small(node.left, in_power) and _is_small(node.right, in_power)


_OPERATIONS = {ast.Add: add, ast.Sub: sub, ast.Mult: mul}


def _number_of(node: ast.expr) -> Fraction | None:
    """Return what an expression of numbers comes to; None where it has others, or no value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(node.value) if abs(node.value) <= _MOST_NUMBER else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        inner = _number_of(node.operand)
        return inner if inner is None or isinstance(node.op, ast.UAdd) else -inner
    if not isinstance(node, ast.BinOp):
        return None
    first, second = _number_of(node.left), _number_of(node.right)
    if first is None or second is None:
        return None
    if type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](first, second)
    if isinstance(node.op, ast.Div):
        return first / second if second else None
    is_small = isinstance(node.op, ast.Pow) and second.denominator == 1 and abs(second) <= 12
    return first ** int(second) if is_small and (first or second >= 0) else None


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(number) for number in json.loads(text.replace("'", '"'))]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


"""Generators whose questions have several right answers, or one in many forms."""
_TOKEN = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+(?![^\W_]))?|[^\W\d_]+")
_LATEX = re.compile(r"\\[a-z]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"([+-]?\d+\.?\d*(?:e[+-]?\d+)?)(?:\s*/\s*(\d+))?|([+-]?0[xbo][0-9a-f]+)")
_HUGE = re.compile(r"\d[eE][+-]?\d{4,}")
"""A number whose digits alone would fill the memory."""
_NEAR = 1e-9
"""Part of a number by which another one is the same, where the verifier takes both."""
_ROUNDED = {"advanced_geometry": 1e-3, "power_function": 5e-3}
"""The same where the question asks for a rounded number."""


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
        numbers = [token for token in right if isinstance(token, float)]
        if _are_same(ours, right, near) or (numbers and _are_same(ours, numbers, near)):
            return True
    return False


def _tokens(text: str, without_thousands: bool) -> list[str | float]:
    text = _LATEX.sub(" ", text.casefold())
    if without_thousands:
        text = _THOUSANDS.sub("", text)
    texts = _TOKEN.findall(text)
    return [
        text_of_token if (number := _value(text_of_token)) is None else number
        for text_of_token in texts
    ]


def _are_same(ours: Sequence[str | float], gold: Sequence[str | float], near: float) -> bool:
    """Compare words and numbers, in any order."""
    if len(ours) != len(gold):
        return False
    words = [Counter(token for token in some if isinstance(token, str)) for some in (ours, gold)]
    given, right = (
        sorted(token for token in some if isinstance(token, float)) for some in (ours, gold)
    )
    return words[0] == words[1] and all(map(_is_near, given, right, [near] * len(given)))


def _is_near(given: float, gold: float, near: float) -> bool:
    return math.isclose(given, gold, rel_tol=near, abs_tol=0.0)


def _value(text: str) -> float | None:
    """Return the number that a text is, a fraction or a number in base 2, 8 or 16 too."""
    text = text.strip().casefold()
    match = _NUMBER.fullmatch(_THOUSANDS.sub("", text))
    if match is None:
        return None
    try:
        if match[3]:
            return float(int(match[3], 0))
        return float(match[1]) / (float(match[2]) if match[2] else 1.0)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None


_SHARES: tuple[tuple[Split, int], ...] = (("train", 60), ("validation", 75), ("test", 100))
"""Split and the hundredth below which a question's hash puts it there."""
_MOST_REPEATED = 1000
"""Draws in a row that bring no new question, after which a generator has no more."""
_N_TEXTS = 256
"""Items from which the length of an answer is told."""
_MOST_LABELS = 12
"""Different answers up to which a random guess has a chance."""
_ANNOUNCED = re.compile(rf"(?:^|\n)(?:[*_]|[^\S\n])*+{chat.MARK}[*_]*|<answer>", re.IGNORECASE)
"""What a text announces its answer with; the last one counts."""


@dataclass(frozen=True)
class GymTask(Task):
    """One of the generators of reasoning-gym, with its own verifier."""

    code_version = 2
    name: str
    """Of the generator, such as chain_sum; docs/contrib/gym.md lists them."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Settings of the generator that are other than its own, such as {max_terms: 3}."""
    level: int | None = None
    """Of its curriculum, from 0, the easiest; null for its own settings."""
    version: int = 1
    """Raised when questions, splits or the score change."""
    metric: str = "verified"
    """What accuracy means here: the generator's verifier gives all points."""
    instruction: str = "Solve the problem."
    """The teacher's instruction."""
    n_examples: int = 2
    """Training items used as few-shot examples."""
    prompts: tuple[str, ...] = ("default", "zero_shot", "zero_shot_reasoning")
    """Prompts to try with a teacher."""

    def __post_init__(self) -> None:
        """Check that there is such a generator.

        Raises:
            ValueError: there is none, or not with these settings.
        """
        if unknown := [prompt for prompt in self.prompts if prompt not in chat.FORMS]:
            raise ValueError(f"prompts={unknown}: known are {', '.join(chat.FORMS)}.")
        if not self.prompts or self.n_examples < 0 or (self.level or 0) < 0:
            raise ValueError("prompts cannot be empty, nor n_examples or level below 0.")
        source.check(self.name, self.parameters, self.level)

    # --- items -----------------------------------------------------------------------------------

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of a split, fewer where the generator has no more.

        A hash of the question says of which split it is, whatever seed it was drawn with.
        """
        stream, made = self._streams.setdefault(seed, (self._drawn(2 * seed), []))
        items = [item for of, item in made if of == split]
        while len(items) < n and (drawn := next(stream, None)) is not None:
            made.append(drawn)
            if drawn[0] == split:
                items.append(drawn[1])
        return items[:n]

    @cached_property
    def _streams(self) -> dict[int, tuple[Iterator[tuple[Split, Item]], list[tuple[Split, Item]]]]:
        """What was drawn of each seed: all splits come out of one stream."""
        return {}

    @cached_property
    def _parameters(self) -> str:
        return source.frozen(self.parameters)

    def _drawn(self, seed: int) -> Iterator[tuple[Split, Item]]:
        """Yield items with their split, no two alike, until nothing new comes.

        Args:
            seed: of the source; even ones are those of `items`, odd ones those of `reverse`.
        """
        seen: set[str] = set()
        n_repeated = 0
        for origin, entry in source.entries(self.name, self._parameters, self.level, seed):
            question = str(entry["question"]).strip()
            # Signs and spaces are what some questions are made of: boards, rectangles, letters.
            made = hashlib.blake2b(question.encode(), digest_size=8).hexdigest()
            if made in seen:
                n_repeated += 1
                if n_repeated > max(_MOST_REPEATED, len(seen)):
                    return
                continue
            n_repeated = 0
            seen.add(made)
            gold = entry["answer"]
            item = Item(
                id=made,
                slice="main",
                question=question,
                answer="" if gold is None else str(gold).strip(),
                origin=origin,
            )
            yield _split_of(made), item

    @property
    def can_reverse(self) -> bool:  # type: ignore[override]
        """Whether the generator gives answers: then it makes training items without a teacher."""
        return self.name not in source.WITHOUT_GOLD

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` training items with the generator's answers, drawn apart from `items`."""
        n_made = 0
        for split, item in self._drawn(2 * seed + 1):
            if n_made == n:
                return
            if split == "train":
                n_made += 1
                yield item

    @property
    def has_paths(self) -> bool:
        """Whether items bring their reasoning: generators give the answer alone."""
        return False

    @property
    def content_sha256(self) -> str:
        """Digest of what makes the items: another version of the package may make others."""
        made_by = f"{self.name} {self._parameters} {self.level} {version_of('reasoning-gym')}"
        return hashlib.sha256(made_by.encode()).hexdigest()

    def own_words(self, question: str) -> str:
        """Return nothing to compare: what a template writes is in most questions of every split.

        No question is in two splits. That it shares a row of words with one is no leak: of `ab`,
        whose programs are made of four words, all but a few would be refused.
        """
        return ""

    # --- what a teacher and a student are asked --------------------------------------------------

    @property
    @override
    def system_prompt(self) -> str:
        return self.instruction

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        return chat.ask(self.instruction, prompt, self._examples(prompt), item)

    def _examples(self, prompt: str) -> list[Item]:
        return self._shown if chat.FORMS[prompt].has_examples and self.can_reverse else []

    @cached_property
    def _shown(self) -> list[Item]:
        return self.items("train", self.n_examples, seed=1)

    @override
    def example_answers(self, prompt: str) -> frozenset[str]:
        return frozenset(example.answer for example in self._examples(prompt))

    def answer_texts(self, prompt: str) -> list[str]:
        """Return the answers to training items in the form that a prompt asks for."""
        items = self.items("train", _N_TEXTS) if self.can_reverse else []
        return chat.answer_texts(prompt, items)

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> AnswerText | None:
        """Read the answer: behind the last `Answer:` or `<answer>`, else all or the last line."""
        announced = list(_ANNOUNCED.finditer(text))
        if announced:
            text = text[announced[-1].end() :].partition("</answer>")[0]
        text = text.strip()
        if not announced and not self._has_lines:
            text = text.rpartition("\n")[2].strip()
        return text or None

    @cached_property
    def _has_lines(self) -> bool:
        """Whether an answer may have several lines."""
        return any("\n" in item.answer for item in self._sample) or not self.can_reverse

    @cached_property
    def _sample(self) -> list[Item]:
        return self.items("train", _N_TEXTS)

    def score(self, text: str, item: Item) -> Score:
        """Let the generator's verifier judge; F1 is the points that it gives.

        Without the place of its entry, an item that somebody typed is compared with its gold
        answer.
        """
        answer = self.parse(text)
        if answer is None:
            return Score(0.0, 0.0, False)
        if answer == item.answer:
            return Score(1.0, 1.0, True)
        if not item.origin:
            return Score(0.0, word_f1(answer, item.answer), True)
        verifier, entry = source.entry_at(self.name, self._parameters, self.level, item.origin)
        points = points_of(self.name, answer, verifier, entry)
        return Score(float(points >= 1.0), points, True)

    def chance(self, item: Item) -> float:
        """Return how often one of the answers that there are, drawn at random, is right."""
        labels = Counter(item_of_sample.answer for item_of_sample in self._sample)
        return 1 / len(labels) if 1 < len(labels) <= _MOST_LABELS else 0.0


def points_of(name: str, answer: str, verifier: Any, entry: Mapping[str, Any]) -> float:
    """Return the points of an answer, from 0 to 1: 1 where it is right.

    Args:
        name: of the generator.
        answer: what a model or a person wrote.
        verifier: the generator, as `source.entry_at` gives it.
        entry: that the answer is to.
    """
    gold = "" if entry["answer"] is None else str(entry["answer"]).strip()
    if gold and answer == gold:
        return 1.0
    if _HUGE.search(answer) or not is_harmless(name, answer):
        return 0.0
    try:
        if name in EXPRESSIONS:  # SymPy may take any time for a short text
            points = float(limited(verifier.score_answer, answer, entry))
        else:
            points = float(verifier.score_answer(answer=answer, entry=entry))
    except Exception:  # what a model writes is not what each verifier expects
        return 0.0
    # Outside of the `try`: a fault of our own rules is an error, and no wrong answer.
    if points >= 1.0 and not (
        is_really_right(name, answer, entry) and says_the_same(name, answer, gold)
    ):
        return 0.0
    return min(1.0, max(0.0, points)) if points == points else 0.0


def _split_of(item_id: str) -> Split:
    hundredth = int(item_id, 16) % 100
    return next(split for split, below in _SHARES if hundredth < below)
