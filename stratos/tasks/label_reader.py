"""The reader of labels: those that are named, or else those that a file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.names import why_no_name
from stratos.tasks import label_sets
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.label_sets import SetForm
from stratos.tasks.metrics import Label
from stratos.tasks.reader import PATH, Content, FileReader
from stratos.tasks.rows import ID_SHARE, Fields, likely_answers, swapped
from stratos.tasks.shown import shown
from stratos.tasks.table import Rows
from stratos.tasks.words import AnswersLikeIds

_MOST_LABELS = 200
"""Different answers of a file that are taken for labels without being named."""
_FEW_LABELS = 10
"""Different answers up to which each may have a single row."""
_MOST_COUNTED = 10_000
"""Different answers after which nobody counts on."""


@dataclass(frozen=True)
class LabelledContent(Content):
    """What was read of texts with labels."""

    labels: tuple[str, ...] = ()
    """The labels that a text may get."""
    spellings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of labels that were not named their spellings in the file, with their numbers of rows."""


@dataclass(frozen=True)
class LabelReader:
    """Reads texts with labels."""

    files: FileReader
    spelling: LabelSpelling
    """That its checker has."""

    def read(self) -> LabelledContent:
        """Return the rows with their labels in one spelling.

        Raises:
            ConfigError: the files cannot be used, or their answers are no labels.
        """
        content, spelling = self.files.read(), self.spelling
        parts = vars(content)
        if spelling.named:
            return LabelledContent(**parts, labels=spelling.named)
        own, *tested = content.files
        own = replace(own, rows=spelling.respelled(own.rows))
        labelled = {**parts, "files": (own, *tested)}
        return LabelledContent(**labelled, labels=spelling.all(), spellings=spelling.spellings())


@dataclass
class LabelSpelling:
    """Spells the labels of answers; where none are named, those of the file are counted."""

    path: str
    """The file of training rows."""
    fields: Fields
    named: tuple[str, ...]
    """The only labels that there are; nothing takes all of the file."""
    form: SetForm | None
    """How the file writes several labels; None where each text has one."""
    may_be_list: bool
    """Whether a list among single labels is a label."""
    _spellings: dict[str, Counter[str]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, key: str, answer: str, options: Sequence[str]) -> str:
        """Return an answer of the file of a key in canonical spelling.

        Raises:
            ValueError: it is no label; the message says why.
            ConfigError: the file has too many.
        """
        if self.form is not None:
            return label_sets.written(self._label(key, label) for label in self.form.read(answer))
        if not self.may_be_list and label_sets.labels_of(answer) is not None:
            raise ValueError(
                f"the answer {shown(answer)} is a list, and most other rows have a single label"
            )
        return self._label(key, answer)

    def _label(self, key: str, answer: str) -> str:
        if self.named:
            return Label(self.named).canonical(answer, ())
        return self._counted(answer) if key == PATH else self._known(answer)

    def _counted(self, answer: str) -> str:
        """Count an answer; return it as the file spelled it first, until all are counted."""
        if reason := why_no_name(answer):
            raise ValueError(f"the label '{shown(answer)}': {reason}")
        key = normalised(answer)
        self._counts[key] += 1
        if len(self._counts) > _MOST_COUNTED:
            reason = swapped(self.path, self.fields)
            raise ConfigError(str(reason or self._too_many(f"more than {_MOST_COUNTED:,}")))
        spellings = self._spellings.setdefault(key, Counter())
        spellings[answer] += 1
        return next(iter(spellings))

    def _known(self, answer: str) -> str:
        """Return an answer in the spelling of those that were counted, which all are by now."""
        known = self.all()
        if normalised(answer) in map(normalised, known):
            return Label(known).canonical(answer, ())
        raise ValueError(
            f"the label {shown(answer)} is in no row of {self.path}, so that no student can learn "
            f"it.{did_you_mean(answer, known)}".rstrip(".")
        )

    def all(self) -> tuple[str, ...]:
        """Return the labels in the spelling that most rows have, the most frequent first.

        Raises:
            ConfigError: there are too many, or too few.
        """
        n = len(self._counts)
        is_id = n > _FEW_LABELS and self._are_like_ids and self._likely
        if n > _MOST_LABELS or is_id:
            raise ConfigError(self._too_many(f"{n:,}"))
        if n < (2 if self.form is None else 1):
            if n == 0:
                raise ConfigError(f"{self.path}: every row has an empty list of labels.")
            raise ConfigError(f"{self.path} has one label only, which leaves nothing to classify.")
        return tuple(_commonest(self._spellings[key]) for key, _ in self._counts.most_common())

    def respelled(self, rows: Rows) -> Rows:
        """Return rows whose labels have the spelling that most of them have."""
        commonest = ((next(iter(some)), _commonest(some)) for some in self._spellings.values())
        spellings = {first: chosen for first, chosen in commonest if first != chosen}
        if self.form is not None and spellings:
            sets = {row.answer: label_sets.labels_of(row.answer) or () for row in rows}
            spellings = {
                answer: label_sets.written(spellings.get(label, label) for label in labels)
                for answer, labels in sets.items()
            }
        return rows.respelled(spellings) if spellings else rows

    def spellings(self) -> dict[str, dict[str, int]]:
        """Return each label's spellings, with how many rows have them, the commonest first."""
        return {
            _commonest(spelling): dict(spelling.most_common())
            for spelling in self._spellings.values()
        }

    @property
    def _are_like_ids(self) -> bool:
        return len(self._counts) >= ID_SHARE * self._counts.total()

    @cached_property
    def _likely(self) -> list[str]:
        return likely_answers(self.path, self.fields.question, self.fields.answer)

    def _too_many(self, n: str) -> str:
        likely = self._likely
        if likely and self._are_like_ids:
            return str(AnswersLikeIds(self.path, self.fields.answer, tuple(likely)))
        typed = f" The labels may be in another field: {' or '.join(likely)}." if likely else ""
        if self._are_like_ids:
            typed = (
                " Nearly every row has another: if they are ids, name the field with the labels: "
                "task.answer=<field>."
            )
        return (
            f"{self.path} has {n} different answers in its field {self.fields.answer}: are they "
            f"labels? Name them with task.labels=[…], or type +task=jsonl.{typed}"
        )


def _commonest(spellings: Counter[str]) -> str:
    """Return the spelling that most rows have; of equals, the one seen first."""
    return max(spellings, key=lambda spelling: spellings[spelling])
