"""Extracted objects compared with gold ones, field by field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stratos.tasks.objects import Path, as_key, fields_of, object_of, same


@dataclass(frozen=True)
class ExtractionScore:
    """How well one field is extracted."""

    exact: float
    """Share of all rows in which it is right; where no value is right, that is no value."""
    f1: float
    """Harmonic mean of the shares of gold values that are answered and of answers that are gold."""
    n_missing: int
    """Rows with a gold value and no answer."""
    n_invented: int
    """Rows without a gold value and with an answer."""


def extraction_scores(
    golds: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any] | None]
) -> dict[str, ExtractionScore]:
    """Return the scores of each field of gold objects by its path, such as "person.name".

    Null, an empty list and a field that is left out are no value. A list is one value.

    Args:
        golds: gold objects.
        answers: in the same order; None where an answer is no object.
    """
    gold_rows = [fields_of(gold) for gold in golds]
    answer_rows = [fields_of(answer or {}) for answer in answers]
    scores = {}
    for path in dict.fromkeys(path for row in gold_rows for path in row):
        pairs = [
            (_value(g, path), _value(a, path)) for g, a in zip(gold_rows, answer_rows, strict=True)
        ]
        right = sum(same(g, a) for g, a in pairs)
        hits = sum(g is not None and same(g, a) for g, a in pairs)
        n_gold, n_answers = (
            sum(g is not None for g, _ in pairs),
            sum(a is not None for _, a in pairs),
        )
        scores[".".join(path)] = ExtractionScore(
            exact=right / len(pairs),
            f1=2 * hits / (n_gold + n_answers) if n_gold + n_answers else 1.0,
            n_missing=sum(g is not None and a is None for g, a in pairs),
            n_invented=sum(g is None and a is not None for g, a in pairs),
        )
    return scores


def _value(row: Mapping[Path, Any], path: Path) -> Any:
    value = row.get(path)
    return None if value == [] or value == {} else value


def majority_object(answers: Sequence[str]) -> str:
    """Return the most frequent answer as a whole, in the spelling that most rows have.

    Its fields are those of one row. The most frequent values of single fields make an object that
    may be the answer to no row at all.

    Args:
        answers: JSON objects as texts, at least one.
    """
    forms = {answer: _form(answer) for answer in set(answers)}
    [(best, _)] = Counter(forms[answer] for answer in answers).most_common(1)
    return Counter(answer for answer in answers if forms[answer] == best).most_common(1)[0][0]


def _form(answer: str) -> str:
    parsed = object_of(answer)
    return answer if parsed is None else as_key(parsed)
