"""Stop asking a teacher whose first answers are all wrong.

Of n wrong answers and no right one, at most 3/n of all are right (95%, the rule of three).
"""

from __future__ import annotations

from stratos.core.errors import TeacherError
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
