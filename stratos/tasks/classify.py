"""Classification: each text gets one of a set of labels, or several of them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.names import why_no_name
from stratos.core.reasons import Reason
from stratos.tasks import doubts, label_sets
from stratos.tasks.base import Item, Message, Score, Split
from stratos.tasks.file_content import Content
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.label_sets import LabelSet, SetForm
from stratos.tasks.metrics import Label, Metric, MetricName
from stratos.tasks.rows import likely_answers
from stratos.tasks.shown import shown
from stratos.tasks.split import normalised
from stratos.tasks.table import Rows
from stratos.tasks.words import AnswersLikeIds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_LABELS = 200
"""Different answers of a file that are taken for labels without being named."""
_FEW_LABELS = 10
"""Different answers up to which each may have a single row."""
_MOST_COUNTED = 10_000
"""Different answers after which nobody counts on."""
_N_CONTRASTS, _MOST_CONTRASTED = 2, 50
"""Examples of each of two confused labels, and rows of a label that they are taken from."""
_LONGEST_EXAMPLE = 300
"""Characters of such an example."""


@dataclass(frozen=True)
class ClassifyTask(JsonlTask):
    """Texts and their labels from a file."""

    has_labels = True
    code_version = 2

    name: str = "classify"
    """Name shown in tables and written into records."""
    question: str = "text|question"
    """Field with the text; `a|b` takes the first of them that a file has."""
    answer: str = "label|answer"
    """Field with the label."""
    labels: tuple[str, ...] = ()
    """The labels; any other makes a line invalid. Empty takes all labels of the file."""
    separator: str | None = None
    """What stands between several labels of a text, beside JSON lists; null tells by the rows, ""
    takes each answer for one label."""
    instruction: str = "Classify the text."
    """The teacher's instruction; the labels are added to it."""
    n_examples: int = 8
    """Training rows used as few-shot examples, the labels in turn."""
    metric: MetricName = field(init=False, default="exact")
    min_f1: float = field(init=False, default=1.0)
    verifier: dict[str, Any] | None = field(init=False, default=None)
    database: str | None = field(init=False, default=None)
    options: str = field(init=False, default="options")
    schema: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Check the labels, then everything that a file of questions needs.

        Raises:
            ValueError: something is wrong with them.
        """
        spellings = [normalised(label) for label in self.labels]
        if len(set(spellings)) < len(spellings) or "" in spellings:
            raise ValueError("labels: each must appear once, and none may be empty.")
        if len(spellings) == 1:
            raise ValueError(f"labels=[{self.labels[0]}]: one label leaves nothing to classify.")
        super().__post_init__()

    @override
    def chance(self, item: Item) -> float:
        return 1 / len(self._answers)

    @property
    def system_prompt(self) -> str:
        """What a model is told before a text: the instruction, and the labels."""
        task = f"{self.instruction} The labels are: {', '.join(self._labels)}."
        if not self.has_several_labels:
            return task
        example = shown(label_sets.written(self._labels[:2]))
        return (
            f"{task} A text may have several of them. The answer is a JSON list of all labels that "
            f"fit, such as {example}; [] if none fits."
        )

    @cached_property
    def _metric(self) -> Metric:
        kind = LabelSet if self.has_several_labels else Label
        return kind(labels=self._labels)

    # --- several labels --------------------------------------------------------------------------

    @property
    @override
    def has_several_labels(self) -> bool:
        return self._form is not None

    @cached_property
    def _form(self) -> SetForm | None:
        """How the file writes several labels; None where each text has one."""
        if self.separator == "":
            return None
        return label_sets.form_of_file(self.path, self.answer, self.separator)

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        notes = super().notes
        form = self._form
        if form is None:
            return notes
        off = "" if self.separator else ' If each is one label, type task.separator="".'
        several = f"{form.n_several:,} of {form.n_rows:,} rows have several labels or none"
        return (f"{self.path}: {several}, {form.called}.{off}", *notes)

    @property
    @override
    def _if_none(self) -> str:
        return label_sets.written(()) if self.has_several_labels else ""

    @override
    def score(self, text: str, item: Item) -> Score:
        if self.has_several_labels:
            return label_sets.scored(self.parse(text), item.answer)
        return super().score(text, item)

    def _rows_of_labels(self, rows: Rows) -> dict[str, NDArray[np.int64]]:
        """Return label to the places of its rows."""
        import numpy as np

        if not self.has_several_labels:
            return {label: np.flatnonzero(rows.of_answer(label)) for label in self._labels}
        places: dict[str, list[int]] = {label: [] for label in self._labels}
        for index, row in enumerate(rows):
            for label in label_sets.labels_of(row.answer) or ():
                places[label].append(index)
        return {label: np.array(some, np.int64) for label, some in places.items()}

    # --- the labels of a file --------------------------------------------------------------------

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels that a text may get: those named, else those of the file."""
        return self._labels

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.labels or self._content.labels

    @cached_property
    def _seen(self) -> Labels:
        fewest = 1 if self.has_several_labels else 2
        return Labels(self.path, self.answer, self.question, fewest)

    def _read_files(self) -> Content:
        content = super()._read_files()
        if self.labels:
            return content
        own, *tested = content.files
        if respelled := self._seen.respelled():
            if self.has_several_labels:
                sets = {row.answer: label_sets.labels_of(row.answer) or () for row in own.rows}
                respelled = {
                    answer: label_sets.written(respelled.get(label, label) for label in labels)
                    for answer, labels in sets.items()
                }
            own = replace(own, rows=own.rows.respelled(respelled))
        return replace(
            content,
            files=(own, *tested),
            labels=self._seen.all(),
            spellings=self._seen.spellings(),
        )

    def _canonical(self, key: str, answer: str, options: Sequence[str]) -> str:
        if self._form is not None:
            labels = self._form.read(answer)
            return label_sets.written(self._canonical_label(key, label) for label in labels)
        if self.separator is None and label_sets.labels_of(answer) is not None:
            raise ValueError(
                f"the answer {shown(answer)} is a list, and most other rows have a single label"
            )
        return self._canonical_label(key, answer)

    def _canonical_label(self, key: str, answer: str) -> str:
        if self.labels:
            return Label(self.labels).canonical(answer, ())
        if key == "task.path":
            return self._seen.spelled(answer)
        known = self._seen.all()
        if normalised(answer) in map(normalised, known):
            return Label(known).canonical(answer, ())
        raise ValueError(
            f"the label {shown(answer)} is in no row of {self.path}, so that no student can learn "
            f"it.{did_you_mean(answer, known)}".rstrip(".")
        )

    @override
    def refusals(self) -> list[Reason]:
        reasons = doubts.too_few_for_labels(self.path, self._by_split, self._labels)
        return reasons or super().refusals()

    @property
    @override
    def complaints(self) -> tuple[Reason, ...]:
        return (
            *super().complaints,
            *doubts.of_labels(self._n_rows_of_labels, self._labels),
            *doubts.of_spellings(self.path, self._content.spellings),
        )

    @property
    def _n_rows_of_labels(self) -> dict[Split, dict[str, int]]:
        """Return label to its rows, by split."""
        return {
            split: {label: len(some) for label, some in self._rows_of_labels(rows).items()}
            for split, rows in self._by_split.items()
        }

    @cached_property
    def _shown(self) -> list[Item]:
        import numpy as np

        rows = self._by_split["train"]
        # The first ones of each label are enough: there are no more than `n_examples` of any.
        order = [index for name in self.slices for index in self._order("train", 1, name).tolist()]
        shuffled = rows.take(np.array(order, np.int64))
        of_labels = self._rows_of_labels(shuffled)
        queues = [of_labels[label][: self.n_examples].tolist() for label in self._labels]
        turns = [index for turn in zip_longest(*queues) for index in turn if index is not None]
        places = list(dict.fromkeys(turns))[: self.n_examples]  # a row may have several labels
        return [self._item(shuffled[index]) for index in places]

    @cached_property
    def _answers(self) -> list[str]:
        return super()._answers if self.has_several_labels else list(self._labels)

    # --- prompts that tell labels apart ----------------------------------------------------------

    @override
    def telling_apart(
        self, prompt: str, base: str, pairs: Sequence[tuple[str, str]]
    ) -> ClassifyTask:
        twin = copy.copy(self)  # what was read of the files stays read
        added = {**self._repairs, prompt: (base, tuple(pairs))}
        twin.__dict__.update(_repairs=added, prompts=(*self.prompts, prompt))
        return twin

    @cached_property
    def _repairs(self) -> dict[str, tuple[str, tuple[tuple[str, str], ...]]]:
        """Name of a prompt that was added, to the one that it adds to and the labels."""
        return {}

    @override
    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        base, pairs = self._repairs.get(prompt, (prompt, ()))
        first, *rest = super().messages(item, base)
        if pairs:
            lines = [first["content"], "These labels are easily confused:", *self._contrasts(pairs)]
            first = {**first, "content": "\n".join(lines)}
        return [first, *rest]

    @override
    def _examples(self, prompt: str) -> list[Item]:
        return super()._examples(self._repairs.get(prompt, (prompt,))[0])

    @override
    def answer_texts(self, prompt: str) -> list[str]:
        return super().answer_texts(self._repairs.get(prompt, (prompt,))[0])

    def _contrasts(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return a line for each of two labels: its training rows that are most like the other's.

        Rows that differ in little but their label show what the label hangs on.
        """
        lines = []
        for first, second in pairs:
            if (first, second) not in self._alike:
                texts = self._texts_of(first), self._texts_of(second)
                self._alike[first, second] = most_alike(*texts, _N_CONTRASTS)
            for label, some in zip((first, second), self._alike[first, second], strict=True):
                examples = " | ".join(" ".join(text.split())[:_LONGEST_EXAMPLE] for text in some)
                lines.append(f"- {label}: {examples}")
        return list(dict.fromkeys(lines))

    @cached_property
    def _alike(self) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
        return {}

    def _texts_of(self, label: str) -> list[str]:
        import numpy as np

        rows = self._by_split["train"]
        places = np.flatnonzero(rows.of_answer(label))[:_MOST_CONTRASTED]
        return [row.question for row in rows.take(places)]


def most_alike(ours: Sequence[str], theirs: Sequence[str], n: int) -> tuple[list[str], list[str]]:
    """Return up to n texts of each side that share most words with one of the other side."""

    def words(texts: Sequence[str]) -> list[set[str]]:
        return [set(normalised(text).split()) for text in texts]

    def best(mine: Sequence[str], own: list[set[str]], against: list[set[str]]) -> list[str]:
        def likeness(k: int) -> float:
            return max((len(own[k] & b) / max(1, len(own[k] | b)) for b in against), default=0.0)

        order = sorted(range(len(mine)), key=lambda k: -likeness(k))
        return [mine[k] for k in order[:n]]

    first, second = words(ours), words(theirs)
    return best(ours, first, second), best(theirs, second, first)


class Labels:
    """The labels of a file that names none: its different answers."""

    def __init__(self, path: str, fields: str, question: str, fewest: int = 2) -> None:
        """Start to count those of a file.

        Args:
            path: of the file.
            fields: of the label.
            question: field of the text.
            fewest: labels that there have to be.
        """
        self._fewest = fewest
        self._path = path
        self._fields = fields
        self._question = question
        self._spellings: dict[str, Counter[str]] = {}
        self._counts: Counter[str] = Counter()

    def spelled(self, answer: str) -> str:
        """Count an answer; return it as the file spelled it first, until all are counted.

        Raises:
            ConfigError: there are so many that they are no labels.
        """
        if reason := why_no_name(answer):
            raise ValueError(f"the label '{shown(answer)}': {reason}")
        key = normalised(answer)
        self._counts[key] += 1
        if len(self._counts) > _MOST_COUNTED:
            raise ConfigError(self._too_many(f"more than {_MOST_COUNTED:,}"))
        spellings = self._spellings.setdefault(key, Counter())
        spellings[answer] += 1
        return next(iter(spellings))

    def all(self) -> tuple[str, ...]:
        """Return the labels in the spelling that most rows have, the most frequent first.

        Raises:
            ConfigError: there are too many, or too few.
        """
        n = len(self._counts)
        is_id = n > _FEW_LABELS and self._are_all_different and self._likely
        if n > _MOST_LABELS or is_id:
            raise ConfigError(self._too_many(f"{n:,}"))
        if n < self._fewest:
            if n == 0:
                raise ConfigError(f"{self._path}: every row has an empty list of labels.")
            raise ConfigError(f"{self._path} has one label only, which leaves nothing to classify.")
        return tuple(_commonest(self._spellings[key]) for key, _ in self._counts.most_common())

    def respelled(self) -> dict[str, str]:
        """Return the first spelling of a label to that of most rows, where they differ."""
        commonest = {
            next(iter(spelling)): _commonest(spelling) for spelling in self._spellings.values()
        }
        return {first: chosen for first, chosen in commonest.items() if first != chosen}

    def spellings(self) -> dict[str, dict[str, int]]:
        """Return each label's spellings, with how many rows have them, the commonest first."""
        return {
            _commonest(spelling): dict(spelling.most_common())
            for spelling in self._spellings.values()
        }

    @property
    def _are_all_different(self) -> bool:
        return len(self._counts) == self._counts.total()

    @cached_property
    def _likely(self) -> list[str]:
        return likely_answers(self._path, self._question, self._fields)

    def _too_many(self, n: str) -> str:
        likely = self._likely
        if likely and self._are_all_different:
            return str(AnswersLikeIds(self._path, self._fields, tuple(likely)))
        typed = f" The labels may be in another field: {' or '.join(likely)}." if likely else ""
        return (
            f"{self._path} has {n} different answers in its field {self._fields}: are they labels? "
            f"Name them with task.labels=[…], or type +task=jsonl.{typed}"
        )


def _commonest(spellings: Counter[str]) -> str:
    """Return the spelling that most rows have; of equals, the one seen first."""
    return max(spellings, key=lambda spelling: spellings[spelling])
