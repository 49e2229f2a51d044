"""School and contest mathematics with official test questions: GSM8K and AIME.

Training questions are also made answer first, if a room of contrib draws variants: it exchanges the
numbers of training rows and works their solutions out anew.

The sums of a written solution are checked. What words stand between (`84 holes / 3 holes a day =
28 days`) is not a sum that can be checked without understanding, and is left alone; so are algebra
and times of day (`0900 - 0130`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec
from typing_extensions import override

from stratos.core.errors import ConfigError
from stratos.core.extensions import extensions, load
from stratos.core.reasons import Reason
from stratos.tasks.base import Item
from stratos.tasks.file_task import FileTask
from stratos.tasks.metrics import Numeric
from stratos.tasks.numbers import numbers_in, stated_number
from stratos.tasks.reader import PATH, Checker, Content
from stratos.tasks.rows import Fields
from stratos.tasks.table import Row, Rows
from stratos.tasks.words import NeverReached, WrongStep

if TYPE_CHECKING:
    from stratos.tasks.dedup.splits import HashSplitter, Splits

_MARKS = re.compile(r"<<([^<>]*)>>")
_EQUALS = re.compile(r"(?<![=<>!:≤≥])=(?!=)")
_SUM = re.compile(r"[\d.,+\-*/×÷x()$€£% ]*\Z")
_STARTS = re.compile(r"[\d.($€£]")
_RESULT = re.compile(
    r"\s*[$€£]?\s*(-?(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?!\d)|\d+)?(?:\.\d+)?)(\s?%)?"
    r"(?![\d.]*\d)(?![, ]\d{3}(?!\d))(?![A-Za-z])()"
)
_CLAUSE = re.compile(r"[.,]\s")
_UNFINISHED = re.compile(r"[-+*/×÷x(]\s*[.,]\s\Z")
"""A clause does not end behind an operator: a number was torn (`.8 + . 84`)."""
_TORN_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}, \Z")
"""The beginning of `14, 400`, if three digits follow."""
_THREE_DIGITS = re.compile(r"\d{3}(?![\d,.])")
_CENTS = re.compile(r"\s*cents?\b")
_MIXED = re.compile(r"\d and\s+\d+/\d+\b[^=]*\Z")
"""1 and 1/4 of something: one number, whose whole part is behind a word."""
_NUMBERED = re.compile(
    r"\b(?:on|of|in|for|from|to|through|until|at|by|after|before) "
    r"(?:day|night|week|month|year|hour|minute|round|lap|level|step|grade|room|page) \Z",
    re.IGNORECASE,
)
"""The number behind it is a name (`on day 1 * 2`): a count would come before its noun."""
_SINGLE_PERCENT = re.compile(
    r"(?<![\d.,])1 ?(?:%|percent\b)|\b(?:one|each|every) percent\b", re.IGNORECASE
)
_IN_WORDS = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?) (hundred|thousand|million|billion)\b")
_LARGE = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_LONE_NUMBER = re.compile(r"(?<![\d.,])\d+(?:\.\d+)?(?![\d.,%])")
_DASHES = str.maketrans("−–—", "---")
_CONTINUES = re.compile(r"\s*[-+*/×÷^(=]|\s*x\s*\d")
_TIMES = re.compile(r"(?<=[\d)%])\s*[x×]\s*(?=[\d($.])")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)(%?)|([-+*/()]))")
_UNDER = re.compile(r"/\s+(\d+/\d+)(?![\d.]|\s*/)")
"""25 / 1/3: what is written closely is one number, by which the rest is divided."""
_LONGEST = 200
"""Characters of a sum; longer ones are left alone."""
_LONGEST_NUMBER = 30


def without_marks(text: str) -> str:
    """Return a solution without GSM8K's calculator marks `<<9*2=18>>`."""
    return _MARKS.sub("", text)


