"""Several samples per question: when to stop, and which one to train on.

Pure functions of what was answered so far. Every rule asks an easy question less often than a hard
one: a question is left alone as soon as further answers could not change what is kept, or hardly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from stratos.synthesize.words import NotLearnt
from stratos.tasks.answers import AnswerText

Rule = Literal["first", "shortest", "majority", "likeliest"]

_ENOUGH_RIGHT = 2
"""Right answers after which the best of them is taken."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of the teacher to a question."""

    text: str
    answer: AnswerText | None
    """As the task read it; None if it could not."""
    is_right: bool
    is_cut: bool = False
    """True if it ended at the longest length."""
    is_unread: bool = False
    """True if the question passes the teacher's context."""


def settled(rule: Rule, attempts: Sequence[Attempt], n_left: int) -> bool:
    """Return whether a question needs no further answer.

    Args:
        rule: first is settled by one right answer, shortest and likeliest by two, majority when
            the rest of the answers could not change who leads.
        attempts: the answers so far.
        n_left: how many more may be asked for.
    """
    if n_left <= 0:
        return True
    n_right = sum(attempt.is_right for attempt in attempts)
    if rule == "first":
        return n_right > 0
    if rule == "majority":
        first, second = (*(n for _, n in _votes(attempts).most_common(2)), 0, 0)[:2]
        return first - second > n_left
    return n_right >= _ENOUGH_RIGHT


def fewest(rule: Rule, n_most: int) -> int:
    """Return after how many answers, all the same and right, a question is settled."""
    if rule == "first":
        return 1
    return min(n_most, n_most // 2 + 1 if rule == "majority" else _ENOUGH_RIGHT)


def choose(
    rule: Rule,
    attempts: Sequence[Attempt],
    likelihood: Callable[[Sequence[str]], Sequence[float]] | None = None,
) -> Attempt | NotLearnt:
    """Return the answer that is learnt, or the reason why none is.

    Args:
        rule: first, shortest (fewest characters), majority (the right answer has to be the most
            frequent one, too; a lone lucky guess is none) or likeliest (to the student).
        attempts: at least one.
        likelihood: for likeliest: the student's log-likelihood of each text.
    """
    right = [attempt for attempt in attempts if attempt.is_right]
    if not right:
        if any(attempt.answer is not None for attempt in attempts):
            return NotLearnt.WRONG
        if all(attempt.is_unread for attempt in attempts):
            return NotLearnt.UNREAD
        is_cut = all(attempt.is_cut for attempt in attempts)
        return NotLearnt.CUT_OFF if is_cut else NotLearnt.UNPARSABLE
    if rule == "majority":
        votes = _votes(attempts)
        of_right = {attempt.answer for attempt in right}
        n_right = sum(votes[answer] for answer in of_right)
        most_wrong = max((n for answer, n in votes.items() if answer not in of_right), default=0)
        if n_right <= most_wrong:
            return NotLearnt.OUTVOTED
    if rule == "shortest":
        return min(right, key=lambda attempt: len(attempt.text))
    if rule == "likeliest" and likelihood is not None and len(right) > 1:
        scores = likelihood([attempt.text for attempt in right])
        return right[max(range(len(right)), key=lambda index: scores[index])]
    return right[0]


def _votes(attempts: Sequence[Attempt]) -> Counter[str | None]:
    return Counter(attempt.answer for attempt in attempts if attempt.answer is not None)
