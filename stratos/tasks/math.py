"""School and contest mathematics with official test questions: GSM8K and AIME."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

import msgspec

from stratos.core.errors import ConfigError
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.metrics import MetricName
from stratos.tasks.numbers import numbers_in, stated_number
from stratos.tasks.steps import n_steps, without_marks, wrong_step
from stratos.tasks.table import Row, Rows

PROBLEMS_A_YEAR = 30
"""Problems of AIME in one year: two papers of fifteen."""

_SET_APART = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
"""What sets thousands apart in 118 000."""
_DOLLARS_AND_CENTS = re.compile(r"\$(\d*\.\d\d)(?!\d)")
_EARLIER = "other years"
_YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True)
class MathTask(JsonlTask):
    """Word problems with a number as their answer, and solutions whose sums are checked."""

    name: str = "gsm8k"
    """Name shown in tables and written into records."""
    metric: MetricName = "numeric"
    """Equal as numbers."""
    instruction: str = "Solve the problem."
    """The teacher's instruction."""
    prompts: tuple[str, ...] = ("reasoning", "zero_shot_reasoning")
    """Prompts to try with a teacher: step by step, few-shot and zero-shot."""

    def verify(self, item: Item) -> str | None:
        """Check the sums of a solution, that it reaches the answer, and that it announces it."""
        problem = super().verify(item)
        if problem is not None:
            return problem
        wrong = wrong_step(item.rationale)
        if wrong is not None:
            return f"{wrong} does not come out"
        if not _reaches(item.rationale, stated_number(item.answer)):
            return f"its path never reaches {item.answer}"
        return None

    def refute(self, item: Item, text: str) -> str | None:
        """Return that an answer cannot be read, or which of its sums does not come out."""
        return super().refute(item, text) or wrong_step(text)

    def checks_steps(self, item: Item) -> bool:
        """Return whether the solution has sums that `verify` can check."""
        return n_steps(item.rationale) > 0

    def _check(self, key: str, row: Row) -> Row | str:
        checked = super()._check(key, row)
        if isinstance(checked, str):
            return checked
        return msgspec.structs.replace(checked, rationale=without_marks(checked.rationale))


def _reaches(path: str, answer: Fraction | None) -> bool:
    """Return whether a path names the answer; thousands set apart and dollars for cents do too."""
    found = numbers_in(path) + numbers_in(_SET_APART.sub("", path))
    found += [100 * Fraction(amount) for amount in _DOLLARS_AND_CENTS.findall(path)]
    return answer in found


@dataclass(frozen=True)
class AimeTask(MathTask):
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
    slice: str | None = field(init=False, default=None)
    slices: tuple[str, ...] = field(init=False, default=())
    test_path: str | None = field(init=False, default=None)
    test_share: float = field(init=False, default=0.25)

    def __post_init__(self) -> None:
        """Name a slice for each year that is tested."""
        if not self.years or len(set(self.years)) < len(self.years):
            raise ValueError("years: name at least one, each once.")
        unknown = [year for year in self.test_paths if year not in map(str, self.years)]
        if unknown:
            raise ValueError(f"test_paths.{unknown[0]}: that year is not among years.")
        object.__setattr__(self, "slice", self.year)
        object.__setattr__(self, "slices", (_EARLIER, *map(str, self.years)))
        super().__post_init__()

    @property
    def _paths(self) -> dict[str, str]:
        tests = {f"task.test_paths.{year}": path for year, path in self.test_paths.items()}
        return {"task.path": self.path, **tests}

    def _slice_of(self, key: str, row: Row) -> str:
        if key != "task.path":
            return key.rpartition(".")[2]
        found = _YEAR.search(row.slice)
        return found[0] if found and found[0] in self.slices else _EARLIER

    def _divided(self) -> tuple[Rows, Rows]:
        own, *others = self._files
        of_file = dict(zip(self.test_paths, others, strict=True))
        tested: list[Rows] = []
        for year in map(str, self.years):
            file = of_file.get(year, own)
            rows = file.rows.take(file.rows.of_slice(year))
            if len(rows) != PROBLEMS_A_YEAR:
                raise ConfigError(
                    f"AIME {year} has {PROBLEMS_A_YEAR} problems, {file.path} has {len(rows)} of "
                    f"them. Give a file with all of them: 'task.test_paths={{\"{year}\": …}}'."
                )
            tested.append(rows)
        return own.rows.take(own.rows.of_slice(_EARLIER)), Rows.concat(tested)
