"""What learns students of the kind `tagger`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from stratos.core.formats import counted
from stratos.models.kinds.base import Fit, Learner, Predictor
from stratos.models.kinds.tagger.fit import TaggerFit, cannot_tag, fit_again, fit_tagger
from stratos.models.kinds.tagger.tagger import Tagger
from stratos.records import Interval
from stratos.tasks.base import Task


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
        return Fit(
            fitted.tagger,
            Interval(*fitted.expected, source),
            fitted.n_rows,
            fitted.calibration_error,
            fitted.right,
            Interval(*fitted.known, source) if fitted.holds_out_layouts else None,
            {field.name: field.score.exact for field in fitted.fields},
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


def _schema(task: Task) -> Mapping[str, Any] | None:
    """Return the schema of the answers, which is the same for every row."""
    return task.answer_schema(task.items("validation", 1)[0])


@lru_cache(maxsize=1)
def _fitted(texts: tuple[str, ...], answers: tuple[str, ...], seed: int, schema: str) -> TaggerFit:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # of small matrices, threads wait for each other
        return fit_tagger(texts, answers, seed=seed, schema=json.loads(schema))
