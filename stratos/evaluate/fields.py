"""Accuracy per field of JSON answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stratos.core.intervals import wilson
from stratos.records import Interval
from stratos.tasks.base import Item, Task
from stratos.tasks.objects import Path, fields_of, object_of, same


def objects_of(answers: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return the objects that answers are; None unless each of them is one."""
    found = []
    for answer in answers:
        one = object_of(answer)
        if one is None:
            return None
        found.append(one)
    return found


def field_shares(
    task: Task, items: Sequence[Item], answers: Sequence[str | None]
) -> dict[str, Interval]:
    """Return field to the share of items that have it and were answered with its value.

    Empty where some gold answer is no object. An answer that is none has no field right. A task
    that scores fields itself may count a part of one; then it is the mean.

    Args:
        task: that the items are of.
        items: with their gold answers.
        answers: as the task reads them, in the same order; None where nothing could be read.
    """
    if scored := [task.field_scores(*pair) for pair in zip(items, answers, strict=True)]:
        names = dict.fromkeys(name for scores in scored for name in scores)
        by_name = {name: [one[name] for one in scored if name in one] for name in names}
        if by_name:
            return {name: wilson(sum(some), len(some)) for name, some in by_name.items()}
    golds = objects_of([item.answer for item in items])
    if not golds:
        return {}
    right: Counter[Path] = Counter()
    n: Counter[Path] = Counter()
    for gold, answer in zip(golds, answers, strict=True):
        given = fields_of(object_of(answer or "") or {})
        for path, value in fields_of(gold).items():
            n[path] += 1
            right[path] += path in given and same(given[path], value)
    return {".".join(path): wilson(right[path], n[path]) for path in n}
