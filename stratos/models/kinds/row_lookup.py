"""Students that need no model: the answer of the nearest row, or the one that most rows have.

Both are what every run compares its student with. Where one of them wins it is a student like any
other, which is bundled and hosted. Its folder holds the rows that it answers with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from typing_extensions import override

from stratos.config import StudentKind
from stratos.models.kinds.base import FILE, WEIGHTS, Prediction, Predictor
from stratos.models.kinds.suits import MAJORITY
from stratos.tasks.answers import nearest_by_words


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
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
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


@dataclass(frozen=True)
class LookupFit:
    """A look-up of rows, and what it answers right of rows that it has not seen."""

    student: RowLookup
    accuracy: float
    n_rows: int
    """Rows that were answered, each from rows of other folds."""


def fit_lookup(
    kind: StudentKind,
    texts: Sequence[str],
    answers: Sequence[str],
    normal: Callable[[str], str],
    seed: int = 0,
) -> LookupFit:
    """Cross-validate a look-up in the folds of other kinds, and return that of all rows.

    Args:
        kind: of the student: the nearest row, or the most frequent answer.
        texts: of the rows, at least two.
        answers: theirs.
        normal: returns an answer in the form that is compared.
        seed: of the folds.
    """
    from stratos.models.kinds.cross_validation import folds_of  # imports scikit-learn

    _, numbers = np.unique([normal(answer) for answer in answers], return_inverse=True)
    folds = folds_of(texts, numbers, np.ones(len(texts), bool), seed)
    n_right = n_scored = 0
    for fold in np.unique(folds[folds >= 0]):
        learnt, unseen = (
            np.flatnonzero(which).tolist() for which in (folds != fold, folds == fold)
        )
        part = _lookup(kind, [texts[i] for i in learnt], [answers[i] for i in learnt], 0.0)
        given = part.predict([texts[i] for i in unseen])
        n_scored += len(unseen)
        n_right += sum(
            normal(prediction.text) == normal(answers[i])
            for prediction, i in zip(given, unseen, strict=True)
        )
    accuracy = n_right / n_scored
    return LookupFit(_lookup(kind, texts, answers, accuracy), accuracy, n_scored)


def _lookup(
    kind: StudentKind, texts: Sequence[str], answers: Sequence[str], right: float
) -> RowLookup:
    if kind == MAJORITY:
        [(answer, _)] = Counter(answers).most_common(1)
        return RowLookup(("",), (answer,), right)
    return RowLookup(tuple(texts), tuple(answers), right)
