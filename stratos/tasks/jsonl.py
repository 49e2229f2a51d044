"""The user's own file as a task: one JSON object per line, with a question and its answer.

Splits are by a hash of the question: they are fixed before anything is asked or generated, hardly
change when rows are added, and are disjoint up to case, punctuation and spacing; near duplicates
are of one split (`stratos.tasks.near_duplicates`). Each label and slice has its share of each
(`stratos.tasks.strata`). Where there is a file of test questions, all
of it and nothing else is the test split.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace as replace_row

from stratos.core.digest import digest_of
from stratos.core.errors import ConfigError, StratosError
from stratos.core.foreign import beside, why_unreadable
from stratos.core.remote import local_path
from stratos.tasks import chat, doubts
from stratos.tasks.answers import states_answer
from stratos.tasks.base import Item, Message, Score, Split, Task
from stratos.tasks.files import OTHER_SEPARATORS, is_local, separator_of
from stratos.tasks.metrics import LETTERS, Metric, MetricName, Own, metric_of
from stratos.tasks.rows import (
    Fields,
    FileRows,
    Settled,
    Takes,
    Unanswered,
    columns_of,
    find_field,
    identity_of,
    likely_fields,
    nearest_fields,
    read_rows,
    shown,
)
from stratos.tasks.schema import BySchema
from stratos.tasks.schema.document import read_schema
from stratos.tasks.split import content_id, family_id, id_of, order_key
from stratos.tasks.sql import SqlResult
from stratos.tasks.table import Row, Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stratos.tasks.near_duplicates import Near

_LONGEST_ANSWER = 20_000
"""Characters of an answer above which it is none that a student could write."""
_OPTION = re.compile(r"^([A-Z])\) ", re.MULTILINE)
"""An option in a question, as `_check` writes it."""
_MOST_SPELLINGS = 10_000
"""Different answers from which on they are no labels, whatever their spelling."""
_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".ndjson")
"""Of files that are what they are read as."""
_MEND = "Fix them, or skip them with task.on_error=skip."
_ANSWER = "Answer them, or skip them with task.on_error=skip"
_MOST_CHOICES = 10_000
"""Different answers that wrong choices are drawn from."""
_MOST_CONTENTS = 4
"""Tasks of one process whose files are read once, whoever makes them anew."""
_contents: dict[tuple[Any, ...], Content] = {}


@dataclass(frozen=True)
class Content:
    """What was read of a task's files."""

    files: tuple[FileRows, ...]
    unlabelled: FileRows | None = None
    """Rows without answers."""
    near: Near | None = None
    """Near duplicates among the rows; None where the task has groups of its own, or none."""
    labels: tuple[str, ...] = ()
    """The labels of a classification that names none."""
    spellings: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of these labels their spellings in the file, with how many rows have them."""


@dataclass(frozen=True)
class JsonlTask(Task):
    """Questions and answers from a file of JSON lines, CSV or Parquet."""

    path: str
    """The file of JSON lines, CSV or Parquet: a path, any fsspec URL (s3://…, https://…), or
    hf://datasets/OWNER/NAME/FILE."""
    test_path: str | None = None
    """A file of test questions, which is the whole test split; null takes a part of `path`."""
    unlabelled_path: str | None = None
    """A file of unlabelled rows, which a teacher labels; `path` itself means its rows with an empty
    answer."""
    name: str = "jsonl"
    """Name shown in tables and written into records."""
    version: int = 1
    """Raise it when rows change, so that results on different rows are not compared."""
    metric: MetricName = "exact"
    """exact (equal up to case and spacing), numeric (equal as numbers), multiple_choice (the letter
    of an option), regex (the gold answer is a pattern that the whole answer matches), f1 (word
    overlap) or sql (the gold answer is a query, and an answer gives the same rows)."""
    min_f1: float = 0.8
    """For f1: word overlap (harmonic mean of precision and recall) from which an answer is
    correct."""
    database: str | None = None
    """For sql: the file of SQLite or DuckDB that queries are run on; it is only read."""
    verifier: dict[str, Any] | None = None
    """Your own dataclass in place of `metric`: `_target_` and its fields."""
    schema: str | None = None
    """A file with a JSON Schema, in place of `metric`: answers are JSON objects that match it, and
    each field is compared by its kind."""
    question: str = "question"
    """Field with the question; `a|b` takes the first of them that a file has."""
    answer: str = "answer"
    """Field with the gold answer."""
    rationale: str | None = None
    """Field with the reasoning that leads to the answer; null if the file has none."""
    split_answer: str | None = None
    """Separator between rationale and answer in the answer field (GSM8K: "####"); null for none."""
    options: str = "options"
    """Field with the list of options, for multiple_choice."""
    slice: str | None = None
    """Field with the slice of a row; null puts all rows into the first of `slices`."""
    slices: tuple[str, ...] = ("main",)
    """Slices to report separately."""
    on_error: Literal["stop", "skip"] = "stop"
    """Invalid lines: stop before anything is spent, or skip them with a warning before any request;
    the corpus record counts them."""
    instruction: str = "Answer the question."
    """The teacher's instruction."""
    n_examples: int = 4
    """Training rows used as few-shot examples."""
    validation_share: float = 0.15
    """Share of the rows for validation."""
    test_share: float = 0.25
    """Share of the rows for the test split; ignored with a `test_path`."""
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

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        if unknown := [prompt for prompt in self.prompts if prompt not in chat.FORMS]:
            raise ValueError(f"prompts={unknown}: known are {', '.join(chat.FORMS)}.")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ValueError(
                "validation_share and test_share must be above 0 and below 1 together."
            )
        if not self.slices or not self.prompts or self.n_examples < 0:
            raise ValueError("slices and prompts cannot be empty, nor n_examples below 0.")
        if len(set(self.slices)) < len(self.slices):
            raise ValueError("slices: each must appear once.")
        names = (*self.question.split("|"), *self.answer.split("|"))
        if not all(name.strip() for name in names):
            raise ValueError("question and answer name the fields of the file: neither is empty.")
        if not 0 < self.min_f1 <= 1:
            raise ValueError("min_f1 must be above 0 and at most 1.")
        if self.schema and (self.metric != "exact" or self.verifier is not None):
            raise ValueError("schema: it is the metric. Leave task.metric and task.verifier out.")
        if self.schema and not is_local(self.schema):
            raise ValueError(f"schema={self.schema}: it has to be a file of this machine.")
        self._check_database()
        why_no_file = self._why_no_schema or self._why_no_database
        is_checked = self.verifier is not None or self.database or self.schema
        if is_checked and not why_no_file:
            _ = self._metric
        if self.unlabelled_path and self.metric == "regex":
            raise ValueError(
                "unlabelled_path: with metric=regex the answer of a row is a pattern, which no "
                "teacher can write. Leave unlabelled_path out, or take another metric."
            )
        here = [path for path in self._all_paths.values() if is_local(path)]
        if why_no_file:
            return  # it is looked at with all other files of the config
        reasons = {path: self._why_unreadable(path) for path in here}
        for path, reason in reasons.items():
            # Whether it is there at all is looked at with all other files of the config.
            if reason is not None and os.path.lexists(os.path.expanduser(local_path(path))):
                raise ValueError(f"{path}: {reason}.")
        if len(here) == len(self._all_paths) and not any(reasons.values()):
            try:
                _ = self._by_split, self._unlabelled
            except ConfigError as error:
                raise ValueError(str(error)) from error

    def _check_database(self) -> None:
        if self.metric != "sql":
            if self.database is not None:
                raise ValueError("database: it is for queries. Type task.metric=sql.")
        elif self.database is None:
            raise ValueError(
                "metric=sql: queries are run on a database. Type "
                "task.database=<file of SQLite or DuckDB>."
            )
        elif self.verifier is not None:
            raise ValueError("verifier: metric=sql has its own. Leave one of them out.")

    def _why_unreadable(self, path: str) -> str | None:
        """Return why a path of this machine is no file that can be read; None where it is one."""
        return why_unreadable(os.path.expanduser(local_path(path)))

    # --- items -----------------------------------------------------------------------------------

    def items(self, split: Split, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        """Return `n` items of a split in an order fixed by the seed; the slices alternate."""
        rows = self._by_split[split]
        queues = [
            self._order(split, seed, name)
            for name in ([slice] if slice is not None else self.slices)
        ]
        longest = max(map(len, queues), default=0)
        turns = (queue[k] for k in range(longest) for queue in queues if k < len(queue))
        return [self._item(rows[int(place)]) for place, _ in zip(turns, range(n), strict=False)]

    def _order(self, split: Split, seed: int, slice: str) -> NDArray[np.int64]:
        """Return the places of a slice's rows within their split, shuffled by the seed."""
        import numpy as np

        if (split, seed, slice) not in self._orders:
            rows = self._by_split[split]
            places = np.flatnonzero(rows.of_slice(slice))
            ids = rows.column("ids")[places].tolist()
            keys = np.fromiter((int(order_key(id_of(one), seed), 16) for one in ids), np.uint64)
            self._orders[split, seed, slice] = places[np.argsort(keys, kind="stable")]
        return self._orders[split, seed, slice]

    @cached_property
    def _orders(self) -> dict[tuple[Split, int, str], NDArray[np.int64]]:
        return {}

    @property
    def is_here(self) -> bool:
        """Return whether all of its files are of this machine."""
        return all(map(is_local, self._paths.values()))

    @property
    def n_train(self) -> int:
        """How many training items there are."""
        return len(self._by_split["train"])

    @property
    def n_test(self) -> int:
        """How many test items there are."""
        return len(self._by_split["test"])

    @cached_property
    def content_sha256(self) -> str:
        """Return the digest of what was read of all of its files."""
        unlabelled = self._content.unlabelled
        files = (*self._files, *(() if unlabelled is None else (unlabelled,)))
        read = [*(file.rows.sha256() for file in files), self._schema_text]
        if self._together is not None and self._content.near is not None:
            read.append(self._content.near.sha256())
        if self.database is not None:
            read.append(digest_of(Path(self.database).expanduser()))
        return hashlib.sha256("".join(read).encode()).hexdigest()

    # --- rows without answers ---------------------------------------------------------------------

    @property
    def unlabelled_field(self) -> str | None:
        """Return the first field that a question may stand in."""
        return self.question.split("|")[0]

    @property
    def n_unlabelled(self) -> int:
        """How many rows without an answer there are, none of which is a labelled one's question."""
        return len(self._unlabelled)

    def unlabelled(self, n: int, seed: int = 0) -> list[Item]:
        """Return `n` rows without an answer (it is ""), in an order fixed by the seed."""
        items = [self._item(row) for row in self._unlabelled]
        return sorted(items, key=lambda item: order_key(item.id, seed))[:n]

    def labelled(self, item: Item, text: str) -> Item | None:
        """Return an item with the answer that a text gives it; None where it gives none."""
        answer = self.parse(text)
        if answer is None:
            return None
        try:
            canonical = self._metric.canonical(answer, self._options_of(item))
        except ValueError:
            return None
        return replace(item, answer=canonical, rationale="", choices=())

    def as_row(self, item: Item, answer: str) -> dict[str, str]:
        """Return an item as a line of the task's file."""
        return {self.question.split("|")[0]: item.question, self.answer.split("|")[0]: answer}

    def _options_of(self, item: Item) -> tuple[str, ...]:
        """Return the letters of the options that a question lists; none where it lists none."""
        if not self._is_choice:
            return ()
        letters = _OPTION.findall(item.question)
        # The last list that begins with A: the question itself may have one, too.
        start = len(letters) - letters[::-1].index("A") - 1 if "A" in letters else len(letters)
        n = 0
        for letter in letters[start:]:
            n += letter == LETTERS[n]
        return tuple(LETTERS[:n])

    def chance(self, item: Item) -> float:
        """Return how often a random option is right; 0 for a free answer."""
        n = len(self._options_of(item))
        return 1 / n if n else 0.0

    def normal(self, answer: str) -> str:
        """Return an answer in a form that all spellings share that the metric takes for equal."""
        return self._metric.normal(answer)

    @cached_property
    def _unlabelled(self) -> Rows:
        import numpy as np

        found = self._content.unlabelled
        if found is None:
            return Rows.concat([])
        own, tested = self._divided()
        families = found.rows.column("families")
        known = np.concatenate([own.column("families"), tested.column("families")])
        _, first = np.unique(families, return_index=True)
        is_first = np.zeros(len(families), bool)
        is_first[first] = True
        return found.rows.take(is_first & ~np.isin(families, known))

    def held_out(self) -> list[Item]:
        """Return every validation and test item."""
        parts = (self._by_split["validation"], self._by_split["test"])
        return [self._item(row) for rows in parts for row in rows]

    def reverse(self, n: int, seed: int = 0) -> Iterator[Item]:
        """Yield up to `n` labelled training items; those that bring a reasoning path bring it."""
        yield from self.items("train", min(n, self.n_train), seed)

    def verify(self, item: Item) -> str | None:
        """Check that the path announces no other answer, and that the whole text reads as it."""
        if not item.rationale:
            return "it has no reasoning path"
        if states_answer(item.rationale) and self.score(item.rationale, item).exact < 1:
            found = shown(str(self.parse(item.rationale)))
            return f"its path ends in {found}, its answer is {shown(item.answer)}"
        if self.score(self.completion(item), item).exact < 1:
            return f"the answer {shown(item.answer)} cannot be read back from its text"
        return None

    @cached_property
    def has_paths(self) -> bool:
        """True if training rows bring the reasoning that leads to their answers."""
        return bool(self._by_split["train"].column("has_path").any())

    def checks_steps(self, item: Item) -> bool:
        """Return False: `verify` looks at where a path ends, not at its steps."""
        return False

    @property
    def left_out(self) -> dict[str, int]:
        """Return how many lines of the files are not used, by reason."""
        files = self._files
        counts = {
            "broken line": sum(rows.broken.n_lines for rows in files),
            "row without an answer": sum(rows.unanswered.n_lines for rows in files),
            **self._set_aside,
            doubts.COPY: self._split[1][doubts.COPY],
        }
        return {reason: n for reason, n in counts.items() if n}

    @property
    def _set_aside(self) -> dict[str, int]:
        """Return how many lines are not used though nothing is wrong with them, by reason."""
        n_repeats = sum(rows.n_repeats for rows in self._files)
        of_split = {reason: n for reason, n in self._split[1].items() if reason != doubts.COPY}
        return {doubts.REPEAT: n_repeats, **of_split}

    @property
    def rows_name(self) -> str:
        """Name of the file, without its folder."""
        return Path(self.path).name

    @property
    def notes(self) -> tuple[str, ...]:
        """Return how many rows each split has, and how files are read that are no usual CSV."""
        return (*self._separators, self._sizes, *self._left_out_note, *self._schema_note)

    @property
    def _left_out_note(self) -> list[str]:
        """Say how many lines are set aside; those that are wrong are told with their causes."""
        told = [f"{reason}: {n:,}" for reason, n in self._set_aside.items() if n]
        return [f"Left out of {' and '.join(self._paths.values())}: {'; '.join(told)}."] * bool(
            told
        )

    @property
    def _schema_note(self) -> list[str]:
        metric = self._metric
        if not isinstance(metric, BySchema):
            return []
        return [f"{self.schema}: fields are compared so: {metric.described()}."]

    @property
    def _sizes(self) -> str:
        """Return the number of rows of each split, in words."""
        n = {split: f"{len(rows):,}" for split, rows in self._by_split.items()}
        of_test = f"test rows of {self.test_path}" if self.test_path else "test rows"
        more = f", {self.n_unlabelled:,} without an answer" if self.n_unlabelled else ""
        near = self._content.near
        return (
            f"Rows of {self.path}: {n['train']} to train on, {n['validation']} validation rows, "
            f"{n['test']} {of_test}{more}. The split is by a hash of the question."
            f"{'' if near is None else near.told(self._together is not None)}"
        )

    @property
    def _separators(self) -> Iterator[str]:
        """Yield which files have columns that are separated by other signs than commas."""
        for path in self._all_paths.values():
            if not path.partition("?")[0].lower().endswith(".csv"):
                continue
            name = OTHER_SEPARATORS.get(separator_of(path))
            if name is not None:
                yield f"{path}: read with {name} between its columns, as its header shows."

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return what is wrong with lines that are left out, and doubtful about the others."""
        told = (
            (rows.complaint() if rows.n_problems else "", self._doubts(rows))
            for rows in self._files
        )
        unlabelled = self._content.unlabelled
        return (
            *(() if unlabelled is None else doubts.of_unlabelled(unlabelled, self.path)),
            *(complaint for of_file in told for complaint in of_file if complaint),
            *doubts.of_ids(self.path, self._files[0].rows, self.question, self.answer),
            *doubts.of_copies(self.path, self._split[1][doubts.COPY]),
            *self._empty_golds,
            *doubts.of_sizes(self._by_split),
            *doubts.of_languages(self.path, self._by_split["train"]),
        )

    @property
    def _empty_golds(self) -> list[str]:
        """Say how many gold queries of held-out rows give no rows."""
        metric = self._metric
        if not isinstance(metric, Own) or not isinstance(metric.verifier, SqlResult):
            return []
        is_empty = metric.verifier.is_empty
        return doubts.of_empty_golds(
            metric.verifier.database,
            {split: sum(is_empty(row.answer) for row in rows)
             for split, rows in self._by_split.items() if split != "train"},
            self._by_split,
        )  # fmt: skip

    def refusals(self) -> list[str]:
        """Return why nothing can be learnt or measured from the rows; nothing where it can."""
        return doubts.too_few(self.path, self._by_split)

    @property
    def parts(self) -> tuple[Any, ...]:
        """Return the user's own objects, whose code counts like the task's."""
        return (self._metric.verifier,) if isinstance(self._metric, Own) else ()

    @cached_property
    def _metric(self) -> Metric:
        if self.schema is not None:
            return self._by_schema
        return metric_of(self.metric, self.min_f1, self.verifier, self.database)

    @cached_property
    def _by_schema(self) -> BySchema:
        made = BySchema(self._schema or {}, self.min_f1)
        _ = made.kinds
        return made

    def answer_schema(self, item: Item) -> Mapping[str, Any] | None:
        """Return the JSON Schema that every answer matches; None where there is none."""
        return self._schema

    @cached_property
    def _schema(self) -> dict[str, Any] | None:
        return None if self.schema is None else read_schema(self.schema)

    @property
    def _why_no_schema(self) -> str | None:
        return None if self.schema is None else why_unreadable(os.path.expanduser(self.schema))

    @property
    def _why_no_database(self) -> str | None:
        return None if self.database is None else why_unreadable(os.path.expanduser(self.database))

    @property
    def _schema_text(self) -> str:
        found = self._schema
        return "" if found is None else json.dumps(found, sort_keys=True)

    def field_scores(self, item: Item, answer: str | None) -> dict[str, float]:
        """Return how right each field of an answer is, by the schema."""
        metric = self._metric
        return metric.field_scores(answer, item.answer) if isinstance(metric, BySchema) else {}

    @property
    def _fields(self) -> Fields:
        options = self.options if self._is_choice else None
        return Fields(self.question, self.answer, self.rationale, self.slice, options)

    def _fields_of(self, path: str) -> Fields:
        """Return the fields of a labelled file; of one that has rows without answers, too."""
        is_shared = path == self.unlabelled_path
        return replace(self._fields, takes=Takes.LABELLED) if is_shared else self._fields

    @property
    def _is_choice(self) -> bool:
        return self.metric == "multiple_choice" and self.verifier is None

    @property
    def _paths(self) -> dict[str, str]:
        """Return key in the config to file: that of training questions, then those of tests."""
        paths = {"task.path": self.path, "task.test_path": self.test_path}
        return {key: path for key, path in paths.items() if path}

    @property
    def _all_paths(self) -> dict[str, str]:
        """Return the same with the file of rows without answers."""
        more = {"task.unlabelled_path": self.unlabelled_path}
        return {**self._paths, **{key: path for key, path in more.items() if path}}

    @property
    def _files(self) -> tuple[FileRows, ...]:
        return self._content.files

    @cached_property
    def _content(self) -> Content:
        return self._read_once()

    def _read_once(self) -> Content:
        """Return what is in the files; what is on this machine is read once in a process.

        Check, run and every job of a sweep make a task of their own of the same settings.
        """
        try:
            files = tuple(map(identity_of, self._all_paths.values()))
        except OSError:
            files = (None,)
        key = (type(self), repr(self), files, self._schema_text)
        if None in files:
            return self._read_files()
        if key not in _contents:
            content = self._read_files()
            while len(_contents) >= _MOST_CONTENTS:
                del _contents[next(iter(_contents))]
            _contents[key] = content
        return _contents[key]

    def _read_files(self) -> Content:
        from stratos.tasks.near_duplicates import Near

        files = tuple(self._read(key, path) for key, path in self._paths.items())
        rows = Rows.concat([file.rows for file in files])
        near = Near.among(rows) if self.compares_words else None
        return Content(files, self._read_unlabelled(), near)

    def _read_unlabelled(self) -> FileRows | None:
        """Read the rows without answers; None where no file of them is named."""
        path, key = self.unlabelled_path, "task.unlabelled_path"
        if path is None:
            return None
        found = self._rows_of(key, path, replace(self._fields, takes=Takes.UNLABELLED))
        if found.n_problems and self.on_error == "stop":
            raise ConfigError(found.complaint(_MEND))
        if not found.rows:
            raise ConfigError(
                f"{key}={path}: every line has an answer. Leave {key} out, or name a file with "
                "questions without answers."
            )
        return found

    def _rows_of(self, key: str, path: str, fields: Fields) -> FileRows:
        try:
            return read_rows(
                path, fields, partial(self._check, key), self._records(path), self._settle
            )
        except OSError as error:
            reason = error.strerror or str(error)
            found = beside(Path(local_path(path)).expanduser()) if is_local(path) else ""
            raise ConfigError(
                f"{key}={path} cannot be read: {reason}{self._or_here()}{found and f'.{found}'}"
            ) from error

    def _records(
        self, path: str
    ) -> Iterable[tuple[str, dict[str, Any] | Row | Unanswered | str]] | None:
        """Return what is read in place of the lines of a file; None where it is these."""
        return None

    @property
    def _settle(self) -> Callable[[Sequence[Row]], Settled] | None:
        """What tells which of several answers to a question is taken; None takes none of them."""
        return None

    def _read(self, key: str, path: str) -> FileRows:
        found = self._rows_of(key, path, self._fields_of(path))
        if found.same_everywhere and not found.rows:
            meant, (question, answer) = self._likely_fields(path)
            raise ConfigError(
                f"{path}: every line {found.same_everywhere}.{meant} Name the fields it has with "
                f"task.question={question} and task.answer={answer}"
            )
        if found.n_problems and self.slice is not None and not found.rows:
            columns = columns_of(path)
            if columns and find_field(dict.fromkeys(columns), self.slice) is None:
                raise ConfigError(
                    f"{path}: every line has no field {self.slice}; it has "
                    f"{', '.join(map(shown, columns))}.{_meant(self.slice, columns)} Name the "
                    "field with the slices, or leave task.slice out."
                )
        if found.n_problems and self.on_error == "stop":
            offer = "."
            if found.rows and key == "task.path" and self.metric != "regex":
                offer = f", or let a teacher answer them: task.unlabelled_path={path}"
            mend = _MEND
            if found.broken.n_lines == found.n_lines and Path(path).suffix not in _SUFFIXES:
                mend = (
                    "No line of it can be read. If it is a CSV file, name it "
                    f"{Path(path).stem}.csv: the suffix tells how a file is read."
                )
            raise ConfigError(found.complaint(mend, f"{_ANSWER}{offer}"))
        if not found.rows:
            what = "good lines" if found.n_lines else "lines"
            causes = f" {found.complaint()}" if found.n_problems else ""
            raise ConfigError(f"{path} has no {what}.{causes}")
        if self.rationale and key == "task.path" and not found.rows.column("has_path").any():
            columns = columns_of(path)
            is_known = find_field(dict.fromkeys(columns), self.rationale) is not None
            lacks = "" if is_known else f" It has {', '.join(map(shown, columns))}."
            meant = "" if is_known else _meant(self.rationale, columns)
            raise ConfigError(
                f"task.rationale={self.rationale}: no line of {path} has a value there.{lacks}"
                f"{meant} Name the field with the reasoning, or leave it out."
            )
        _ = self._doubts(found)
        return found

    def _likely_fields(self, path: str) -> tuple[str, tuple[str, str]]:
        """Return the question what was meant by a field that a file has not, and what to type."""
        columns = columns_of(path)
        named = (self.question, self.answer)
        there = [find_field(dict.fromkeys(columns), names) for names in named]
        free = [name for name in columns if name not in there]
        meant = [
            [] if here is not None else nearest_fields(names, free)
            for names, here in zip(named, there, strict=True)
        ]
        typed = [
            here or (near[0] if near and near[0] == shown(near[0]) else "…")
            for here, near in zip(there, meant, strict=True)
        ]
        told = "".join(
            _meant(names, free) for names, here in zip(named, there, strict=True) if here is None
        )
        question, answer = likely_fields(path) or (typed if told else ("…", "…"))
        return told, (question, answer)

    def _doubts(self, rows: FileRows) -> str:
        """Try the user's verifier on a gold answer; say if that is not right by it, else "".

        Raises:
            ConfigError: the verifier fails on it.
        """
        if self.verifier is None:
            return ""
        row = rows.rows[0]
        where = f"the gold answer {shown(row.answer)} of {row.line} of {rows.path}"
        try:
            _ = self._metric.read(row.answer)
            found = self._metric.compare(row.answer, row.answer)
        except StratosError as error:
            raise ConfigError(f"{error} It was tried on {where}.") from error
        if found >= 1:
            return ""
        return (
            f"task.verifier {type(self.parts[0]).__name__} gives {found:g} to {where}, compared "
            "with itself, where 1 is right. Unless gold answers are patterns or tests, no answer "
            "will count as right: fix its compare(answer, gold)."
        )

    def _or_here(self) -> str:
        """Say how to name files of this machine, where the task's are elsewhere."""
        away = [f"{key}=<file>" for key, path in self._all_paths.items() if not is_local(path)]
        if not away:
            return ""
        return f". Or name files of this machine (JSON lines, CSV, Parquet): {' '.join(away)}"

    @property
    def _by_split(self) -> Mapping[Split, Rows]:
        return self._split[0]

    @cached_property
    def _split(self) -> tuple[dict[Split, Rows], dict[str, int]]:
        """Return the rows of each split, and how many are in none, by reason."""
        return self._together or self._split_by(self._families)

    @cached_property
    def _together(self) -> tuple[dict[Split, Rows], dict[str, int]] | None:
        """Return the same with near duplicates of one split.

        None where there are none, or where a split would have too few rows or labels.
        """
        from stratos.tasks.near_duplicates import is_even
        from stratos.tasks.strata import are_labels

        near = self._content.near
        if near is None or not near.n_rows:
            return None
        found = self._split_by(lambda rows: near.grouped(self._families(rows)))
        apart, _ = self._split_by(self._families)
        labelled = are_labels(self._forms(self._divided()[0]))
        even = all(is_even(rows, apart[name], labelled) for name, rows in found[0].items())
        return found if even else None

    def _split_by(
        self, families_of: Callable[[Rows], NDArray[np.uint64]]
    ) -> tuple[dict[Split, Rows], dict[str, int]]:
        """Return the rows of each split, and how many are in none, by reason.

        Of rows that differ in case, punctuation or spacing alone and have one answer, one is
        measured: copies of a question are no further evidence.

        Args:
            families_of: gives of each row a hash that it shares with all that must be of its split.
        """
        import numpy as np

        from stratos.tasks.strata import TEST, TRAIN, VALIDATION, stratified

        rows, tested = self._divided()
        families = families_of(rows)
        is_known = np.isin(families, families_of(tested))
        n_exact = int(np.isin(self._families(rows), self._families(tested)).sum())
        free = np.flatnonzero(~is_known)
        split = stratified(
            families[free],
            self._forms(rows)[free],
            rows.column("slices")[free],
            self.validation_share,
            0.0 if len(tested) else self.test_share,
        )
        held: dict[Split, Rows] = {
            "validation": rows.take(free[split == VALIDATION]),
            "test": tested if len(tested) else rows.take(free[split == TEST]),
        }
        once: dict[Split, Rows] = {name: self._once(some) for name, some in held.items()}
        n_copies = sum(len(held[name]) - len(once[name]) for name in held)
        left = {
            "training question of the test file": n_exact,
            doubts.NEAR: int(is_known.sum()) - n_exact,
            doubts.COPY: n_copies,
        }
        return {"train": rows.take(free[split == TRAIN]), **once}, left

    def _families(self, rows: Rows) -> NDArray[np.uint64]:
        """Return of each row a hash that it shares with all that have to be of its split."""
        return rows.column("families")

    def _forms(self, rows: Rows) -> NDArray[np.uint64]:
        """Return a hash of each answer: the same for spellings that the metric takes for equal."""
        import numpy as np

        answers: NDArray[np.uint64] = rows.column("answers")
        found, first, inverse = np.unique(answers, return_index=True, return_inverse=True)
        if len(found) > _MOST_SPELLINGS:
            return answers
        by_form: dict[str, np.uint64] = {}
        forms = [
            by_form.setdefault(self.normal(rows[int(place)].answer), answer)
            for place, answer in zip(first, found, strict=True)
        ]
        return np.array(forms, np.uint64)[inverse]

    def _once(self, rows: Rows) -> Rows:
        """Return one row of each family and answer, whatever their order in the file."""
        import numpy as np

        families, forms = rows.column("families"), self._forms(rows)
        order = np.lexsort((rows.column("ids"), forms, families))
        is_copy = (np.diff(families[order]) == 0) & (np.diff(forms[order]) == 0)
        taken = np.ones(len(rows), bool)
        taken[order[1:][is_copy]] = False
        return rows.take(taken)

    def _divided(self) -> tuple[Rows, Rows]:
        """Return the rows that are split by hash, and those that are tested whatever it is."""
        own, *tested = self._files
        return own.rows, Rows.concat([file.rows for file in tested])

    def _check(self, key: str, row: Row) -> Row | str:
        """Return a row with its answer in canonical spelling, or what is wrong with it.

        Args:
            key: of the file in the config.
            row: as it was read.
        """
        answer, rationale = row.answer, row.rationale
        if self.split_answer and self.split_answer in answer:
            before, _, answer = answer.rpartition(self.split_answer)
            rationale, answer = rationale or before.strip(), answer.strip()
        if len(answer) > _LONGEST_ANSWER:
            return (
                f"its answer has {len(answer):,} characters, and no student writes more than "
                f"{_LONGEST_ANSWER:,}"
            )
        slice = self._slice_of(key, row)
        if slice not in self.slices:
            known = ", ".join(self.slices)
            return f"its slice is {shown(slice) or 'empty'}, not one of {known}"
        try:
            # A row without an answer is told from a broken one before it is checked.
            answer = self._canonical(key, answer, row.options) if answer else ""
        except ValueError as error:
            return str(error)
        question = row.question
        if self._is_choice:
            lines = [f"{a}) {text}" for a, text in zip(LETTERS, row.options, strict=False)]
            question = "\n".join([question, *lines])
        return replace_row(row, question=question, answer=answer, rationale=rationale, slice=slice)

    def _canonical(self, key: str, answer: str, options: Sequence[str]) -> str:
        """Return a gold answer of the file of a key in canonical spelling."""
        return self._metric.canonical(answer, options)

    def _slice_of(self, key: str, row: Row) -> str:
        return row.slice if self.slice is not None else self.slices[0]

    def _item(self, row: Row) -> Item:
        item = Item(
            id=content_id(row.question),
            slice=row.slice,
            question=row.question,
            answer=row.answer,
            rationale=row.rationale,
            family=family_id(row.question),
        )
        return replace(item, choices=self._choices(item))

    @cached_property
    def _answers(self) -> list[str]:
        """Return the answers that wrong choices are drawn from, in their order."""
        return Rows.concat(self._divided()).answers(_MOST_CHOICES)

    def _choices(self, item: Item) -> tuple[str, ...]:
        """Return four answers, three of them of other rows; none where there are too few."""
        if self._is_choice:
            return (
                tuple("ABCD") if len(self._options_of(item)) >= 4 and item.answer in "ABCD" else ()
            )
        if self.metric == "regex":
            return ()
        rng = random.Random(item.id)
        answers = self._answers
        others = rng.sample(answers, min(len(answers), 4))
        wrong = [answer for answer in others if answer != item.answer][:3]
        if len(wrong) < 3:
            return ()
        choices = [item.answer, *wrong]
        rng.shuffle(choices)
        return tuple(choices)

    # --- what a teacher and a student are asked --------------------------------------------------

    def messages(self, item: Item, prompt: str = "default") -> list[Message]:
        """Return the chat that asks a teacher; an item is never its own example."""
        told = self.system_prompt
        if self.schema is not None:
            told = f"{told} The answer is a JSON object that matches this schema: {self._told}"
        return chat.ask(told, prompt, self._examples(prompt), item)

    @cached_property
    def _told(self) -> str:
        return json.dumps(self._schema, ensure_ascii=False)

    @property
    def system_prompt(self) -> str:
        """What a model is told before a question."""
        return self.instruction

    def choice_messages(self, item: Item) -> list[Message]:
        """Return the chat that asks for one letter of four."""
        examples = [e for e in self._examples("default") if e.choices and e.id != item.id]
        turns = [(self._offer(e), "ABCD"[e.choices.index(e.answer)]) for e in examples]
        system = f"{self.system_prompt} Answer with one letter."
        return chat.turn_by_turn(system, turns, self._offer(item))

    def _offer(self, item: Item) -> str:
        if self._is_choice:
            return item.question
        lines = [f"{a}) {choice}" for a, choice in zip("ABCD", item.choices, strict=True)]
        return "\n".join([item.question, *lines])

    def _examples(self, prompt: str) -> list[Item]:
        return self._shown if chat.FORMS[prompt].has_examples else []

    @cached_property
    def _shown(self) -> list[Item]:
        return self.items("train", self.n_examples, seed=1)

    def example_answers(self, prompt: str) -> frozenset[str]:
        """Return the answers of the prompt's own examples."""
        return frozenset(example.answer for example in self._examples(prompt))

    def answer_texts(self, prompt: str) -> list[str]:
        """Return the answers to training and validation rows in the form that a prompt asks for.

        A pattern is no answer: with the metric regex there are none.
        """
        if self.metric == "regex" and self.verifier is None:
            return []
        return chat.answer_texts(prompt, [*self._by_split["train"], *self._by_split["validation"]])

    def completion(self, item: Item) -> str:
        """Return the reasoning path, where there is one, and the answer."""
        if not item.rationale:
            return item.answer
        return f"{item.rationale}\n{chat.MARK} {item.answer}"

    # --- reading and scoring ---------------------------------------------------------------------

    def parse(self, text: str) -> str | None:
        """Read the answer: behind `Answer:`, `####` or in a box, else in the last line."""
        return self._metric.read(text)

    def score(self, text: str, item: Item) -> Score:
        """Compare with the gold answer by the task's metric; F1 is over words."""
        answer = self.parse(text)
        right = answer is not None and self._metric.compare(answer, item.answer) >= 1
        if not right and self.metric == "exact" and self.verifier is self.schema is None:
            # A gold answer may have several lines, or a word that announces one elsewhere.
            behind = text.partition(chat.MARK)[2], text.rpartition(chat.MARK)[2]
            wholes = (whole.strip() for whole in (text, *behind))
            right = any(self._metric.compare(one, item.answer) >= 1 for one in wholes if one)
        if answer is None and not right:
            return Score(0.0, 0.0, False)
        overlap = 1.0 if right else self._metric.overlap(answer or "", item.answer)
        return Score(float(right), overlap, True)


def _meant(names: str, known: Iterable[str]) -> str:
    """Return " Did you mean x?" with the fields that look like one that is not there, or ""."""
    found = [shown(name) for name in nearest_fields(names, known)]
    return f" Did you mean {' or '.join(found)}?" if found else ""
