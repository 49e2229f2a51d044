"""Confusion matrix, precision, recall and F1 by label."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.records import NO_LABEL, ModelScore


@dataclass(frozen=True)
class LabelRow:
    """One label of one model."""

    label: str
    n_items: int
    """Items whose right label it is."""
    counts: tuple[int, ...]
    """How often each label was answered to them, in the order of `LabelTable.answered`."""
    precision: float | None
    """Share right of the answers with this label; None where there are none."""
    recall: float
    """Share of its items that got it."""
    f1: float


@dataclass(frozen=True)
class LabelTable:
    """All labels of one model."""

    answered: tuple[str, ...]
    """Labels that were answered, and last, where there is such an answer, none of them."""
    rows: tuple[LabelRow, ...]
    macro_f1: float
    """Mean over the labels: each counts the same, however rare."""


def label_table(score: ModelScore) -> LabelTable | None:
    """Return the labels of a model; None where its answers are none."""
    if not score.labels:
        return None
    labels = tuple(score.labels)
    has_none = any(NO_LABEL in row for row in score.labels.values())
    answered = (*labels, *((NO_LABEL,) if has_none else ()))
    rows = []
    for label, row in score.labels.items():
        n_items, right = sum(row.values()), row.get(label, 0)
        n_answered = sum(other.get(label, 0) for other in score.labels.values())
        rows.append(
            LabelRow(
                label=label,
                n_items=n_items,
                counts=tuple(row.get(one, 0) for one in answered),
                precision=right / n_answered if n_answered else None,
                recall=right / n_items if n_items else 0.0,
                f1=2 * right / (n_items + n_answered) if n_items + n_answered else 0.0,
            )
        )
    return LabelTable(answered, tuple(rows), sum(row.f1 for row in rows) / len(rows))
