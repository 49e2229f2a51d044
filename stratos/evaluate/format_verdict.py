"""What a comparison says about a format: whether it loses more than is allowed, as far as it shows.

The rule (docs/hosting.md has how often it is wrong):

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


def verdict(export: Export, most: float) -> Verdict:
    """Return what the items show about a format that may lose `most` points."""
    loss = export.loss_points
    if loss.mean > most and loss.low > 0:
        return Verdict.LOSES
    if round(export.evaluated.mean * export.n_items) < LEAST_RIGHT:
        return Verdict.TEXTS
    if loss.high <= most:
        return Verdict.SHOWN
    return Verdict.TEXTS if export.n_items < LEAST_ITEMS else Verdict.OPEN


def in_words(export: Export) -> str:
    """Return the verdict in words, for tables of formats."""
    most = export.max_loss_points
    outcome = verdict(export, most)
    if outcome is Verdict.LOSES:
        return f"loses more than {most:g}"
    if outcome is Verdict.SHOWN:
        return f"loses no more than {most:g}"
    if outcome is Verdict.OPEN:
        return f"not shown: up to {export.loss_points.high:.1f}"
    return "all texts are the same" if _is_same(export) else outcome.value


def doubt(export: Export, most: float, n_asked: int, n_evaluated: int) -> str:
    """Return what is not shown about a format that is kept; "" where all texts are the same.

    Args:
        export: the format.
        most: points that it may lose.
        n_asked: items that it was to be asked; with little time it was asked fewer.
        n_evaluated: items of the evaluation, which are the most that it can be asked.
    """
    outcome = verdict(export, most)
    if _is_same(export):
        return ""
    if outcome is Verdict.OPEN:
        return (
            f"{export.format} is kept, and it is not shown to lose no more than "
            f"deploy.max_loss_points={most:g}: on {export.n_items:,} items the 95% interval "
            f"reaches to {export.loss_points.high:.1f} points. "
            f"{_more(export.n_items, n_asked, n_evaluated)}"
        )
    if outcome is Verdict.TEXTS:
        return f"{by_text(export)} It is kept."
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


def by_text(export: Export) -> str:
    """Say that accuracy cannot tell, and how many texts are the same."""
    right = round(export.evaluated.mean * export.n_items)
    return (
        f"{export.format} cannot be compared by accuracy ({export.n_items:,} items, {right:,} "
        f"right in the evaluation): {export.n_equal:,} of {export.n_items:,} answers have the same "
        "text."
    )


def is_open_by_text(export: Export) -> bool:
    """Return whether accuracy cannot tell, and not all texts are the same."""
    most = export.max_loss_points
    tells = most is None or verdict(export, most) is not Verdict.TEXTS
    return not tells and not _is_same(export)


def _is_same(export: Export) -> bool:
    """Return whether all answers have the text of the evaluation."""
    return export.n_equal == export.n_items
