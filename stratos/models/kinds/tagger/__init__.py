"""A student for text to JSON whose values stand in the text, and what learns it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from stratos.core.formats import counted
from stratos.models.kinds.base import Fit, Learner, Predictor
from stratos.models.kinds.tagger.fields import (
    ExtractionScore,
    extraction_scores,
    majority_object,
)
from stratos.models.kinds.tagger.fit import FieldFit, TaggerFit, cannot_tag, fit_again, fit_tagger
from stratos.models.kinds.tagger.tagger import Method, Tagger
from stratos.records import Interval
from stratos.tasks.answers import object_of
from stratos.tasks.base import Task
from stratos.tasks.readings import Wordings

__all__ = [
    "ExtractionScore",
    "FieldFit",
    "Method",
    "Tagger",
    "TaggerFit",
    "TaggerLearner",
    "cannot_tag",
    "extraction_scores",
    "fit_again",
    "fit_tagger",
    "majority_object",
]


class TaggerLearner(Learner):
    """Learns a tagger; the last one that was measured is kept for the training."""

    @override
    def why_not(self, texts: Sequence[str], answers: Sequence[str]) -> str | None:
        return cannot_tag(texts, answers)

    @override
    def fit(
        self, texts: tuple[str, ...], answers: tuple[str, ...], task: Task, seed: int = 0
    ) -> Fit:
        fitted = _fitted(texts, answers, seed, json.dumps(_schema(task)))
        source = f"cross-validation on {counted(fitted.n_rows, 'row', spec=',')}"
        new, known = Interval(*fitted.expected, source), Interval(*fitted.known, source)
        of_known = fitted.holds_out_layouts and _are_wordings_shown(task)
        return Fit(
            fitted.tagger,
            known if of_known else new,
            fitted.n_rows,
            fitted.calibration_error,
            fitted.right,
            known=known if fitted.holds_out_layouts and not of_known else None,
            new=new if of_known else None,
            fields={field.name: field.score.exact for field in fitted.fields},
            seconds=fitted.cpu_seconds,
        )

    @override
    def fit_again(
        self,
        folder: Path,
        texts: tuple[str, ...],
        answers: tuple[str, ...],
        task: Task,
        seed: int = 0,
    ) -> Predictor:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            tagger = Tagger.load(folder)
            return fit_again(tagger, texts, answers, seed=seed, schema=_schema(task))


def _are_wordings_shown(task: Task) -> bool:
    """Return whether most validation rows are worded as training rows are, and so test rows.

    A split keeps rows of one wording together, unless that leaves it too few rows or wordings.
    """
    train, validation = (task.items(split, _N_WORDED) for split in ("train", "validation"))
    answers = [object_of(item.answer) or {} for item in train]
    wordings, _ = Wordings.among([item.question for item in train], answers)
    shown = [wordings.knows(item.question, object_of(item.answer) or {}) for item in validation]
    return 2 * sum(shown) > len(shown)


_N_WORDED = 1_000
"""Rows of each split whose wordings are compared."""


def _schema(task: Task) -> Mapping[str, Any] | None:
    """Return the schema of the answers, which is the same for every row."""
    return task.answer_schema(task.items("validation", 1)[0])


@lru_cache(maxsize=1)
def _fitted(texts: tuple[str, ...], answers: tuple[str, ...], seed: int, schema: str) -> TaggerFit:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # of small matrices, threads wait for each other
        return fit_tagger(texts, answers, seed=seed, schema=json.loads(schema))
