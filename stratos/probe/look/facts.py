"""What a look reads of a file, without learning anything: columns, answers, lengths, doubts."""

from __future__ import annotations

import contextlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

from stratos.core.errors import ConfigError
from stratos.core.foreign import beside, why_unreadable
from stratos.core.formats import writable
from stratos.core.reasons import Reason
from stratos.core.redact import personal_data
from stratos.core.remote import local_path
from stratos.probe.look.columns import (
    AnswerKind,
    chosen,
    kind_of,
    no_answers,
    time_column,
    why_id,
)
from stratos.probe.words import LooksLikeId, NoRows, Unreadable
from stratos.tasks.dedup.hashes import content_hash, normalised, words_of
from stratos.tasks.doubts import language_of
from stratos.tasks.files import is_local, read_records
from stratos.tasks.rows import answer_of, text_of
from stratos.tasks.words import NotUtf8

_FIRST = 1_000
"""Rows that tell which column is which."""
_MOST_COMPARED = 5_000
"""Different texts among which near duplicates are looked for."""
_MOST_LANGUAGES = 2_000
"""Texts whose language is looked at."""
_MOST_HARMLESS = 2_000
"""Texts that are not searched again for personal data: labels repeat."""
_LEAKS = 0.8
"""Share of the texts with their own label from which it is a leak."""
_ONE_TO_ONE, _FEWEST_LEAKS = 0.97, 8
"""Share of the texts of a label with a token, and of the texts with the token that are of the
label, from which it tells the label; and texts below which that may be chance."""
_MOST_LINES = 5
"""Lines that are named of one thing."""


@dataclass(frozen=True)
class Lengths:
    """Characters of the texts of a file."""

    median: int
    p95: int
    """95% are no longer."""
    longest: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lengths:
        """Return those of some texts, at least one."""
        lengths = sorted(map(len, texts))
        return cls(round(median(lengths)), lengths[round(0.95 * (len(lengths) - 1))], lengths[-1])


@dataclass(frozen=True)
class Finding:
    """Personal data, or keys, of one kind."""

    kind: str
    n_rows: int
    lines: tuple[str, ...]
    """The first rows that have some: "line 3"."""
    column: str
    """Of the first."""
    masked: str
    """How the first begins."""


@dataclass(frozen=True)
class Facts:
    """What is in a file."""

    path: str
    kind: AnswerKind
    text: str
    """Name of the column with the text."""
    answer: str
    """The same of the answer."""
    columns: tuple[str, ...]
    n_rows: int
    """All rows of the file."""
    n_broken: int
    """Rows that cannot be read."""
    why_broken: str
    """Where and why the first of them cannot; "" where all can."""
    n_without_text: int
    n_unlabelled: int
    """Rows with a text and no answer."""
    n_labelled: int
    """Rows with both."""
    n_repeats: int
    """Of these the ones that repeat the text and the answer of another."""
    contradictions: tuple[tuple[str, ...], ...]
    """Of each text with several answers the rows that have it: ("line 3", "line 9")."""
    n_near: int
    """Texts that differ in little from another one."""
    n_compared: int
    """Texts among which these were looked for."""
    n_different: int
    """Different answers; of several labels, different labels."""
    words_of_answer: float
    """On average."""
    labels: dict[str, int]
    """Of labels the rows of each, the most frequent first; empty for other kinds of answers."""
    separator: str
    """What stands between several labels of a text."""
    lengths: Lengths
    languages: dict[str, int]
    """Texts in each language or script, by letters and common words; the others tell nothing."""
    n_languages: int
    """Texts that were looked at for it."""
    personal: tuple[Finding, ...]
    n_with_label: int
    """Rows whose text holds its own label, where texts hold no others: a leak of the label."""
    leaks: dict[str, str]
    """Labels that one token tells: it is in nearly all texts of the label and in no others."""
    sorted_by: str
    """Column of dates or times that the first rows are sorted by; "" for none."""
    like_id: LooksLikeId | None = None
    """That the answers look like ids of the rows; None where they do not."""
    is_answer_guessed: bool = False
    """Whether nobody named the column of the answers."""

    @property
    def needs_skip(self) -> bool:
        """Whether a run stops at some rows, unless it is told to skip them."""
        n = self.n_broken + self.n_without_text + self.n_unlabelled + len(self.contradictions)
        return n > 0


