"""What a comparison says about a format: whether it loses more than is allowed, as far as it shows.

The rule (docs/hosting.md has how often it is wrong, by benchmarks/serving/format_rule.py):

- It loses too much where the estimate is above the limit, and the 95% interval excludes 0.
- It is shown to lose no more where the upper end of the interval is within the limit.
- In between it is kept, and the interval's upper end is said.
- Few items, or few right answers, cannot tell: then the texts count.
"""

from __future__ import annotations

from enum import Enum

from stratos.records import Export

LEAST_ITEMS = 100
"""Items below which a single one is more than a point."""
LEAST_RIGHT = 10
"""Right answers in the evaluation below which there is next to nothing to lose."""


class Verdict(Enum):
    """What was shown."""

    LOSES = "loses too much"
    SHOWN = "loses no more"
    OPEN = "not shown"
    TEXTS = "cannot be compared by accuracy"


def verdict(one: Export, most: float) -> Verdict:
    """Return what the items show about a format that may lose `most` points."""
    loss = one.loss_points
    if loss.mean > most and loss.low > 0:
        return Verdict.LOSES
    if round(one.evaluated.mean * one.n_items) < LEAST_RIGHT:
        return Verdict.TEXTS
    if loss.high <= most:
        return Verdict.SHOWN
    return Verdict.TEXTS if one.n_items < LEAST_ITEMS else Verdict.OPEN


def said(one: Export) -> str:
    """Return the verdict in words, for tables of formats."""
    most = one.max_loss_points
    found = verdict(one, most)
    if found is Verdict.LOSES:
        return f"loses more than {most:g}"
    if found is Verdict.SHOWN:
        return f"loses no more than {most:g}"
    if found is Verdict.OPEN:
        return f"not shown: up to {one.loss_points.high:.1f}"
    return "all texts are the same" if _is_same(one) else found.value


def doubt(one: Export, most: float, n_asked: int, n_evaluated: int) -> str:
    """Return what is not shown about a format that is kept; "" where nothing is open.

    Args:
        one: the format.
        most: points that it may lose.
        n_asked: items that it was to be asked; with little time it was asked fewer.
        n_evaluated: items of the evaluation, which are the most that it can be asked.
    """
    found = verdict(one, most)
    if found is Verdict.OPEN:
        return (
            f"{one.format} is kept, and it is not shown to lose no more than "
            f"deploy.max_loss_points={most:g}: on {one.n_items:,} items the 95% interval reaches "
            f"to {one.loss_points.high:.1f} points. {_more(one.n_items, n_asked, n_evaluated)}"
        )
    if found is Verdict.TEXTS and not _is_same(one):
        return f"{by_text(one)} It is kept."
    return ""


def _more(n: int, n_asked: int, n_evaluated: int) -> str:
    """Say how a format is asked more items, or where they could come from."""
    if n < n_asked:
        return "There was no time for more: deploy.export_minutes=<minutes> gives it."
    if n < n_evaluated:
        return f"deploy.n_export_items={min(4 * n, n_evaluated)} asks more."
    return (
        f"These are all items of the evaluation: more test rows (task.test_path=<file>, or "
        f"evaluate.n_items={4 * n} where the test split has them) would show it."
    )


def by_text(one: Export) -> str:
    """Say that accuracy cannot tell, and how many texts are the same."""
    right = round(one.evaluated.mean * one.n_items)
    return (
        f"{one.format} cannot be compared by accuracy ({one.n_items:,} items, {right:,} right in "
        f"the evaluation): {one.n_equal:,} of {one.n_items:,} answers have the same text."
    )


def is_open_by_text(one: Export) -> bool:
    """Return whether accuracy cannot tell, and not all texts are the same."""
    most = one.max_loss_points
    tells = most is None or verdict(one, most) is not Verdict.TEXTS
    return not tells and not _is_same(one)


def _is_same(one: Export) -> bool:
    """Return whether all answers have the text of the evaluation."""
    return one.n_equal == one.n_items
