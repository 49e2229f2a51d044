"""Stop asking a teacher whose first answers are all wrong.

Of n wrong answers and no right one, at most 3/n of all are right (95%, the rule of three).
"""

from __future__ import annotations

from stratos.core.counted import counted
from stratos.core.errors import TeacherError
from stratos.core.formats import percent, percent_range
from stratos.core.intervals import wilson
from stratos.core.money import exact_usd

LEAST, _MOST, _SHARE = 64, 512, 1 / 16
"""Items of the first look: a share of all of them, between two bounds."""


def size_of_first_look(n_items: int) -> int:
    """Return after how many items it is told whether a teacher is ever right; 0 for no look.

    Args:
        n_items: of all.
    """
    n = round(min(_MOST, max(LEAST, _SHARE * n_items)))
    return n if n < n_items else 0


def shown_first(who: str, what: str, n_good: int, n: int, n_items: int, paid_usd: float) -> str:
    """Return as a sentence what the first answers show, before all others are paid.

    Args:
        who: was asked.
        what: is so of the good ones, such as "agree".
        n_good: how many are.
        n: items that were asked about.
        n_items: how many there are.
        paid_usd: what these cost.
    """
    share = wilson(n_good, n)
    paid = ""
    if paid_usd:
        rest = exact_usd(paid_usd * (n_items - n) / n)
        paid = f" {exact_usd(paid_usd)} is paid for them, about {rest} for the others."
    return (
        f"Teacher {who}: of the first {counted(n, 'item')} of {n_items:,}, {n_good} {what}, "
        f"{percent(share.mean)} ({percent_range(share.low, share.high)}).{paid}"
    )


def none_right(said: str, n: int, n_items: int, paid_usd: float, instead: str) -> TeacherError:
    """Return the error that ends the asking.

    Args:
        said: what was wrong, and the first example of it, as sentences.
        n: how many it was asked.
        n_items: how many there are.
        paid_usd: what that cost.
        instead: what to type.
    """
    paid = f" {exact_usd(paid_usd)} is paid for them." if paid_usd else ""
    return TeacherError(
        f"{said}{paid} At most {3 / n:.1%} of all {n_items:,} can be expected to be right (95%): "
        f"no more are asked. Type {instead}."
    )
