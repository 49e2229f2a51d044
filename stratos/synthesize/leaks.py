"""Decontamination: no training item may match a held-out item, exactly or in part.

What is held out is chosen by a hash of each question's canonical form before anything is asked or
generated. This is the second line: each training item is compared with what was held out, three
ways, and what is refused is counted.

N-grams are those of Brown et al. (arXiv 2005.14165, appendix C), as lm-evaluation-harness checks
them: words without case and punctuation, thirteen in a row. A held-out question that is shorter,
but has eight words or more, counts as a whole. What more than ten questions have in common is a
phrase of the task and tells nothing; copies of one question with some words changed are one of
them. Of a text with few spaces characters are compared, two for each word.

Near duplicates are left out, too: questions with most word triples in common (their Jaccard index
reaches a threshold), the same numbers in them, and the same answer. Triples that many questions
share are phrases of the task and do not count. A question of few words is compared by its hash
alone. MinHash (Broder 1997) estimates the index from the smallest value of each of 64 hash
functions; bands of four find candidates without comparing all pairs (Leskovec et al., Mining of
Massive Datasets, chapter 3).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import nsmallest
from typing import TYPE_CHECKING

from stratos.config import Config
from stratos.models.kinds.suits import MOST_ROWS
from stratos.synthesize.words import NGRAM, Leak
from stratos.tasks.base import Item, Task
from stratos.tasks.split import normalised, order_key, words_of

if TYPE_CHECKING:
    import numpy as np


SHORTEST = 8
"""Words from which on a question that is shorter than an n-gram is looked for as a whole."""
MOST_IN_COMMON = 10
"""Questions that an n-gram may be in before it counts as a phrase of the task."""
_N_FOR_PHRASES = 1000
"""Training questions that are read for phrases."""
_N_FOR_COPIES = 2000
"""Questions with phrases that are looked at for copies."""


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
        further: Sequence[Item] = (),
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
            for item in further:
                n_with.update(set(self._grams(own_words(item.question))))
        often = [gram for gram, n in n_with.items() if n > MOST_IN_COMMON]
        self._by_beginning = _by_beginning(often)
        phrases = self._phrases([*items, *further]) if often else set()
        self._by_beginning = _by_beginning(gram for gram in n_with if gram not in phrases)

    def leak(self, item: Item, completion: str = "") -> Leak | None:
        """Return in which way an item, or its text, repeats what is held out; None if in none."""
        if item.id in self._ids:
            return Leak.EXACT
        if family_of(item) in self._families:
            return Leak.CANONICAL
        if self._by_beginning:
            gram = next(self._grams(f"{self._own_words(item.question)}\n{completion}"), None)
            return Leak.OVERLAP if gram is not None else None
        return None

    def _phrases(self, items: Iterable[Item]) -> set[str]:
        """Return the n-grams of those looked for that many questions share, copies counted once."""
        from stratos.tasks.copies import groups_of_copies, triples_in

        texts = ((item.id, self._own_words(item.question)) for item in items)
        shared = [(id, text) for id, text in texts if any(True for _ in self._grams(text))]
        sample = nsmallest(_N_FOR_COPIES, shared, key=lambda pair: order_key(pair[0], 0))
        groups = groups_of_copies([triples_in(_words(text)) for _, text in sample])
        pairs = {
            (group, gram)
            for group, (_, text) in zip(groups.tolist(), sample, strict=True)
            for gram in self._grams(text)
        }
        counts = Counter(gram for _, gram in pairs)
        most = MOST_IN_COMMON * len(sample) / len(shared)
        return {gram for gram, n in counts.items() if n > most}

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
    a_word = 2 if len(words) > 2 * len(text.split()) else 1  # where they are characters
    n = a_word * NGRAM
    if a_word * SHORTEST <= len(words) < n:
        yield " ".join(words)
    for start in range(len(words) - n + 1):
        yield " ".join(words[start : start + n])


def _words(text: str) -> list[str]:
    return words_of(normalised(text))


def _by_beginning(grams: Iterable[str]) -> dict[str, list[str]]:
    by_beginning: dict[str, list[str]] = {}
    for gram in grams:
        by_beginning.setdefault(" ".join(gram.split(" ", SHORTEST)[:SHORTEST]), []).append(gram)
    return by_beginning


NEAR = "near duplicate"
_FEWEST_WORDS = 8
_PHRASE_SHARE = 0.05
"""Share of the questions from which on a triple counts as a phrase of the task."""
_NUMBER = re.compile(r"\d+")


class NearDuplicates:
    """Remembers questions by their MinHash.

    Args:
        threshold: Jaccard index from which on two questions are near duplicates.
        sample: questions of the task, to tell its phrases.
        own_words: the part of a question that is compared (`Task.own_words`).
    """

    def __init__(
        self,
        threshold: float,
        sample: Iterable[Item] = (),
        own_words: Callable[[str], str] = str,
    ) -> None:
        """Draw the hash functions: the same in every run."""
        from stratos.tasks.copies import MinHash, common

        self._own_words = own_words
        self._threshold = threshold
        self._hashes = MinHash()
        self._bands: dict[tuple[int, bytes, bytes], list[int]] = {}
        self._kept: list[np.ndarray] = []
        texts = [self._triples(item) for item in sample]
        self._phrases = common(texts, max(2.0, _PHRASE_SHARE * len(texts)))

    def is_near(self, item: Item) -> bool:
        """Return whether a question that was kept says the same; if none does, keep this one."""
        from stratos.tasks.copies import BAND, N_HASHES, is_in

        triples = self._triples(item)
        triples = triples[~is_in(triples, self._phrases)]
        if not len(triples):
            return False
        signature = self._hashes.signature(triples)
        sense = _sense(item)
        keys = [
            (band, sense, signature[band : band + BAND].tobytes())
            for band in range(0, N_HASHES, BAND)
        ]
        candidates = {index for key in keys for index in self._bands.get(key, ())}
        if any((self._kept[index] == signature).mean() >= self._threshold for index in candidates):
            return True
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._kept))
        self._kept.append(signature)
        return False

    def _triples(self, item: Item) -> np.ndarray:
        """Return the word triples of a question, sorted; none of one with few words."""
        from stratos.tasks.copies import triples_in

        words = words_of(normalised(self._own_words(item.question)))
        return triples_in(words if len(words) >= _FEWEST_WORDS else ())


def _sense(item: Item) -> bytes:
    """Return the hash of what two near duplicates must have in common: numbers and answer."""
    numbers = sorted(_NUMBER.findall(item.question))
    text = "\x1f".join([normalised(item.answer), *numbers])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
