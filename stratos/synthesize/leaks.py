"""Decontamination: no training item may match a held-out item, exactly or in part.

What is held out is chosen by a hash of each question's canonical form before anything is asked or
generated. This is the second line: each training item is compared with what was held out, three
ways, and what is refused is counted.

N-grams are those of Brown et al. (arXiv 2005.14165, appendix C), as lm-evaluation-harness checks
them: words without case and punctuation, thirteen in a row. A held-out question that is shorter,
but has eight words or more, counts as a whole. What more than ten questions have in common is a
phrase of the task and tells nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from stratos.config import Config
from stratos.tasks.base import Item, Task
from stratos.tasks.split import normalised

NGRAM = 13
SHORTEST = 8
"""Words from which on a question that is shorter than an n-gram is looked for as a whole."""
MOST_IN_COMMON = 10
"""Questions that an n-gram may be in before it counts as a phrase of the task."""
_N_FOR_PHRASES = 1000
"""Training questions that are read for phrases."""
_NO_WORD = re.compile(r"[^\w\s]+")

EXACT = "held out (exact)"
CANONICAL = "held out (canonical)"
OVERLAP = f"held out ({NGRAM}-gram)"


class HeldOut:
    """Tells whether an item repeats what is held out.

    Args:
        items: what is held out.
        others: training questions, to tell what all questions of the task have in common.
        own_words: the part of a question that is compared (`Task.own_words`).
    """

    def __init__(
        self,
        items: Iterable[Item],
        others: Sequence[Item] = (),
        own_words: Callable[[str], str] = str,
    ) -> None:
        """Keep ids, families and n-grams; no text."""
        items = list(items)
        self._own_words = own_words
        self._ids = frozenset(item.id for item in items)
        self._families = frozenset(map(family_of, items))
        n_with: Counter[str] = Counter()
        for item in items:
            n_with.update(set(_to_look_for(own_words(item.question))))
        self._by_beginning = _by_beginning(n_with)
        if n_with:
            for item in others:
                n_with.update(set(self._grams(own_words(item.question))))
        self._by_beginning = _by_beginning(g for g, n in n_with.items() if n <= MOST_IN_COMMON)

    def leak(self, item: Item, completion: str = "") -> str | None:
        """Return in which way an item, or its text, repeats what is held out; None if in none."""
        if item.id in self._ids:
            return EXACT
        if family_of(item) in self._families:
            return CANONICAL
        if self._by_beginning:
            found = next(self._grams(f"{self._own_words(item.question)}\n{completion}"), None)
            return OVERLAP if found is not None else None
        return None

    def _grams(self, text: str) -> Iterator[str]:
        """Yield the n-grams of a text that are looked for, found by their first words."""
        words = _words(text)
        for start in range(len(words) - SHORTEST + 1):
            for gram in self._by_beginning.get(" ".join(words[start : start + SHORTEST]), ()):
                if " ".join(words[start : start + gram.count(" ") + 1]) == gram:
                    yield gram


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
    held, left = held_out(config), []
    for item in items:
        if (leak := held.leak(item)) is None:
            left.append(item)
        else:
            refused[leak] += 1
    return left


def family_of(item: Item) -> str:
    """Return what an item shares with its mirrors; its id where the task has none."""
    return item.family or item.id


def _read_by(config: Config) -> list[Item]:
    probe = config.probe
    n_validation = max(probe.n_items, probe.max_items, config.callbacks.n_validation_read)
    items = config.task.items("validation", n_validation)
    return items + config.task.items("test", config.evaluate.n_items, config.seed)


def _others(task: Task, items: Sequence[Item]) -> list[Item]:
    if not any(True for item in items for _ in _to_look_for(task.own_words(item.question))):
        return []
    return task.items("train", _N_FOR_PHRASES)


def _to_look_for(text: str) -> Iterator[str]:
    words = _words(text)
    if SHORTEST <= len(words) < NGRAM:
        yield " ".join(words)
    for start in range(len(words) - NGRAM + 1):
        yield " ".join(words[start : start + NGRAM])


def _words(text: str) -> list[str]:
    return _NO_WORD.sub("", normalised(text)).split()


def _by_beginning(grams: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for gram in grams:
        found.setdefault(" ".join(gram.split(" ", SHORTEST)[:SHORTEST]), []).append(gram)
    return found