class _Reading:
    """Takes the rows of a file in, one after the other."""

    def __init__(self, text: str, answer: str) -> None:
        self._text, self._answer = text, answer
        self.why_broken = ""
        self.n_rows = self.n_broken = self.n_without_text = self.n_unlabelled = 0
        self.lines: list[str] = []
        self.texts: list[str] = []
        self.answers: list[str] = []
        self._ids = array("Q")
        self._personal: dict[str, tuple[int, list[str], str, str]] = {}
        self._harmless: set[str] = set()

    def add(self, line: str, data: dict[str, Any] | Reason) -> None:
        self.n_rows += 1
        if isinstance(data, Reason):
            self.n_broken += 1
            self.why_broken = self.why_broken or f"{line}: {data}"
            return
        text, answer = text_of(data, self._text), answer_of(data, self._answer)
        self._look_for_personal(line, data)
        if not text:
            self.n_without_text += 1
        elif not answer:
            self.n_unlabelled += 1
        else:
            self.lines.append(line)
            self.texts.append(text)
            self.answers.append(answer)
            self._ids.append(content_hash(normalised(text)))

    def _look_for_personal(self, line: str, data: dict[str, Any]) -> None:
        kinds: dict[str, tuple[str, str]] = {}  # of each the first column, and how it begins
        for column in data:
            text = text_of(data, column)
            if text in self._harmless:
                continue
            personal = dict(personal_data(text))
            if not personal and len(self._harmless) < _MOST_HARMLESS:
                self._harmless.add(text)
            kinds = {kind: (str(column), masked) for kind, masked in personal.items()} | kinds
        for kind, first in kinds.items():
            n, lines, *known = self._personal.get(kind, (0, [], *first))
            self._personal[kind] = n + 1, [*lines, line][:_MOST_LINES], known[0], known[1]

    @property
    def personal(self) -> tuple[Finding, ...]:
        most_first = sorted(self._personal.items(), key=lambda item: -item[1][0])
        return tuple(
            Finding(kind, n, tuple(lines), *first) for kind, (n, lines, *first) in most_first
        )

    @cached_property
    def _groups(self) -> list[list[int]]:
        """The rows of each text, in the order of the file."""
        groups: dict[int, list[int]] = {}
        for row, key in enumerate(self._ids):
            groups.setdefault(key, []).append(row)
        return list(groups.values())

    def repeats(self) -> tuple[int, tuple[tuple[str, ...], ...]]:
        """Return how many rows repeat another, and the rows of texts with several answers."""
        n_repeats, several = 0, []
        for rows in self._groups:
            answers = {normalised(self.answers[row]) for row in rows}
            if len(answers) > 1:
                several.append(tuple(self.lines[row] for row in rows))
            else:
                n_repeats += len(rows) - 1
        return n_repeats, tuple(several)

    def near(self) -> tuple[int, int]:
        """Return how many different texts have a near duplicate, and how many were compared."""
        import numpy as np

        from stratos.tasks.dedup.near import Alike

        alike = Alike()
        for first, *_ in self._groups[:_MOST_COMPARED]:
            answer = content_hash(normalised(self.answers[first]))
            alike.add(self.texts[first], answer=answer)
        _, sizes = np.unique(alike.edited(alike.groups()), return_counts=True)
        return int(sizes[sizes > 1].sum()), len(alike)

    def n_with_label(self) -> int:
        """Return how many texts hold their own label; 0 where few do, or others as often."""
        texts, labels = (
            [f" {' '.join(words_of(normalised(value)))} " for value in values]
            for values in (self.texts, self.answers)
        )
        own = sum(label in text for text, label in zip(texts, labels, strict=True))
        pairs = zip(texts, labels, [*labels[1:], *labels[:1]], strict=True)
        wrong = [wrong in text for text, label, wrong in pairs if wrong != label]
        return own if own >= _LEAKS * len(texts) and sum(wrong) < (1 - _LEAKS) * len(wrong) else 0

    def leaks(self) -> dict[str, str]:
        """Return to labels the token that tells each one to one; none where few rows have such."""
        some = self._groups[:_MOST_COMPARED]
        texts = [set(self.texts[first].casefold().split()) for first, *_ in some]
        labels = [normalised(self.answers[first]) for first, *_ in some]
        n_rows, n_all = Counter(labels), Counter(chain.from_iterable(texts))
        pairs = zip(texts, labels, strict=True)
        n_both = Counter((label, token) for tokens, label in pairs for token in tokens)
        likely = {label: (0, "") for label in n_rows}
        for (label, token), n in n_both.items():
            if n >= max(_FEWEST_LEAKS, _ONE_TO_ONE * n_rows[label], _ONE_TO_ONE * n_all[token]):
                likely[label] = max(likely[label], (n, token))
        return {label: token for label, (n, token) in likely.items() if n}

    def languages(self) -> tuple[dict[str, int], int]:
        step = max(1, len(self.texts) // _MOST_LANGUAGES)
        some = self.texts[::step]
        names = Counter(name for text in some if (name := language_of(text)) is not None)
        return dict(names.most_common()), len(some)


def read_facts(path: str, text: str | None = None, answer: str | None = None) -> Facts:
    """Return what is in a file.

    Args:
        path: of CSV, TSV, JSON lines, JSON or Parquet; local, or any URL that a task reads.
        text: name of the column with the text; None guesses it.
        answer: name of the column with the answer; None guesses it.

    Raises:
        ConfigError: it cannot be read, has no answers, or its columns cannot be told.
    """
    with _readable(path):
        return _read(path, text, answer)


def read_columns(path: str) -> dict[str, list[str]]:
    """Return the values of each column in the first rows of a file, "" where a row has none.

    Raises:
        ConfigError: it cannot be read, or has no row.
    """
    with _readable(path):
        return _values(path, list(islice(read_records(path), _FIRST)))


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Say what keeps a file from being read in the block.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if is_local(path) and (reason := why_unreadable(Path(local_path(path)).expanduser())):
            raise OSError(str(reason))
        yield
    except OSError as error:
        here = Path(local_path(path)).expanduser()
        cause = error.strerror or str(error)
        hint = beside(here) if is_local(path) and not here.exists() else ""
        raise ConfigError(str(Unreadable(path, cause.rstrip("."), hint))) from error


def _read(path: str, text: str | None, answer: str | None) -> Facts:
    records = read_records(path)
    first = list(islice(records, _FIRST))
    values = _values(path, first)
    of_text, of_answer = chosen(path, values, text, answer)
    rows = _Reading(of_text.name, of_answer.name)
    for line, data in chain(first, records):
        rows.add(line, data)
    if not rows.texts:
        raise no_answers(path, of_text.name, of_answer.name)
    facts = _facts(path, values, of_text.name, of_answer.name, rows)
    like_id = why_id(path, values, of_text, of_answer)
    return replace(facts, like_id=like_id, is_answer_guessed=answer is None)


def _facts(
    path: str, values: Mapping[str, Sequence[str]], text: str, answer: str, rows: _Reading
) -> Facts:
    kind, form = kind_of(rows.answers)
    n_repeats, contradictions = rows.repeats()
    n_near, n_compared = rows.near()
    languages, n_languages = rows.languages()
    labels: dict[str, int] = {}
    if kind in (AnswerKind.LABELS, AnswerKind.SETS):
        parts = [(a,) if form is None else form.parts(a) for a in rows.answers]
        labels = _counts(chain.from_iterable(parts))
    return Facts(
        path=path,
        kind=kind,
        text=text,
        answer=answer,
        columns=tuple(values),
        n_rows=rows.n_rows,
        n_broken=rows.n_broken,
        why_broken=rows.why_broken,
        n_without_text=rows.n_without_text,
        n_unlabelled=rows.n_unlabelled,
        n_labelled=len(rows.texts),
        n_repeats=n_repeats,
        contradictions=contradictions,
        n_near=n_near,
        n_compared=n_compared,
        n_different=len(labels) or len(set(map(normalised, rows.answers))),
        words_of_answer=sum(len(a.split()) for a in rows.answers) / max(1, len(rows.answers)),
        labels=labels,
        separator="" if form is None else form.separator,
        lengths=Lengths.of(rows.texts),
        languages=languages,
        n_languages=n_languages,
        personal=rows.personal,
        n_with_label=rows.n_with_label() if kind is AnswerKind.LABELS else 0,
        leaks=rows.leaks() if kind is AnswerKind.LABELS else {},
        sorted_by=time_column(values),
    )


def _values(path: str, rows: Sequence[tuple[str, dict[str, Any] | Reason]]) -> dict[str, list[str]]:
    """Return the values of each column of some rows, "" where a row has none."""
    records = [data for _, data in rows if isinstance(data, dict)]
    names = dict.fromkeys(str(name) for data in records for name in data)
    n_not_utf8 = sum(isinstance(data, NotUtf8) for _, data in rows)
    if 2 * n_not_utf8 > len(rows) or any(writable(name) != name for name in names):
        raise ConfigError(str(Unreadable(path, str(NotUtf8()), "")))
    if not names:
        causes = (str(data) for _, data in rows if isinstance(data, Reason))
        raise ConfigError(str(NoRows(path, next(causes, "no row is in it"))))
    return {name: [answer_of(data, name) for data in records] for name in names}


def _counts(labels: Iterator[str]) -> dict[str, int]:
    """Return the rows of each label, which is spelled as in most of them."""
    spellings: dict[str, Counter[str]] = {}
    for label in labels:
        spellings.setdefault(normalised(label), Counter())[label] += 1
    counts = {some.most_common(1)[0][0]: some.total() for some in spellings.values()}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
