"""The contract of students that are no language models: a text in, a probable answer out.

Such a student is a folder with `student.json`, safetensors, and perhaps the weights of an encoder.
It is read without unpickling anything, and, unless it holds an encoder that is no BERT, without
torch. A language model that answers with labels keeps the contract, too: its folder has
`labels.json`.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from stratos.core.errors import ForeignFileError
from stratos.core.extensions import extensions
from stratos.core.foreign import reading
from stratos.core.formats import writable
from stratos.records import Interval

if TYPE_CHECKING:
    import numpy as np

    from stratos.tasks.base import Task

FILE, WEIGHTS = "student.json", "student.safetensors"
ENCODER = "encoder"
"""Folder in that of a student which has an encoder."""
LABELS = "labels.json"
"""File in the folder of a language model that answers with labels alone."""
_FORMATS = {
    "classifier": "stratos.models.kinds.classifier:Classifier",
    "label_sets": "stratos.models.kinds.set_classifier:SetClassifier",
    "tagger": "stratos.models.kinds.tagger:Tagger",
    "rows": "stratos.models.kinds.row_lookup:RowLookup",
    "labels": "stratos.models.decode.label_scores:LabelModel",
}
"""By the format that `student.json` has: the class that reads it, imported only then."""


_ALL_ROWS = "n_rows_with_test"
"""Key of `student.json` of a student that has learnt the rows of its test, too."""

ToolChoice = Literal["none", "auto", "required"]
"""Whether an answer is a text, may be one, or has to call tools."""


@dataclass(frozen=True)
class Prediction:
    """One answer of a student, and how likely it is right."""

    text: str
    probability: float
    """Calibrated on rows that the student did not learn from; between 0 and 1."""
    next_best: tuple[tuple[str, float], ...] = ()
    """The next likely answers with their probabilities, the likeliest first; a student of labels
    has some of them, others none."""
    prompt_tokens: int | None = None
    """Tokens that were read; None for a student that reads no tokens."""


class Predictor(abc.ABC):
    """A student of a kind that is no language model."""

    format: ClassVar[str]
    """As `student.json` names it."""
    about: ClassVar[str] = ""
    """What it is, as its card says it; "" where the card tells by what its file has."""
    pipeline: ClassVar[str] = "text-classification"
    """What the hub calls its task."""
    holds_words: ClassVar[bool] = False
    """Whether its file has words of the rows that it has learnt."""
    takes_tools: ClassVar[bool] = False
    """Whether it answers with calls of the tools that a request offers."""

    def request_text(self, chat: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
        """Return the text of a request that it answers: what the user says last.

        Args:
            chat: messages of the request.
            tools: that it offers, as the API has them; none where it does not take them.

        Raises:
            ValueError: the tools cannot be read.
        """
        return text_of(chat)

    def choosing(self, choice: ToolChoice) -> Predictor:
        """Return the student held to calls, or to texts; one that takes no tools is held to none.

        An answer without what it is held to is "".
        """
        return self

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Return the answer to each text, in which a lone surrogate is "?", as in rows of files."""
        return self._predict([writable(text) for text in texts])

    @abc.abstractmethod
    def _predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Return the answer to each text, which can be written as UTF-8."""

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Write the student: JSON and safetensors, nothing that is executed when it is read."""

    @classmethod
    @abc.abstractmethod
    def load(cls, folder: Path) -> Self:
        """Return the student that `save` wrote."""

    @property
    @abc.abstractmethod
    def n_params(self) -> int:
        """Numbers that it was given or has learnt."""

    @property
    def uses_torch(self) -> bool:
        """Whether an answer needs PyTorch."""
        return False

    @property
    def vocabulary(self) -> tuple[int, int] | None:
        """Its tokens and those of what it was cut from; None where nothing was cut."""
        return None

    @property
    def is_slow(self) -> bool:
        """Whether an answer takes milliseconds, so that it has a thread of its own."""
        return self.uses_torch


