"""Decontamination: no training item may match a held-out item, exactly or in part.

What is held out is chosen by a hash of each question's canonical form before anything is asked or
generated. This is the second line: each training item is compared with what was held out
(`stratos.tasks.dedup.held_out`), and what is refused is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from stratos.config import Config
from stratos.models.kinds.student_kinds import MOST_ROWS
from stratos.tasks.base import Item, Task
from stratos.tasks.dedup.held_out import HeldOut, grams_of

_N_FOR_PHRASES = 1000
"""Training questions that are read for phrases."""
NEAR = "near duplicate"
"""Why a training item is refused: another one says nearly the same."""


def held_out(config: Config) -> HeldOut:
    """Return what this run may not train on: every validation and test item, or all that it reads.

    A task that can list all of them does so with its method `held_out`; one that draws without end
    has its splits by hash, and those that are read are compared once more.
    """
    listed = listed_by(config.task)
    if listed is not None:
        return listed
    return _held_out(config.task, _read_by(config))


def listed_by(task: Task) -> HeldOut | None:
    """Return every validation and test item of a task; None where it cannot list them."""
    items = task.held_out()
    return None if items is None else _held_out(task, items)


def labelled_rows(task: Task) -> list[Item]:
    """Return training rows of the task's own file, at most `MOST_ROWS`; none where it has none.

    Of a task that can list what it holds out, a row that repeats some of it is left out, as it is
    for the student.
    """
    if not task.has_rows:
        return []
    rows, listed = task.items("train", MOST_ROWS), listed_by(task)
    if listed is None:
        return rows
    return [item for item in rows if listed.leak(item, task.completion(item)) is None]


def _held_out(task: Task, items: Sequence[Item]) -> HeldOut:
    if not task.compares_words:
        return HeldOut(items, (), lambda question: "")
    return HeldOut(items, _others(task, items), task.own_words)


def without_leaks(config: Config, items: Iterable[Item], refused: Counter[str]) -> list[Item]:
    """Return the items whose question repeats no held-out one; the others are counted.

    Args:
        config: the run.
        items: that somebody would be asked for.
        refused: reason to how many; added to.
    """
    excluded, clean = held_out(config), []
    for item in items:
        if (leak := excluded.leak(item)) is None:
            clean.append(item)
        else:
            refused[leak] += 1
    return clean


def _read_by(config: Config) -> list[Item]:
    probe = config.probe
    n_validation = max(probe.n_items, probe.max_items, config.callbacks.n_validation_read)
    items = config.task.items("validation", n_validation)
    return items + config.task.items("test", config.evaluate.n_items, config.seed)


def _others(task: Task, items: Sequence[Item]) -> list[Item]:
    if not any(True for item in items for _ in grams_of(task.own_words(item.question))):
        return []
    return task.items("train", _N_FOR_PHRASES)
