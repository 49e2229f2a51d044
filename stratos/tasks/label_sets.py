"""Several labels of one text: how a file writes them, how they are read, and their metric.

The canonical text of a set of labels is a JSON list in alphabetical order, `["grain", "wheat"]`,
and `[]` where a text has none. Files may write it so, or with a separator between the labels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice

from typing_extensions import override

from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.tasks import answers
from stratos.tasks.answers import plain_json
from stratos.tasks.base import Item, Score
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.files import read_records
from stratos.tasks.metrics import Label, Metric
from stratos.tasks.rows import answer_of, identity_of

SEPARATORS = {"|": "vertical bars", ";": "semicolons", ",": "commas"}
"""What may stand between labels, and what it is called."""
_MOST_READ = 20_000
"""Rows of a file that tell how it writes labels."""
_SHARE_OF_SETS = 0.9
"""Of the answers with a separator, those whose parts are all parts of other answers, too."""
_DECODER = json.JSONDecoder()
_NONE = frozenset({"", "none", "no label", "no labels"})
"""What models write where no label fits."""


def written(labels: Iterable[str]) -> str:
    """Return the canonical text of a set of labels."""
    return plain_json(sorted(set(labels)))


def labels_of(text: str) -> tuple[str, ...] | None:
    """Return the labels of a JSON list of texts or numbers; None where a text is no such list."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(label, str | int | float) for label in labels):
        return None
    return tuple(str(label).strip() for label in labels)


def _last_list(text: str) -> tuple[str, ...] | None:
    """Return the labels of the last JSON list that stands in a text; None where none does."""
    last, start = None, text.find("[")
    while start >= 0:
        end = start + 1
        with suppress(ValueError, RecursionError):
            _, end = _DECODER.raw_decode(text, start)
            labels = labels_of(text[start:end])
            last = last if labels is None else labels
        start = text.find("[", end)
    return last


@dataclass(frozen=True)
class SetForm:
    """How the answers of a file name several labels."""

    separator: str = ""
    """What stands between them; "" for JSON lists."""
    n_several: int = 0
    """Rows that have more or less than one label, of those that were looked at."""
    n_rows: int = 0

    def read(self, answer: str) -> tuple[str, ...]:
        """Return the labels that an answer names, each once.

        Raises:
            ValueError: it is no list, or names an empty label.
        """
        if not self.separator and labels_of(answer) is None:
            raise ValueError(
                f"the answer {shown(answer)} is no list of labels, as those of other rows are: "
                f"write {shown(plain_json([answer]))}"
            )
        labels = self.parts(answer)
        if not all(labels):
            raise ValueError(f"the answer {shown(answer)} has an empty label")
        return tuple(dict.fromkeys(labels))

    def parts(self, answer: str) -> tuple[str, ...]:
        """Return the labels of a list or between separators, whatever they are."""
        labels = labels_of(answer)
        if labels is None:
            return _parts(answer, self.separator) if self.separator else (answer,)
        return labels

    @property
    def called(self) -> str:
        """What it is called in a sentence."""
        if not self.separator:
            return "as JSON lists"
        return f"separated by {SEPARATORS.get(self.separator, shown(self.separator))}"


def form_of_file(path: str, field: str, separator: str | None) -> SetForm | None:
    """Return how the first rows of a file write several labels; None where each has one.

    Args:
        path: of the file.
        field: of the answer.
        separator: that is named; None tells by the rows.
    """
    try:
        known = identity_of(path)
    except OSError:
        return None  # told where the rows are read
    return (_form_of_file.__wrapped__ if known is None else _form_of_file)(
        path, field, separator, known
    )


@lru_cache(maxsize=4)
def _form_of_file(
    path: str, field: str, separator: str | None, known: tuple[int, ...] | None
) -> SetForm | None:
    try:
        rows = islice(read_records(path), _MOST_READ)
        raw = [answer_of(row, field) for _, row in rows if not isinstance(row, Reason)]
    except OSError:
        return None  # told where the rows are read
    return form_of([answer for answer in raw if answer], separator)


