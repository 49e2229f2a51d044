"""Prompt selection by racing: try all prompts on a few items and drop the worse ones.

After 8, 16 … items a prompt that can no longer win is asked no more: the items that are left do not
make up for what it lacks, or its interval lies below that of the best, or it is in the worse half
(successive halving). Where no prompt has a right answer after 8 items, none is asked more.

A sequential test of coverage against thresholds: more items are asked until it is decided. Whoever
looks at an interval again and again, and stops as soon as it lies on one side, errs more often than
its confidence says. So each of at most `n` looks is at a confidence of 1 - 0.05/n, with which all
looks together err at most as often as one at 95% (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from stratos.core.intervals import wilson
from stratos.synthesize.choice import straddles
from stratos.tasks.base import Item, Score
from stratos.teachers.answer_limit import AnswerLimit, is_truncated, n_truncated
from stratos.teachers.base import Answer

_FIRST = 8
"""Items of the first look. A model on this machine answers all prompts together, in hardly more
time than one of them."""


@dataclass(frozen=True)
class Answered:
    """Items with a teacher's answers under one prompt, and their scores."""

    items: tuple[Item, ...] = ()
    answers: tuple[Answer, ...] = ()
    scores: tuple[Score, ...] = ()
    limit: AnswerLimit = field(default_factory=lambda: AnswerLimit(0, ""))
    """Longest answer, as it was asked for last."""

    def __add__(self, other: Answered) -> Answered:
        """Put later answers, and the limit that they were asked with, behind these."""
        return Answered(
            self.items + other.items,
            self.answers + other.answers,
            self.scores + other.scores,
            other.limit,
        )

    @property
    def n_right(self) -> int:
        """How many answers are exactly right."""
        return sum(score.exact == 1 for score in self.scores)

    @property
    def n_truncated(self) -> int:
        """How many answers were cut at the longest length."""
        return n_truncated(self.answers)

    @property
    def n_cut_and_wrong(self) -> int:
        """How many answers might be right if they were longer."""
        pairs = zip(self.answers, self.scores, strict=True)
        return sum(is_truncated(answer) and score.exact < 1 for answer, score in pairs)

    def merit(self) -> tuple[float, float, float]:
        """Return what prompts are compared by: exact match, then F1, then share parsable."""
        if not self.scores:
            return (0.0, 0.0, 0.0)
        return (
            fmean(score.exact for score in self.scores),
            fmean(score.f1 for score in self.scores),
            fmean(score.parsed for score in self.scores),
        )


def sizes(n_trial: int) -> list[int]:
    """Return after how many items prompts are compared."""
    found = []
    size = min(_FIRST, n_trial)
    while size:
        found.append(size)
        size = min(2 * size, n_trial) if size < n_trial else 0
    return found


def left_in(tried: Mapping[str, Answered], n_trial: int) -> list[str]:
    """Return the prompts that are worth asking more items; one or none ends the race.

    Args:
        tried: prompt to its answers so far.
        n_trial: items on which a prompt is tried at most.
    """
    most = max(len(one.items) for one in tried.values())
    still = {name: one for name, one in tried.items() if len(one.items) == most}
    best = max(still.values(), key=Answered.merit)
    if best.n_right == 0 and most >= _FIRST:
        return []
    left = [name for name, one in still.items() if can_win(one, best, n_trial)]
    better = sorted(left, key=lambda name: still[name].merit(), reverse=True)
    return [name for name in left if name in better[: max(2, -(-len(left) // 2))]]


def can_win(one: Answered, best: Answered, n_trial: int, n_open: int = 0) -> bool:
    """Return whether a prompt may still turn out better than the best so far, or is it.

    Args:
        one: its answers.
        best: those of the best prompt, to the same items.
        n_trial: items on which a prompt is tried at most.
        n_open: answers that may still become right, such as those that were cut.
    """
    if one is best:
        return True
    n, n_right = len(one.items), one.n_right + n_open
    if n_right + (n_trial - n) <= best.n_right:
        return False
    own, leading = wilson(n_right, n), wilson(best.n_right, len(best.items))
    return own.high > leading.low


def winner(tried: Mapping[str, Answered], order: Sequence[str]) -> str:
    """Return the best prompt of those that were asked most; of equals the first."""
    most = max((len(one.items) for one in tried.values()), default=0)
    still = [name for name in order if name in tried and len(tried[name].items) == most]
    return max(still, key=lambda name: tried[name].merit())


ERROR = 0.05
"""Share of tests that may end on the wrong side of a threshold."""


def looks(n_first: int, n_items: int, n_most: int) -> list[int]:
    """Return after how many items the coverage is looked at.

    Args:
        n_first: items of the first look.
        n_items: of the second; their number is then doubled each time.
        n_most: of the last.
    """
    sizes = [n_first, *([n_items] if n_items > n_first else [])]
    while sizes[-1] < n_most:
        sizes.append(min(2 * sizes[-1], n_most))
    return sizes


def surely_below(k: int, n: int, thresholds: Iterable[float], n_looks: int = 1) -> bool:
    """Return whether `k` right answers of `n` are surely too few for every threshold.

    Args:
        k: right answers.
        n: answers.
        thresholds: shares; where there are none, nothing is too few.
        n_looks: how often it is looked at most.
    """
    least = min(thresholds, default=0.0)
    return wilson(k, n, 1 - ERROR / n_looks).high < least


def undecided(k: int, n: int, thresholds: Iterable[float], n_looks: int = 1) -> list[float]:
    """Return the thresholds that `k` right answers of `n` do not settle, at one of several looks.

    Args:
        k: right answers.
        n: answers.
        thresholds: shares on whose side the coverage is to be known.
        n_looks: how often it is looked at most.
    """
    interval = wilson(k, n, 1 - ERROR / n_looks)
    return [threshold for threshold in thresholds if straddles(interval, threshold)]


def listed(thresholds: Sequence[float]) -> str:
    """Return thresholds as words, such as "30% and 50%"."""
    return " and ".join(f"{threshold:.0%}" for threshold in thresholds)
