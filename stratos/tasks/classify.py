"""Classification: each text gets one of a set of labels, or several of them.

The reader of labels takes those that are named, or else those that a file has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING

from typing_extensions import override

from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.reasons import Reason
from stratos.core.redact import shown
from stratos.core.values import why_no_name
from stratos.tasks import doubts, label_sets
from stratos.tasks.base import Item, Message, Split
from stratos.tasks.chat import AddedPrompt, QuestionPrompt
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.file_task import FileTask
from stratos.tasks.label_sets import LabelSet, SetForm
from stratos.tasks.metrics import Label, Metric
from stratos.tasks.reader import PATH, Content, FileReader, RowChecker
from stratos.tasks.rows import ID_SHARE, Fields, likely_answers, swapped
from stratos.tasks.table import Row, Rows
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


_N_CONTRASTS, _MOST_CONTRASTED = 2, 50
"""Examples of each of two confused labels, and rows of a label that they are taken from."""
_LONGEST_EXAMPLE = 300
"""Characters of such an example."""


@dataclass(frozen=True)
class LabelPrompt(QuestionPrompt):
    """Asks for a label, and shows how labels differ that are easily confused."""

    added: Mapping[str, AddedPrompt] = field(default_factory=dict)
    contrasts: Contrasts | None = None
    """Training texts of labels; None without added prompts."""

    def _base(self, prompt: str) -> str:
        return self.added[prompt].base if prompt in self.added else prompt

    @override
    def shows_examples(self, prompt: str) -> bool:
        return super().shows_examples(self._base(prompt))

    @override
    def answer_texts(self, prompt: str, items: Sequence[Item | Row]) -> list[str]:
        return super().answer_texts(self._base(prompt), items)

    @override
    def messages(self, item: Item, prompt: str, examples: Sequence[Item]) -> list[Message]:
        first, *rest = super().messages(item, self._base(prompt), examples)
        added = self.added.get(prompt)
        if added is not None and added.pairs and self.contrasts is not None:
            lines = self.contrasts.lines(added.pairs)
            opening = [first["content"], "These labels are easily confused:", *lines]
            first = {**first, "content": "\n".join(opening)}
        return [first, *rest]


@dataclass(frozen=True)
class Contrasts:
    """Training texts that show what hangs on a label."""

    rows: Rows

    def lines(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return a line for each of two labels: its rows that are most like the other's.

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

        places = np.flatnonzero(self.rows.of_answer(label))[:_MOST_CONTRASTED]
        return [row.question for row in self.rows.take(places)]


@dataclass(frozen=True)
class ClassifyTask(FileTask[LabelledContent]):
    """Texts and their labels from a file."""

    has_labels = True
    code_version = 3

    test_path: str | None = None
    """A file of test texts, which is the whole test split; null takes a part of `path`."""
    unlabelled_path: str | None = None
    """A file of unlabelled rows, which a teacher labels; `path` itself means its rows with an empty
    answer."""
    name: str = "classify"
    """Name shown in tables and written into records."""
    question: str = "text|question"
    """Field with the text; `a|b` takes the first of them that a file has."""
    answer: str = "label|answer"
    """Field with the label."""
    rationale: str | None = None
    """Field with the reasoning that leads to the label; null if the file has none."""
    split_answer: str | None = None
    """Separator between rationale and label in the answer field; null for none."""
    labels: tuple[str, ...] = ()
    """The labels; any other makes a line invalid. Empty takes all labels of the file."""
    separator: str | None = None
    """What stands between several labels of a text, beside JSON lists; null tells by the rows, ""
    takes each answer for one label."""
    slice: str | None = None
    """Field with the slice of a row; null puts all rows into the first of `slices`."""
    slices: tuple[str, ...] = ("main",)
    """Slices to report separately."""
    instruction: str = "Classify the text."
    """The teacher's instruction; the labels are added to it."""
    n_examples: int = 8
    """Training rows used as few-shot examples, the labels in turn."""
    test_share: float = 0.25
    """Share of the rows for the test split; ignored with a `test_path`."""
    _added: dict[str, AddedPrompt] = field(default_factory=dict)
    """Prompts beside the known ones, each of which adds to one of them how labels differ."""

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

    # --- what it is put together of --------------------------------------------------------------

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields(self.question, self.answer, self.rationale, self.slice)

    @property
    @override
    def file_reader(self) -> FileReader:
        if_none = label_sets.written(()) if self.has_several_labels else ""
        return replace(super().file_reader, if_none=if_none)

    @property
    @override
    def reader(self) -> LabelReader:
        is_told = self.separator is not None
        spelling = LabelSpelling(self.path, self.fields_named, self.labels, self._form, is_told)
        checker = RowChecker(self.slices, self.slice_of, spelling, self.split_answer)
        return LabelReader(replace(self.file_reader, check=checker), spelling)

    @cached_property
    @override
    def measure(self) -> Metric:
        return (LabelSet if self.has_several_labels else Label)(labels=self.all_labels)

    @cached_property
    @override
    def prompt(self) -> LabelPrompt:
        task = f"{self.instruction} The labels are: {', '.join(self.all_labels)}."
        if self.has_several_labels:
            example = shown(label_sets.written(self.all_labels[:2]))
            task += (
                " A text may have several of them. The answer is a JSON list of all labels that "
                f"fit, such as {example}; [] if none fits."
            )
        contrasts = Contrasts(self.splits.rows["train"]) if self._added else None
        return LabelPrompt(task, added=self._added, contrasts=contrasts)

    @cached_property
    @override
    def examples(self) -> list[Item]:
        """Training items of all labels in turn."""
        import numpy as np

        rows = self.splits.rows["train"]
        # The first ones of each label are enough: there are no more than `n_examples` of any.
        order = [index for name in self.slices for index in self.order("train", 1, name).tolist()]
        shuffled = rows.take(np.array(order, np.int64))
        of_labels = self._rows_of_labels(shuffled)
        queues = [of_labels[label][: self.n_examples].tolist() for label in self.all_labels]
        turns = [index for turn in zip_longest(*queues) for index in turn if index is not None]
        places = list(dict.fromkeys(turns))[: self.n_examples]  # a row may have several labels
        return [self.item_of(shuffled[index]) for index in places]

    @property
    @override
    def known_prompts(self) -> tuple[str, ...]:
        return (*super().known_prompts, *self._added)

    @override
    def telling_apart(
        self, prompt: str, base: str, pairs: Sequence[tuple[str, str]]
    ) -> ClassifyTask:
        added = {**self._added, prompt: AddedPrompt(base, tuple(pairs))}
        return replace(self, prompts=(*self.prompts, prompt), _added=added)

    # --- labels ----------------------------------------------------------------------------------

    @property
    @override
    def all_labels(self) -> tuple[str, ...]:
        return self.labels or self.content.labels

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

    def _rows_of_labels(self, rows: Rows) -> dict[str, NDArray[np.int64]]:
        """Return label to the places of its rows."""
        import numpy as np

        if not self.has_several_labels:
            return {label: np.flatnonzero(rows.of_answer(label)) for label in self.all_labels}
        places: dict[str, list[int]] = {label: [] for label in self.all_labels}
        for index, row in enumerate(rows):
            for label in label_sets.labels_of(row.answer) or ():
                places[label].append(index)
        return {label: np.array(some, np.int64) for label, some in places.items()}

    @cached_property
    @override
    def other_answers(self) -> list[str]:
        """The labels; where texts have several, the sets that other rows have."""
        return super().other_answers if self.has_several_labels else list(self.all_labels)

    @override
    def chance(self, item: Item) -> float:
        return 1 / len(self.other_answers)

    # --- what is said of the files ---------------------------------------------------------------

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        notes, form = super().notes, self._form
        if form is None:
            return notes
        off = "" if self.separator else ' If each is one label, type task.separator="".'
        several = f"{form.n_several:,} of {form.n_rows:,} rows have several labels or none"
        return (f"{self.path}: {several}, {form.called}.{off}", *notes)

    @override
    def refusals(self) -> list[Reason]:
        reasons = doubts.too_few_for_labels(self.path, self.splits.rows, self.all_labels)
        return reasons or super().refusals()

    @property
    @override
    def complaints(self) -> tuple[Reason, ...]:
        n_of_labels: dict[Split, dict[str, int]] = {
            split: {label: len(some) for label, some in self._rows_of_labels(rows).items()}
            for split, rows in self.splits.rows.items()
        }
        return (
            *super().complaints,
            *doubts.of_labels(n_of_labels, self.all_labels),
            *doubts.of_spellings(self.path, self.content.spellings),
        )


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