def wrong_step(text: str) -> WrongStep | None:
    """Return the first sum of a text whose stated result it has not; None where all come out.

    A result may be rounded, or cut off, at its last digit. Where single percents are counted
    (`each 1% is 180/150 = 1.2`), 100% may be a hundred of them, and what is `5 thousand` in words
    may be 5 in a sum.
    """
    for step in _steps(text):
        values = [value for reading in step.readings if (value := _value(reading)) is not None]
        if values and not any(_comes_to(value, step) for value in values):
            return WrongStep(step.readings[0], f"{step.result}{'%' if step.is_percent else ''}")
    return None


def n_steps(text: str) -> int:
    """Return how many sums of a text can be checked."""
    return sum(
        any(_value(reading) is not None for reading in step.readings) for step in _steps(text)
    )


class _Step(NamedTuple):
    """A sum and what it is said to come to."""

    readings: tuple[str, ...]
    """The sum; where it can be read in several ways, all of them."""
    result: str
    is_percent: bool


def _comes_to(value: Fraction, step: _Step) -> bool:
    """Return whether a value is the stated result, rounded or cut off at its last digit."""
    result = step.result.replace(",", "").replace(" ", "")
    stated = Fraction(result) / (100 if step.is_percent else 1)
    digits = len(result.partition(".")[2]) + 2 * step.is_percent
    last_digit = Fraction(1, 10**digits)
    is_whole = (value / last_digit).denominator == 1
    # A percentage may be written as its number: 1/4 = 25%, and 100 * 1/4 = 25%.
    near = (stated, stated * 100) if step.is_percent else (stated,)
    return any(
        value == number or (not is_whole and abs(value - number) < last_digit) for number in near
    )


def _steps(text: str) -> Iterator[_Step]:
    """Yield each sum with its stated result."""
    counts_percents = _SINGLE_PERCENT.search(text) is not None
    in_words = dict(_IN_WORDS.findall(text))
    for line in text.translate(_DASHES).splitlines():
        begin = 0
        for equals in _EQUALS.finditer(line):
            before, begin = line[begin : equals.start()], equals.end()
            match = _SUM.search(before[-_LONGEST:])
            stated = _RESULT.match(line, equals.end())
            if match is None or stated is None or not stated[1].strip("-."):
                continue
            if _CONTINUES.match(line, stated.end()):
                continue
            clause = max((mark.end() for mark in _CLAUSE.finditer(match[0])), default=0)
            earlier, rest = match[0][:clause], match[0][clause:].strip()
            if _UNFINISHED.search(earlier):
                continue
            is_other_unit = "$" in rest and _CENTS.match(line, stated.end())
            if is_other_unit or _MIXED.search(before[-_LONGEST:]):
                continue
            words = before[: len(before) - len(match[0])] + match[0][:1]
            if not clause and _NUMBERED.search(words):
                continue
            glued = len(match[0]) < len(before[-_LONGEST:]) and match[0][:1] not in " ,."
            if rest and _STARTS.match(rest) and not glued:
                torn = _TORN_THOUSANDS.search(earlier)
                whole = (torn[0][:-2] + rest,) if torn and _THREE_DIGITS.match(rest) else ()
                percents = (rest.replace("%", ""),) if counts_percents and "%" in rest else ()
                readings = (rest, *whole, *percents, *_written_out(rest, in_words))
                yield _Step(readings, stated[1], bool(stated[2]))


def _written_out(sum_: str, in_words: dict[str, str]) -> Iterator[str]:
    """Yield a sum with one of its numbers as large as the text has it in words."""
    for number in _LONE_NUMBER.finditer(sum_):
        if number[0] in in_words:
            large = Fraction(number[0]) * _LARGE[in_words[number[0]]]
            if large.denominator == 1:
                yield f"{sum_[: number.start()]}{large}{sum_[number.end() :]}"


def _value(text: str) -> Fraction | None:
    """Return what a sum comes to; None for what is none."""
    text = _TIMES.sub("*", text).replace("×", "*").replace("÷", "/")
    tokens = _tokens(_UNDER.sub(r"/(\1)", text))
    if tokens is None or len(tokens) < 3:
        return None
    try:
        value, end = _terms(tokens, 0)
    except (IndexError, ZeroDivisionError):
        return None
    return value if end == len(tokens) and value is not None else None


