"""The user's own files as a task: a reader, a splitter, a metric and a prompt, put together.

Splits are fixed before anything is asked or generated. By a hash of the question they hardly change
when rows are added, and are disjoint up to case, punctuation and spacing; near duplicates are of
one split. Each label and slice has its share of each (`stratos.tasks.dedup.splits`). Where there is
a file of test questions, all of it and nothing else is the test split.
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal

from typing_extensions import override

from stratos.core.errors import ConfigError, StratosError
from stratos.core.foreign import why_unreadable
from stratos.core.reasons import Because, Reason
from stratos.core.remote import local_path
from stratos.tasks import chat, doubts
from stratos.tasks.answers import AnswerText, states_answer
from stratos.tasks.base import FieldName, Item, Message, Score, Split, Task
from stratos.tasks.chat import Prompt, QuestionPrompt
from stratos.tasks.dedup.hashes import content_id, family_id, id_of, order_key
from stratos.tasks.file_report import UNANSWERED, FileReport
from stratos.tasks.files import is_local
from stratos.tasks.metrics import Metric, Own, Regex
from stratos.tasks.reader import (
    PATH,
    TEST_PATH,
    UNLABELLED_PATH,
    Checker,
    ContentT,
    FileReader,
    Reader,
    RowChecker,
    read_once,
)
from stratos.tasks.rows import Fields
from stratos.tasks.table import Row, Rows
from stratos.tasks.words import NoPath, NotReadBack, PathEndsElsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stratos.tasks.dedup.splits import Splits, Splitter

_MOST_CHOICES = 10_000
"""Different answers that wrong choices are drawn from."""
_OF_PROMPTS = ("prompts", "_added")
"""Settings that change nothing of what is read."""
_N_FIRST = 32
"""Training rows that tell what answers look like."""


@dataclass(frozen=True)
class FileTask(Task, Generic[ContentT]):
    """A task of which every split is rows of files of JSON lines, CSV or Parquet.

    A class below it has its settings as fields, and puts together what it does not take as it is:
    `checker`, `reader`, `splitter`, `measure` and `prompt`.
    """

    path: str
    """The file of JSON lines, CSV or Parquet: a path, any fsspec URL (s3://…, https://…), or
    hf://datasets/OWNER/NAME/FILE."""
    name: str = "file"
    """Name shown in tables and written into records."""
    version: int = 1
    """Raise it when rows change, so that results on different rows are not compared."""
    on_error: Literal["stop", "skip"] = "stop"
    """Invalid lines: stop before anything is spent, or skip them with a warning before any request;
    the corpus record counts them."""
    instruction: str = "Answer the question."
    """The teacher's instruction."""
    n_examples: int = 4
    """Training rows used as few-shot examples."""
    validation_share: float = 0.15
    """Share of the rows for validation."""
    compares_words: bool = True
    """Train on no row that shares 13 words in a row with a validation or test question, and put
    near duplicates into one split; false compares questions as a whole, which suits those that are
    written from a template."""
    prompts: tuple[str, ...] = ("default", "zero_shot", "reasoning")
    """Prompts to try with a teacher: few-shot, zero-shot, step by step."""

    can_reverse = True
    """The labelled rows are answers first; their reasoning is in the file, or is written."""
    has_rows = True
    """The training items are rows of the file."""

    # --- what a task is put together of ----------------------------------------------------------

    @property
    @abstractmethod
    def fields_named(self) -> Fields:
        """What fields are called in the config."""

    @property
    def checker(self) -> Checker:
        """What checks each row: by default its slice, and its answer by the metric."""
        return RowChecker(self.slices, self.slice_of, self.canonical)

    @property
    def file_reader(self) -> FileReader:
        """What reads each file, with the checker of its rows."""
        skips = self.on_error == "skip"
        return FileReader(self.files, self.fields_named, self.checker, skips, self.compares_words)

    @property
    def reader(self) -> Reader[ContentT]:
        """What reads all files: by default each of them, and their near duplicates."""
        return self.file_reader  # type: ignore[return-value]

    @property
    def splitter(self) -> Splitter[ContentT]:
        """What divides the rows: by default a hash of the question."""
        from stratos.tasks.dedup.splits import HashSplitter  # imports numpy

        return HashSplitter(self.validation_share, self.test_share, self.normal)

    @property
    @abstractmethod
    def measure(self) -> Metric:
        """How answers are read and compared."""

    @cached_property
    def prompt(self) -> Prompt:
        """How a model is asked: by default behind the instruction."""
        return QuestionPrompt(self.instruction)

    def slice_of(self, key: str, row: Row) -> str:
        """Return the slice of a row of the file of a key in the config."""
        return self.slices[0] if self.fields_named.slice is None else row.slice

    def canonical(self, key: str, answer: str, options: Sequence[str]) -> str:
        """Return a gold answer of the file of a key, to a question with options, as it is learnt.

        Raises:
            ValueError: it is none; the message says why.
        """
        return self.measure.canonical(answer, options)

    # --- the files -------------------------------------------------------------------------------

    @property
    def files(self) -> dict[str, str]:
        """Key in the config to file: training rows, then test rows, then those without answers."""
        keys = (PATH, TEST_PATH, UNLABELLED_PATH)
        paths = {key: getattr(self, key.removeprefix("task."), None) for key in keys}
        return {key: path for key, path in paths.items() if path}

    @property
    def files_beside(self) -> tuple[str, ...]:
        """Files of this machine that answers are compared by: by default none."""
        return ()

    @property
    def are_files_beside_here(self) -> bool:
        """Whether each of these can be read."""
        return not any(why_unreadable(os.path.expanduser(path)) for path in self.files_beside)

    @property
    def test_share(self) -> float:
        """Share of the rows for the test split, where no key of the task sets it."""
        return 0.25

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        self._check_settings()
        if not self.are_files_beside_here:
            return  # it is looked at with all other files of the config
        here = [path for path in self.files.values() if is_local(path)]
        reasons = {path: self.why_unreadable(path) for path in here}
        for path, reason in reasons.items():
            # Whether it is there at all is looked at with all other files of the config.
            if reason is not None and os.path.lexists(os.path.expanduser(local_path(path))):
                raise ValueError(f"{path}: {reason}.")
        if len(here) == len(self.files) and not any(reasons.values()):
            try:
                _ = self.splits, self._unlabelled
            except ConfigError as error:
                raise ValueError(str(error)) from error

    def _check_settings(self) -> None:
        known = self.known_prompts
        if unknown := [prompt for prompt in self.prompts if prompt not in known]:
            raise ValueError(f"prompts={unknown}: known are {', '.join(known)}.")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                "validation_share and test_share must be above 0 and below 1 together."
            )
        if not self.slices or not self.prompts or self.n_examples < 0:
            raise ValueError("slices and prompts cannot be empty, nor n_examples below 0.")
        if len(set(self.slices)) < len(self.slices):
            raise ValueError("slices: each must appear once.")
        named = self.fields_named
        if not all(name.strip() for name in (*named.question.split("|"), *named.answer.split("|"))):
            raise ValueError("question and answer name the fields of the file: neither is empty.")

    @property
    def known_prompts(self) -> tuple[str, ...]:
        """Names that `prompts` may have."""
        return tuple(chat.FORMS)

    def why_unreadable(self, path: str) -> Reason | None:
        """Return why a path of this machine is no file that can be read; None where it is one."""
        reason = why_unreadable(os.path.expanduser(local_path(path)))
        return None if reason is None else Because(str(reason))

    @cached_property
    def content(self) -> ContentT:
        """What is in the files; what is on this machine is read once in a process."""
        settings = ((f.name, repr(getattr(self, f.name))) for f in fields(self))
        key = (type(self), *(pair for pair in settings if pair[0] not in _OF_PROMPTS))
        return read_once(key, (*self.files.values(), *self.files_beside), self.reader)

    @property
    @override
    def is_here(self) -> bool:
        return all(is_local(path) for key, path in self.files.items() if key != UNLABELLED_PATH)

    @property
    @override
    def rows_name(self) -> str:
        return Path(self.path).name

    @property
    @override
    def tests_other_rows(self) -> bool:
        return TEST_PATH in self.files

    @property
    @override
    def tests_other_wordings(self) -> bool:
        return not self.tests_other_rows and self.splits.tests_other_wordings

    @property
    @override
    def takes_unlabelled(self) -> bool:
        return UNLABELLED_PATH in self.files

    @property
    @override
    def unlabelled_field(self) -> FieldName | None:
        return self.fields_named.question.split("|")[0]

    @cached_property
    @override
    def content_sha256(self) -> str:
        unlabelled = self.content.unlabelled
        files = (*self.content.files, *(() if unlabelled is None else (unlabelled,)))
        shas = [file.rows.sha256() for file in files]
        read = "".join([*shas, self.measure.identity, self.splits.together.sha256()])
        return hashlib.sha256(read.encode()).hexdigest()

    # --- the splits ------------------------------------------------------------------------------

    @cached_property
    def splits(self) -> Splits:
        """The rows of each split."""
        return self.splitter.split(self.content)

    @cached_property
    def _unlabelled(self) -> Rows:
        file = self.content.unlabelled
        if file is None:
            return Rows.concat([])
        from stratos.tasks.dedup.splits import without_answered  # imports numpy

        return without_answered(file.rows, self.splits.pool)

    @property
    @override
    def n_train(self) -> int:
        return len(self.splits.rows["train"])

    @property
    @override
    def n_test(self) -> int:
        return len(self.splits.rows["test"])

    @property
    @override
    def n_unlabelled(self) -> int:
        return len(self._unlabelled)

    # --- what is said of the files ---------------------------------------------------------------

    @override
    def lines_of(self, ids: Collection[str]) -> dict[str, str]:
        parts = (self.splits.rows["train"], self.splits.rows["validation"])
        keyed = ((content_id(row.question), row.line) for rows in parts for row in rows)
        return {key: line for key, line in keyed if key in ids}

    @property
    def report(self) -> FileReport:
        """What a user is told of the files."""
        of_rows = self.content, self.splits, self.n_unlabelled
        return FileReport(self.files, *of_rows, self.file_reader, self.measure)

    @property
    @override
    def left_out(self) -> dict[str, int]:
        return self.report.left_out

    @property
    @override
    def n_unanswered(self) -> int:
        return self.left_out.get(UNANSWERED, 0)

    @property
    @override
    def notes(self) -> tuple[str, ...]:
        return self.report.notes

    @property
    @override
    def complaints(self) -> tuple[Reason, ...]:
        return self.report.complaints

    @override
    def refusals(self) -> list[Reason]:
        return doubts.too_few(self.path, self.splits.rows)

    # --- items -----------------------------------------------------------------------------------

    @override
    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        rows = self.splits.rows[split]
        names = [slice] if slice is not None else self.slices
        queues = [self.order(split, seed, name) for name in names]
        longest = max(map(len, queues), default=0)
        turns = (queue[k] for k in range(longest) for queue in queues if k < len(queue))
        return [self.item_of(rows[int(index)]) for index, _ in zip(turns, range(n), strict=False)]

    def order(self, split: Split, seed: int, slice: str) -> NDArray[np.int64]:
        """Return the places of a slice's rows within their split, shuffled by the seed."""
        from stratos.tasks.dedup.splits import order_of  # imports numpy

        if (split, seed, slice) not in self._orders:
            self._orders[split, seed, slice] = order_of(self.splits.rows[split], slice, seed)
        return self._orders[split, seed, slice]

    @cached_property
    def _orders(self) -> dict[tuple[Split, int, str], NDArray[np.int64]]:
        return {}

    def item_of(self, row: Row) -> Item:
        """Return the item of a row."""
        item = Item(
            id=content_id(row.question),
            slice=row.slice,
            question=row.question,
            answer=row.answer,
            rationale=row.rationale,
            family=family_id(row.question),
        )
        return replace(item, choices=self.choices_of(item))

    @override
    def groups_of(self, items: Sequence[Item]) -> list[str]:
        import numpy as np

        families = np.array([int(family_id(item.question), 16) for item in items], np.uint64)
        return [id_of(key) for key in self.splits.together.of_families(families).tolist()]

    @override
    def held_out(self) -> list[Item]:
        parts = (self.splits.rows["validation"], self.splits.rows["test"])
        return [self.item_of(row) for rows in parts for row in rows]

    @override
    def unlabelled(self, n: int, seed: int = 0) -> list[Item]:
        items = [self.item_of(row) for row in self._unlabelled]
        return sorted(items, key=lambda item: order_key(item.id, seed))[:n]

    @override
    def labelled(self, item: Item, text: str) -> Item | None:
        answer = self.parse(text)
        if answer is None:
            return None
        try:
            canonical = self.measure.canonical(answer, self.measure.options_of(item.question))
        except ValueError:
            return None
        return replace(item, answer=canonical, rationale="", choices=())

    @override
    def as_row(self, item: Item, answer: str) -> dict[str, Any]:
        named = self.fields_named
        return {named.question.split("|")[0]: item.question, named.answer.split("|")[0]: answer}

    @override
    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        yield from self.items("train", min(n, self.n_train), seed)

    @override
    def verify(self, item: Item) -> Reason | None:
        if not item.rationale:
            return NoPath()
        if states_answer(item.rationale) and self.score(item.rationale, item).exact < 1:
            return PathEndsElsewhere(str(self.parse(item.rationale)), item.answer)
        if self.score(self.completion(item), item).exact < 1:
            return NotReadBack(item.answer)
        return None

    @override
    def checks_steps(self, item: Item) -> bool:
        return False  # `verify` looks at where a path ends

    @cached_property
    @override
    def has_objects(self) -> bool:
        if not self.is_here:  # a check does not fetch rows
            return getattr(self, "schema", None) is not None
        try:
            items = self.items("train", _N_FIRST)
        except (StratosError, OSError, ValueError):  # told where the rows are read to be used
            return False
        return bool(items) and all(
            item.answer.lstrip().startswith("{") and not item.rationale for item in items
        )

    @cached_property
    @override
    def has_paths(self) -> bool:
        return bool(self.splits.rows["train"].column("has_path").any())

    # --- choices ---------------------------------------------------------------------------------

    @override
    def chance(self, item: Item) -> float:
        n = len(self.measure.options_of(item.question))
        return 1 / n if n else 0.0

    @cached_property
    def other_answers(self) -> list[str]:
        """The answers that wrong choices are drawn from, in their order; by default of all rows."""
        return self.splits.pool.answers(_MOST_CHOICES)

    def choices_of(self, item: Item) -> tuple[str, ...]:
        """Return four answers, three of them of other rows; none where there are too few."""
        return chat.drawn_choices(item, self.other_answers)

    # --- what a teacher and a student are asked --------------------------------------------------

    @property
    @override
    def system_prompt(self) -> str:
        return self.prompt.system

    @cached_property
    def examples(self) -> list[Item]:
        """Answered training items that prompts show."""
        return self.items("train", self.n_examples, seed=1)

    def _shown(self, prompt: str) -> list[Item]:
        return self.examples if self.prompt.shows_examples(prompt) else []

    @override
    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        return self.prompt.messages(item, prompt, self._shown(prompt))

    @override
    def choice_messages(self, item: Item) -> list[Message]:
        return self.prompt.choice_messages(item, self._shown("default"))

    @override
    def example_answers(self, prompt: str) -> frozenset[str]:
        return frozenset(example.answer for example in self._shown(prompt))

    @override
    def answer_texts(self, prompt: str) -> list[str]:
        if isinstance(self.measure, Regex):
            return []  # a pattern is no answer
        rows = self.splits.rows
        return self.prompt.answer_texts(prompt, [*rows["train"], *rows["validation"]])

    @override
    def completion(self, item: Item) -> str:
        return chat.reasoned(item) if item.rationale else item.answer

    # --- reading and scoring ---------------------------------------------------------------------

    @override
    def parse(self, text: str) -> AnswerText | None:
        return self.measure.read(text)

    @override
    def score(self, text: str, item: Item) -> Score:
        return self.measure.score(text, item)

    @override
    def normal(self, answer: str) -> str:
        return self.measure.normal(answer)

    @property
    @override
    def parts(self) -> tuple[Any, ...]:
        return (self.measure.verifier,) if isinstance(self.measure, Own) else ()

    @override
    def answer_schema(self, item: Item) -> Mapping[str, Any] | None:
        return self.measure.answer_schema

    @override
    def field_scores(self, item: Item, answer: str | None) -> Mapping[str, float]:
        return self.measure.field_scores(answer, item.answer)
