"""Confusion matrix of label answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stratos.records import NO_LABEL
from stratos.tasks.base import Item
from stratos.tasks.split import normalised

_MOST_LABELS = 40
"""Labels above which nobody reads a table of them."""
_ITEMS_PER_LABEL = 2


def confusion(items: Sequence[Item], answers: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """Return right label to answered label to how often; empty where answers are no labels.

    Args:
        items: with their gold answers.
        answers: as the task reads them, in the same order; None where nothing could be read.
    """
    labels = {normalised(item.answer): item.answer for item in items}
    if not 2 <= len(labels) <= min(_MOST_LABELS, len(items) // _ITEMS_PER_LABEL):
        return {}
    counts: dict[str, Counter[str]] = {label: Counter() for label in sorted(labels.values())}
    for item, answer in zip(items, answers, strict=True):
        gold = labels[normalised(item.answer)]
        counts[gold][labels.get(normalised(answer or ""), NO_LABEL)] += 1
    return {gold: dict(sorted(row.items())) for gold, row in counts.items()}
