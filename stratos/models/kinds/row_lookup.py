"""Students that need no model: the answer of the nearest row, or the one that most rows have.

Both are what every run compares its student with. Where one of them wins it is a student like any
other, which is bundled and hosted. Its folder holds the rows that it answers with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from typing_extensions import override

from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.models.kinds.base import FILE, WEIGHTS, Fit, Learner, Prediction, Predictor
from stratos.tasks.answers import nearest_by_words
from stratos.tasks.base import Task


@dataclass(frozen=True)
class RowLookup(Predictor):
    """A student that answers with the answer of the row which shares most words with a text."""

    format = "rows"

    texts: tuple[str, ...]
    """Of the rows; one that is empty is the nearest to every text."""
    answers: tuple[str, ...]
    right: float
    """Share of other rows that it answered right: the probability of every answer."""

    @override
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        places = nearest_by_words(self.texts, texts)
        return [Prediction(self.answers[index], self.right) for index in places]

    @property
    @override
    def n_params(self) -> int:
        return 0

    @override
    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"right": np.array([self.right])}, folder / WEIGHTS)
        described = {"format": self.format, "texts": self.texts, "answers": self.answers}
        text = json.dumps(described, ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text, encoding="utf-8")

    @classmethod
    @override
    def load(cls, folder: Path) -> Self:
        from safetensors.numpy import load_file

        described = json.loads((folder / FILE).read_text(encoding="utf-8"))
        texts, answers = tuple(described["texts"]), tuple(described["answers"])
        right = float(load_file(folder / WEIGHTS)["right"][0])
        if not texts or len(texts) != len(answers) or not 0 <= right <= 1:
            raise ValueError("its rows and answers do not fit")
        if not all(isinstance(text, str) for text in (*texts, *answers)):
            raise ValueError("one of its rows is no text")
        return cls(texts, answers, right)


class NearestRow(Learner):
    """Learns a student that answers with the answer of the nearest row."""

    @override
    def fit(
        self, texts: tuple[str, ...], answers: tuple[str, ...], task: Task, seed: int = 0
    ) -> Fit:
        """Cross-validate a look-up in the folds of other kinds, and return that of all rows."""
        from stratos.models.kinds.cross_validation import folds_of  # imports scikit-learn

        normal = [task.normal(answer) for answer in answers]
        _, numbers = np.unique(normal, return_inverse=True)
        folds = folds_of(texts, numbers, np.ones(len(texts), bool), seed)
        right = []
        for fold in np.unique(folds[folds >= 0]):
            learnt, unseen = (
                np.flatnonzero(which).tolist() for which in (folds != fold, folds == fold)
            )
            part = self._lookup([texts[i] for i in learnt], [answers[i] for i in learnt], 0.0)
            given = part.predict([texts[i] for i in unseen])
            right += [
                task.normal(prediction.text) == normal[i]
                for prediction, i in zip(given, unseen, strict=True)
            ]
        n, n_right = len(right), sum(right)
        source = f"cross-validation on {counted(n, 'row', spec=',')}"
        student = self._lookup(texts, answers, n_right / n)
        return Fit(student, wilson(n_right, n, source=source), n)

    @override
    def fit_again(
        self,
        folder: Path,
        texts: tuple[str, ...],
        answers: tuple[str, ...],
        task: Task,
        seed: int = 0,
    ) -> Predictor:
        return self.fit(texts, answers, task, seed).student

    def _lookup(self, texts: Sequence[str], answers: Sequence[str], right: float) -> RowLookup:
        return RowLookup(tuple(texts), tuple(answers), right)


class MostFrequentAnswer(NearestRow):
    """Learns a student that gives every text the answer which most rows have."""

    @override
    def _lookup(self, texts: Sequence[str], answers: Sequence[str], right: float) -> RowLookup:
        [(answer, _)] = Counter(answers).most_common(1)
        return RowLookup(("",), (answer,), right)