def form_of(texts: Sequence[str], separator: str | None = None) -> SetForm | None:
    """Return how answers write several labels; None where each is one label.

    They do as JSON lists, if most are. A separator is one if labels beside it repeat: nearly all
    answers that have it consist of labels which other answers have, too, and one of these labels
    is an answer by itself. "Yes, please" and "No, thanks" are no such answers.
    """
    if separator:
        return _counted(SetForm(separator), texts)
    if 2 * sum(labels_of(answer) is not None for answer in texts) > len(texts):
        return _counted(SetForm(), texts)
    counts = Counter(texts)
    sign = next((sign for sign in SEPARATORS if _separates(counts, sign)), None)
    return None if sign is None else _counted(SetForm(sign), texts)


def _counted(form: SetForm, texts: Sequence[str]) -> SetForm:
    """Return a form with how many rows have several labels, or none."""
    sizes = (len(set(form.parts(answer))) for answer in texts)
    return replace(form, n_several=sum(size != 1 for size in sizes), n_rows=len(texts))


def _separates(counts: Counter[str], separator: str) -> bool:
    """Return whether a separator stands between labels, of answers with their numbers of rows."""
    sets = {answer: _parts(answer, separator) for answer in counts}
    n_answers = Counter(label for labels in sets.values() for label in set(labels))
    joined = [answer for answer, labels in sets.items() if len(labels) > 1]
    alike = [
        answer for answer in joined if all(part and n_answers[part] > 1 for part in sets[answer])
    ]
    n, n_alike = (sum(counts[answer] for answer in some) for some in (joined, alike))
    stands_alone = any(part in counts for answer in alike for part in sets[answer])
    return stands_alone and n_alike >= _SHARE_OF_SETS * n


def _parts(answer: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in answer.strip(f" {separator}").split(separator))


@dataclass(frozen=True)
class LabelSet(Metric):
    """A set of labels: right if all are, and no other."""

    labels: tuple[str, ...] = ()

    @cached_property
    def _single(self) -> Label:
        return Label(self.labels)

    @cached_property
    def _by_spelling(self) -> dict[str, str]:
        return {normalised(label): label for label in self.labels}

    @override
    def canonical(self, answer: str, options: Sequence[str]) -> str:
        labels = labels_of(answer)
        if labels is None:
            raise ValueError(f"the answer {shown(answer)} is no list of labels")
        return written(self._single.canonical(label, ()) for label in labels)

    @override
    def read(self, text: str) -> answers.AnswerText | None:
        """Return the last list of a text, with labels that are none; else labels by separators.

        None where there is neither.
        """
        if (labels := _last_list(text)) is not None:
            return written(self._by_spelling.get(normalised(label), label) for label in labels)
        answer = answers.find_answer(text)
        if answer is None:
            return None
        if normalised(answer) in _NONE - self._by_spelling.keys():
            return written(())
        if normalised(answer) in self._by_spelling:
            return written([self._by_spelling[normalised(answer)]])
        for separator in SEPARATORS:
            parts = [normalised(part) for part in _parts(answer, separator)]
            if all(part in self._by_spelling for part in parts):
                return written(self._by_spelling[part] for part in parts)
        return None

    @override
    def compare(self, answer: str, gold: str) -> float:
        return float(answer == gold)

    @override
    def normal(self, answer: str) -> str:
        return answer

    @override
    def score(self, text: str, item: Item) -> Score:
        """Score a set of labels; F1 is that of the two sets."""
        answer, golds = self.read(text), set(labels_of(item.answer) or ())
        if answer is None:
            return Score(0.0, 0.0, False, (0, len(golds)))
        given = set(labels_of(answer) or ())
        counts = 2 * len(given & golds), len(given) + len(golds)
        f1 = counts[0] / counts[1] if counts[1] else 1.0
        return Score(float(given == golds), f1, True, counts)
