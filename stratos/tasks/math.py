"""School and contest mathematics with official test questions: GSM8K and AIME.

Training questions are also made answer first, if a room of contrib draws variants: it exchanges the
numbers of training rows and works their solutions out anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
from typing_extensions import override

from stratos.core.errors import ConfigError
from stratos.core.extensions import extensions, load
from stratos.core.reasons import Reason
from stratos.tasks.base import Item
from stratos.tasks.file_task import FileTask
from stratos.tasks.metrics import Numeric
from stratos.tasks.numbers import n_steps, numbers_in, stated_number, without_marks, wrong_step
from stratos.tasks.reader import PATH, Checker, Content, RowChecker
from stratos.tasks.rows import Fields
from stratos.tasks.table import Row, Rows
from stratos.tasks.words import NeverReached

if TYPE_CHECKING:
    from stratos.tasks.dedup.splits import HashSplitter, Splits

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
class NumberTask(FileTask[Content]):
    """Problems with a number as their answer, and solutions whose sums are checked."""

    code_version = 3
    metric = "numeric"
    measure = Numeric()
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
    prompts: tuple[str, ...] = ("reasoning", "zero_shot_reasoning")
    """Prompts to try with a teacher: step by step, few-shot and zero-shot."""

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields(self.question, self.answer, self.rationale)

    @property
    @override
    def checker(self) -> SolutionChecker:
        rows = RowChecker(self.slices, self.slice_of, self.canonical, self.split_answer)
        return SolutionChecker(rows)

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


@dataclass(frozen=True)
class MathTask(NumberTask):
    """Word problems with a number as their answer, and solutions whose sums are checked."""

    test_path: str | None = None
    """A file of test questions, which is the whole test split; null takes a part of `path`."""
    unlabelled_path: str | None = None
    """A file of unlabelled rows, which a teacher labels; `path` itself means its rows with an empty
    answer."""
    name: str = "gsm8k"
    """Name shown in tables and written into records."""
    test_share: float = 0.25
    """Share of the rows for the test split; ignored with a `test_path`."""
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
class AimeTask(NumberTask):
    """The AIME of named years, all thirty problems of each; other years are trained on."""

    name: str = "aime"
    """Name shown in tables and written into records."""
    question: str = "problem|question"
    """Field with the question; `a|b` takes the first of them that a file has."""
    years: tuple[int, ...] = (2024,)
    """Years in the test split, which are never used for training."""
    year: str = "year"
    """Field of `path` with the year of a problem."""
    test_paths: dict[str, str] = field(default_factory=dict)
    """Year to the file of its thirty problems; other years come from `path`."""

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
