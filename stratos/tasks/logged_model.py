"""What a log proves of the model that wrote its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, pstdev


@dataclass(frozen=True)
class LoggedModel:
    """The model that wrote most answers of a log, by those of the validation time."""

    name: str
    """As the log has it; "" where it names none."""
    n_rows: int
    """Answers that were looked at."""
    doubts: Counter[str] = field(default_factory=Counter)
    """Why to how many of them are doubtful."""
    is_checked: bool = True
    """False where nothing in the log could show that an answer is wrong."""
    input_tokens: tuple[float, ...] = ()
    """Of each answer that was looked at."""
    output_tokens: tuple[float, ...] = ()
    are_counted: bool = True
    """False where the log does not say tokens, so that they are told by the length of the texts."""

    @property
    def n_held(self) -> int:
        """How many of the answers nothing speaks against."""
        return self.n_rows - self.doubts.total()


def mean_and_deviation(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation; zeros of nothing."""
    found = list(values)
    return (fmean(found), pstdev(found)) if found else (0.0, 0.0)
