"""What an accuracy has to be read against: a random guess, and memory without understanding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stratos.evaluate.metrics import mean
from stratos.evaluate.scores import by_slice
from stratos.records import Interval, ModelScore, SliceScore
from stratos.tasks.base import Item, Score, Task


def chance(task: Task, items: Sequence[Item]) -> ModelScore:
    """Return what a random guess is expected to score.

    A task may say with a method `chance(item)` how often a guess at that item is right; without
    one, a free answer is taken to be hit never. Among the item's choices, each is as likely. An
    expectation has no sampling error, so its interval is a point.
    """
    hit = getattr(task, "chance", None)
    expected = [float(hit(item)) if hit is not None else 0.0 for item in items]
    rows = by_slice(items, [Score(exact=share, f1=share, parsed=True) for share in expected])
    return ModelScore(
        role="chance",
        name="random guess",
        slices=tuple(replace(row, exact=_exactly(row), choice=_choice(row, items)) for row in rows),
    )


def lookup(task: Task, corpus_path: Path, items: Sequence[Item]) -> ModelScore:
    """Score the answer of the nearest training item: how far memory alone gets."""
    answers = task.lookup(training_items(corpus_path), items)
    scores = [task.score(answer, item) for answer, item in zip(answers, items, strict=True)]
    return ModelScore(role="lookup", name="nearest training item", slices=by_slice(items, scores))


def training_items(corpus_path: Path) -> list[Item]:
    """Read the items of a corpus file."""
    import pyarrow.parquet

    columns = ["id", "slice", "question", "rationale", "answer"]
    table = pyarrow.parquet.read_table(corpus_path, columns=columns)
    return [Item(**row) for row in table.to_pylist()]


def _exactly(row: SliceScore) -> Interval:
    return Interval(row.exact.mean, row.exact.mean, row.exact.mean, "expectation of a random guess")


def _choice(row: SliceScore, items: Sequence[Item]) -> float | None:
    choices = [
        len(item.choices) for item in items if item.choices and row.slice in (item.slice, "all")
    ]
    return mean([1 / n for n in choices]) if choices else None
