"""Which logged answers are probably wrong, told by what most answers of their workload are like.

Nothing is asked: an answer is doubtful where it lacks what nearly all others have. Each check is
learnt from the answers themselves, and is used only where they agree on it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stratos.contrib.logs.conversation import history_of
from stratos.contrib.logs.words import Doubt
from stratos.tasks.answers import fields_of, object_of
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.doubts import are_alike
from stratos.tasks.table import Row, Rows

_FEWEST = 50
"""Answers from which others can be told to be unlike them."""
_MOST, _NEARLY_ALL = 0.8, 0.95
"""Shares of the answers that are objects, or of objects that have a field."""
_USUAL_TYPE, _COPIED = 0.9, 0.9
"""Shares of the values of a field that are of one type, or stand in the messages."""
_HARDLY_ANY = 0.02
_RARE = 0.002
_OF_SLIP = 0.1
"""Share of the answers of a label that a slip of it may have."""
_MOST_LABELS, _ANSWERS_A_LABEL, _LONGEST_LABEL = 200, 5, 40
_USUAL = 0.2
"""Share of refusals from which they are what the workload is about."""
_CANNOT = (
    r"(?:can(?:not|['’]?t| not)|(?:am|['’]m) (?:unable to|not able to)|(?:won['’]?t|will not)|"
    r"(?:have|need) to decline to|must decline to)"
)
_TASK = (
    r"(?:help|assist|comply|fulfil|answer|provide|respond|do (?:that|this)|continue with|discuss|"
    r"generate|create|write|complete|engage)"
)
_REFUSAL = re.compile(
    rf"\bi ?{_CANNOT} (?:be able to )?{_TASK}|\bas an ai\b|\bas a (?:large )?language model\b|"
    r"\bi must decline\b",
    re.IGNORECASE,
)
"""A model that says that it does not do what it is asked. An apology alone is none."""
_BEGINNING = 200
"""Characters of an answer that are looked at for a refusal."""
_LOOP = re.compile(r"(.{8,80}?)\1{4,}", re.DOTALL)
_LETTER = re.compile(r"[^\W\d_]")
_LONG_LOOP, _MOST_OF_IT = 400, 0.5
"""Characters, or the share of an answer, from which what repeats itself is no table or list."""
_SHORTEST_COPY = 2

Path = tuple[str, ...]


@dataclass
class AnswerChecks:
    """What nearly all answers of one workload have in common."""

    n: int = 0
    n_objects: int = 0
    n_refusals: int = 0
    n_fields: Counter[Path] = field(default_factory=Counter)
    n_types: dict[Path, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    n_copied: Counter[Path] = field(default_factory=Counter)
    n_values: Counter[Path] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)

    def learn(self, question: str, answer: str) -> None:
        """Take an answer in."""
        self.n += 1
        fields = object_of(answer)
        self.n_refusals += _is_refusal(answer)
        if fields is None:
            self._learn_label(answer)
            return
        self.n_objects += 1
        messages = _said(question)
        for path, value in fields_of(fields).items():
            self.n_fields[path] += 1
            self.n_types[path][_type(value)] += 1
            for text in _copies(value):
                self.n_values[path] += 1
                self.n_copied[path] += text in messages

    def _learn_label(self, answer: str) -> None:
        if len(answer) <= _LONGEST_LABEL and len(self.labels) <= _MOST_LABELS * 10:
            self.labels[normalised(answer)] += 1

    def doubt(self, question: str, answer: str) -> Doubt | None:
        """Return what is doubtful about an answer; None where nothing is."""
        if self.n < _FEWEST:
            return None
        if self.n_refusals < _USUAL * self.n and _is_refusal(answer):
            return Doubt.REFUSED
        if _loops(answer):
            return Doubt.LOOPS
        fields = object_of(answer)
        if self.n_objects >= _MOST * self.n:
            return Doubt.NO_JSON if fields is None else self._of_object(question, fields)
        return (
            Doubt.RARE
            if self._are_labels and normalised(answer) not in self._usual_labels
            else None
        )

    @property
    def tell(self) -> bool:
        """Whether an answer could be found wrong: texts of any form are only told to be broken."""
        return self.n >= _FEWEST and (self.n_objects >= _MOST * self.n or self._are_labels)

    @cached_property
    def _are_labels(self) -> bool:
        n, different = self.labels.total(), len(self.labels)
        return n >= _MOST * self.n and different <= min(_MOST_LABELS, n / _ANSWERS_A_LABEL)

    @cached_property
    def _usual_labels(self) -> set[str]:
        """Labels but those of hardly any answer, and those that look like a slip of a common one.

        What no answer was is none of them.
        """
        least = max(1.0, _RARE * self.n)
        slips = {
            label
            for label, n in self.labels.items()
            for common, of_other in self.labels.items()
            if n <= _OF_SLIP * of_other and are_alike(label, common)
        }
        return {label for label, n in self.labels.items() if n > least} - slips

    def _of_object(self, question: str, answer: Mapping[str, Any]) -> Doubt | None:
        fields = fields_of(answer)
        usual = [p for p, n in self.n_fields.items() if n >= _NEARLY_ALL * self.n_objects]
        if any(path not in fields for path in usual):
            return Doubt.FIELDS
        if usual and any(self.n_fields[p] < _HARDLY_ANY * self.n_objects for p in fields):
            return Doubt.FIELDS
        for path, value in fields.items():
            types = self.n_types[path]
            [(_, n)] = types.most_common(1)
            is_usual = n >= _USUAL_TYPE * types.total() and value is not None
            if is_usual and types[_type(value)] < n:
                return Doubt.TYPES
        messages = _said(question)
        for path, value in fields.items():
            n = self.n_values[path]
            if n < _FEWEST or self.n_copied[path] < _COPIED * n:
                continue
            if any(text not in messages for text in _copies(value)):
                return Doubt.NOT_SAID
        return None


def checks_of(rows: Rows) -> dict[str, AnswerChecks]:
    """Return the checks of each workload of a log, by its id; the rows are read once."""
    checks: dict[str, AnswerChecks] = defaultdict(AnswerChecks)
    for row in rows:
        checks[workload_in(row)].learn(row.question, row.answer)
    return dict(checks)


def workload_in(row: Row) -> str:
    """Return the id of the workload that a row is of."""
    return "" if row.provenance is None else row.provenance.workload


def _is_refusal(answer: str) -> bool:
    return _REFUSAL.search(answer, 0, _BEGINNING) is not None


def _loops(answer: str) -> bool:
    """Return whether words repeat themselves over much of an answer; rules have no words."""
    return any(
        _LETTER.search(match[1]) and len(match[0]) >= min(_LONG_LOOP, _MOST_OF_IT * len(answer))
        for match in _LOOP.finditer(answer)
    )


def _said(question: str) -> str:
    return normalised("\n".join(message["content"] for message in history_of(question)))


def _copies(value: Any) -> list[str]:
    """Return the texts of a value that may be copied from a message."""
    values = value if isinstance(value, list) else [value]
    return [
        normalised(str(entry))
        for entry in values
        if isinstance(entry, str | int | float)
        and not isinstance(entry, bool)
        and len(str(entry)) >= _SHORTEST_COPY
    ]


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "number" if isinstance(value, int | float) else type(value).__name__