def _tokens(text: str) -> list[Fraction | str] | None:
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))|[$€£]", "", text).strip()
    tokens: list[Fraction | str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(match[1] or "") > _LONGEST_NUMBER:
            return None
        at = match.end()
        if match[1] and match[1][0] == "0" and match[1][1:2].isdigit():
            return None  # a time of day
        tokens.append(Fraction(match[1]) / (100 if match[2] else 1) if match[1] else match[3])
    return tokens


def _terms(tokens: list[Fraction | str], at: int) -> tuple[Fraction | None, int]:
    total, at = _factors(tokens, at)
    while total is not None and at < len(tokens) and tokens[at] in ("+", "-"):
        sign = 1 if tokens[at] == "+" else -1
        term, at = _factors(tokens, at + 1)
        total = None if term is None else total + sign * term
    return total, at


def _factors(tokens: list[Fraction | str], at: int) -> tuple[Fraction | None, int]:
    product, at = _factor(tokens, at)
    while product is not None and at < len(tokens) and tokens[at] in ("*", "/"):
        operator = tokens[at]
        factor, at = _factor(tokens, at + 1)
        if factor is None:
            return None, at
        product = product * factor if operator == "*" else product / factor
    return product, at


def _factor(tokens: list[Fraction | str], at: int) -> tuple[Fraction | None, int]:
    token = tokens[at]
    if isinstance(token, Fraction):
        return token, at + 1
    if token == "-":
        value, at = _factor(tokens, at + 1)
        return (None if value is None else -value), at
    if token == "(":
        value, at = _terms(tokens, at + 1)
        return (value, at + 1) if tokens[at] == ")" else (None, at)
    return None, at


PROBLEMS_A_YEAR = 30
"""Problems of AIME in one year: two papers of fifteen."""

_VARIANTS = next((room.variants for room in extensions() if room.variants), "")
"""What makes `Variants`; "" where no room of contrib does."""
_SET_APART = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
"""What sets thousands apart in 118 000."""
_DOLLARS_AND_CENTS = re.compile(r"\$(\d*\.\d\d)(?!\d)")
_EARLIER = "other years"
_TEST_PATHS = "task.test_paths."
_YEAR = re.compile(r"(?:19|20)\d\d")


class Variants(Protocol):
    """What draws variants of training rows: `Extension.variants` makes it."""

    def draw(self, rows: Sequence[Item], n: int, seed: int) -> Iterator[Item]:
        """Yield up to `n` different variants of rows, verified: the same for the same seed."""
        ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many of the rows that were looked at have no variant, by reason."""
        ...


@dataclass(frozen=True)
class SolutionChecker:
    """Checks rows, and takes the calculator's marks out of their solutions."""

    rows: Checker

    def __call__(self, key: str, row: Row) -> Row | Reason:
        """Return a row as it is used, or what is wrong with it."""
        checked = self.rows(key, row)
        if isinstance(checked, Reason):
            return checked
        return msgspec.structs.replace(checked, rationale=without_marks(checked.rationale))


def wrong_solution(item: Item) -> Reason | None:
    """Return which sum of a solution does not come out, or that it never has its answer."""
    wrong = wrong_step(item.rationale)
    if wrong is None and not _reaches(item.rationale, stated_number(item.answer)):
        return NeverReached(item.answer)
    return wrong


def _reaches(path: str, answer: Fraction | None) -> bool:
    """Return whether a path names the answer; thousands set apart and dollars for cents do too."""
    numbers = numbers_in(path) + numbers_in(_SET_APART.sub("", path))
    numbers += [100 * Fraction(amount) for amount in _DOLLARS_AND_CENTS.findall(path)]
    return answer in numbers


@dataclass(frozen=True)
class MathTask(FileTask[Content]):
    """Word problems with a number as their answer, and solutions whose sums are checked."""

    code_version = 2
    metric = "numeric"
    measure = Numeric()
    test_path: str | None = None
    """A file of test questions, which is the whole test split; null takes a part of `path`."""
    unlabelled_path: str | None = None
    """A file of unlabelled rows, which a teacher labels; `path` itself means its rows with an empty
    answer."""
    name: str = "gsm8k"
    """Name shown in tables and written into records."""
    question: str = "question"
    """Field with the question; `a|b` takes the first of them that a file has."""
    answer: str = "answer"
    """Field with the gold answer."""
    rationale: str | None = None
    """Field with the solution; null if the file has none."""
    split_answer: str | None = None
    """Separator between solution and answer in the answer field (GSM8K: "####"); null for none."""
    instruction: str = "Solve the problem."
    """The teacher's instruction."""
    test_share: float = 0.25
    """Share of the rows for the test split; ignored with a `test_path`."""
    prompts: tuple[str, ...] = ("reasoning", "zero_shot_reasoning")
    """Prompts to try with a teacher: step by step, few-shot and zero-shot."""
    n_drawn: int = 0
    """Variants of training rows, with other numbers, that injection makes beside the rows."""
    drawn_from: Literal["rows", "exchanged"] = "rows"
    """What injection learns of the training rows: rows (they, and their variants), or exchanged
    (their variants alone)."""

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if self.n_drawn < 0:
            raise ValueError("n_drawn must be at least 0.")
        if self.drawn_from not in ("rows", "exchanged"):
            raise ValueError(f"drawn_from={self.drawn_from}: it is rows or exchanged.")
        if self.drawn_from == "exchanged" and not self.n_drawn:
            raise ValueError(
                "n_drawn=0: drawn_from=exchanged learns from variants that are drawn. Type "
                "task.n_drawn=20000."
            )
        if self.n_drawn and not _VARIANTS:
            raise ValueError(
                f"n_drawn={self.n_drawn}: nothing draws variants, since stratos.contrib.variants "
                "is not here. Leave n_drawn and drawn_from out."
            )
        super().__post_init__()

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields(self.question, self.answer, self.rationale)

    @property
    @override
    def checker(self) -> SolutionChecker:
        return SolutionChecker(super().checker)

    @override
    def verify(self, item: Item) -> Reason | None:
        """Check the sums of a solution, that it reaches the answer, and that it announces it."""
        return super().verify(item) or wrong_solution(item)

    @override
    def refute(self, item: Item, text: str) -> Reason | None:
        """Return that an answer cannot be read, or which of its sums does not come out."""
        return super().refute(item, text) or wrong_step(text)

    @override
    def checks_steps(self, item: Item) -> bool:
        """Return whether the solution has sums that `verify` can check."""
        return n_steps(item.rationale) > 0

    # --- injection -------------------------------------------------------------------------------

    @property
    @override
    def n_made(self) -> int:
        is_beside = self.drawn_from == "rows"
        return self.n_drawn if is_beside else max(1, self.n_drawn - self.n_train)

    @override
    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield the training rows, then variants of them with other numbers, up to `n` in all.

        With `drawn_from=exchanged` there are variants alone.
        """
        if self.drawn_from == "rows":
            yield from super().reverse(n, seed)
            n -= self.n_train
        if (n := min(n, self.n_drawn)) > 0:
            yield from self._variants.draw(self.items("train", self.n_train, seed), n, seed)

    @cached_property
    def _variants(self) -> Variants:
        return load(_VARIANTS)(self.verify, self.held_out())

    @property
    @override
    def left_out(self) -> dict[str, int]:
        excluded = super().left_out
        return (
            {**excluded, **self._variants.left_out} if self.drawn_from == "exchanged" else excluded
        )


@dataclass(frozen=True)
class YearSplitter:
    """Tests all problems of named years; those of other years are split by a hash."""

    files: Mapping[str, int]
    """Year that is tested to the place of the file that has its problems."""
    by_hash: HashSplitter

    def split(self, content: Content) -> Splits:
        """Return the rows of each split.

        Raises:
            ConfigError: a year lacks a problem.
        """
        own, tested = content.files[0].rows, []
        for year, index in self.files.items():
            file = content.files[index]
            rows = file.rows.take(file.rows.of_slice(year))
            if len(rows) != PROBLEMS_A_YEAR:
                raise ConfigError(
                    f"AIME {year} has {PROBLEMS_A_YEAR} problems, {file.path} has {len(rows)} of "
                    f"them. Give a file with all of them: 'task.test_paths={{\"{year}\": …}}'."
                )
            tested.append(rows)
        return self.by_hash.divided(content, own.take(own.of_slice(_EARLIER)), Rows.concat(tested))


@dataclass(frozen=True)
class AimeTask(FileTask[Content]):
    """The AIME of named years, all thirty problems of each; other years are trained on."""

    code_version = 2
    metric = "numeric"
    measure = Numeric()
    name: str = "aime"
    """Name shown in tables and written into records."""
    question: str = "problem|question"
    """Field with the question; `a|b` takes the first of them that a file has."""
    answer: str = "answer"
    """Field with the gold answer."""
    rationale: str | None = None
    """Field with the solution; null if the file has none."""
    split_answer: str | None = None
    """Separator between solution and answer in the answer field; null for none."""
    years: tuple[int, ...] = (2024,)
    """Years in the test split, which are never used for training."""
    year: str = "year"
    """Field of `path` with the year of a problem."""
    test_paths: dict[str, str] = field(default_factory=dict)
    """Year to the file of its thirty problems; other years come from `path`."""
    instruction: str = "Solve the problem."
    """The teacher's instruction."""
    prompts: tuple[str, ...] = ("reasoning", "zero_shot_reasoning")
    """Prompts to try with a teacher: step by step, few-shot and zero-shot."""

    def __post_init__(self) -> None:
        """Check the years, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if not self.years or len(set(self.years)) < len(self.years):
            raise ValueError("years: name at least one, each once.")
        unknown = [year for year in self.test_paths if year not in map(str, self.years)]
        if unknown:
            raise ValueError(f"test_paths.{unknown[0]}: that year is not among years.")
        super().__post_init__()

    @property
    def slices(self) -> tuple[str, ...]:  # type: ignore[override]
        """One for each year that is tested, and one for all others."""
        return (_EARLIER, *map(str, self.years))

    @property
    @override
    def files(self) -> dict[str, str]:
        tests = {f"{_TEST_PATHS}{year}": path for year, path in self.test_paths.items()}
        return {PATH: self.path, **tests}

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields(self.question, self.answer, self.rationale, self.year)

    @property
    @override
    def checker(self) -> SolutionChecker:
        return SolutionChecker(super().checker)

    @override
    def slice_of(self, key: str, row: Row) -> str:
        if key != PATH:
            return key.removeprefix(_TEST_PATHS)
        match = _YEAR.search(row.slice)
        return match[0] if match and match[0] in self.slices else _EARLIER

    @property
    @override
    def splitter(self) -> YearSplitter:
        from stratos.tasks.dedup.splits import HashSplitter  # imports numpy

        of_file = {year: k for k, year in enumerate(self.test_paths, start=1)}
        files = {str(year): of_file.get(str(year), 0) for year in self.years}
        return YearSplitter(
            files, HashSplitter(self.validation_share, self.test_share, self.normal)
        )

    @override
    def verify(self, item: Item) -> Reason | None:
        """Check the sums of a solution, that it reaches the answer, and that it announces it."""
        return super().verify(item) or wrong_solution(item)

    @override
    def refute(self, item: Item, text: str) -> Reason | None:
        """Return that an answer cannot be read, or which of its sums does not come out."""
        return super().refute(item, text) or wrong_step(text)

    @override
    def checks_steps(self, item: Item) -> bool:
        """Return whether the solution has sums that `verify` can check."""
        return n_steps(item.rationale) > 0