def weights_bytes(folder: Path) -> int:
    """Return the bytes of a student's weights on disk, those of its encoder among them."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


@dataclass(frozen=True)
class Fit:
    """A student that has learnt all rows, and what cross-validation shows of it."""

    student: Predictor
    accuracy: Interval
    """Of other rows."""
    n_rows: int
    calibration_error: float = 0.0
    right: np.ndarray | None = None
    """Whether each row was answered right by what has not seen it, shape (rows,)."""
    known: Interval | None = None
    """Accuracy on wordings that other rows show, where `accuracy` is that of new ones."""
    new: Interval | None = None
    """Accuracy on new wordings, where `accuracy` is that of wordings that other rows show."""
    fields: dict[str, float] = field(default_factory=dict)
    """Share of rows that have each field right."""
    seconds: float = 0.0
    """CPU seconds that all its trainings took, whenever that was."""


class Learner(abc.ABC):
    """What fits students of a kind that is measured by itself."""

    def why_not(self, texts: Sequence[str], answers: Sequence[str]) -> str | None:
        """Return why no student of the kind does the task of some rows; None where one may."""
        return None

    @abc.abstractmethod
    def fit(
        self, texts: tuple[str, ...], answers: tuple[str, ...], task: Task, seed: int = 0
    ) -> Fit:
        """Cross-validate a student, and fit it on all rows.

        Args:
            texts: of the rows.
            answers: theirs.
            task: compares answers.
            seed: of the folds.
        """

    @abc.abstractmethod
    def fit_again(
        self,
        folder: Path,
        texts: tuple[str, ...],
        answers: tuple[str, ...],
        task: Task,
        seed: int = 0,
    ) -> Predictor:
        """Return the student in a folder fitted on more rows: what was chosen for it stays."""


def text_of(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the text of a chat that a student answers: what the user says last."""
    return next(message["content"] for message in reversed(messages) if message["role"] == "user")


def is_predictor(folder: Path | str) -> bool:
    """Return whether a folder holds a student that is no language model."""
    return (Path(folder) / FILE).is_file()


def has_labels(folder: Path | str) -> bool:
    """Return whether a folder holds a language model that answers with labels alone."""
    return (Path(folder) / LABELS).is_file()


def log_softmax(values_NL: np.ndarray) -> np.ndarray:
    """Return finite logits as log-probabilities; of one row SciPy's takes three times as long."""
    import numpy as np

    shifted = values_NL - values_NL.max(-1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


def predictor_class(folder: Path | str) -> type[Predictor]:
    """Return the class of the student in a folder, which may be a language model of labels.

    Raises:
        ForeignFileError: there is none, or its file is damaged.
    """
    path = Path(folder) / FILE
    try:
        text = '{"format": "labels"}' if has_labels(folder) else path.read_text(encoding="utf-8")
        formats = _FORMATS | {k: v for room in extensions() for k, v in room.predictors.items()}
        module, name = formats[json.loads(text)["format"]].split(":")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ForeignFileError(f"{path} describes no student ({error!r}).") from error
    cls: type[Predictor] = getattr(import_module(module), name)
    return cls


def load_predictor(folder: Path | str) -> Predictor:
    """Return the student in a folder, which may be a language model of labels.

    Raises:
        ForeignFileError: there is none, or its file is damaged.
    """
    with reading(f"The student in {folder}"):
        return predictor_class(folder).load(Path(folder))


def note_learnt(folder: Path, n_rows: int) -> None:
    """Write into a student's folder that it has learnt all rows, those of its test among them."""
    path = folder / FILE
    described = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps({**described, _ALL_ROWS: n_rows}, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def has_learnt_test(folder: Path | str) -> bool:
    """Return whether the student in a folder has learnt the rows that the test measured it by.

    What it answers to them says nothing of other rows.
    """
    try:
        return _ALL_ROWS in json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
