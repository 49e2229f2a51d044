"""The user's own files as labelled rows of splits: how they are read, checked and told of.

Splits are by a hash of the question: they are fixed before anything is asked or generated, hardly
change when rows are added, and are disjoint up to case, punctuation and spacing; near duplicates
are of one split (`stratos.tasks.near_duplicates`). Each label and slice has its share of each
(`stratos.tasks.row_splits`). Where there is a file of test questions, all of it and nothing else is
the test split.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace as replace_row
from typing_extensions import override

from stratos.core.digest import digest_of
from stratos.core.errors import ConfigError
from stratos.core.foreign import beside, why_unreadable
from stratos.core.reasons import Because, Reason
from stratos.core.remote import local_path
from stratos.tasks import chat, doubts, file_content
from stratos.tasks.base import FieldName, Split, Task
from stratos.tasks.files import OTHER_SEPARATORS, is_local, separator_of
from stratos.tasks.metrics import LETTERS, OF_DATABASE, Metric, MetricName, Own, metric_of
from stratos.tasks.rows import (
    Fields,
    FileRows,
    RowSource,
    Takes,
    identity_of,
    read_rows,
)
from stratos.tasks.schema import BySchema
from stratos.tasks.schema.document import read_schema
from stratos.tasks.table import Row, Rows
from stratos.tasks.words import AnswerTooLong, UnknownSlice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_LONGEST_ANSWER = 20_000
"""Characters of an answer above which it is none that a student could write."""


@dataclass(frozen=True)
class LabelledFiles(Task):
    """A task of which every split is rows of files of JSON lines, CSV or Parquet."""

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
    overlap), or of contrib sql (the gold answer is a query, and an answer gives the same rows)."""
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

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        self._check_settings()
        if self._lacks_file:
            return  # it is looked at with all other files of the config
        here = [path for path in self._all_paths.values() if is_local(path)]
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

    def _why_unreadable(self, path: str) -> Reason | None:
        """Return why a path of this machine is no file that can be read; None where it is one."""
        reason = why_unreadable(os.path.expanduser(local_path(path)))
        return None if reason is None else Because(str(reason))

    def _check_settings(self) -> None:
        """Check the settings.

        Raises:
            ValueError: one of them is wrong.
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
        is_checked = self.verifier is not None or self.database or self.schema
        if is_checked and not self._lacks_file:
            _ = self._metric
        if self.unlabelled_path and self.metric == "regex":
            raise ValueError(
                "unlabelled_path: with metric=regex the answer of a row is a pattern, which no "
                "teacher can write. Leave unlabelled_path out, or take another metric."
            )

    def _check_database(self) -> None:
        if self.metric not in OF_DATABASE:
            if self.database is not None:
                typed = "".join(f" Type task.metric={name}." for name in OF_DATABASE)
                raise ValueError(f"database: metric={self.metric} runs no queries.{typed}")
        elif self.database is None:
            raise ValueError(
                f"metric={self.metric}: queries are run on a database. Type "
                "task.database=<file of SQLite or DuckDB>."
            )
        elif self.verifier is not None:
            raise ValueError(f"verifier: metric={self.metric} has its own. Leave one of them out.")

    # --- files and their fields ------------------------------------------------------------------

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
    @override
    def is_here(self) -> bool:
        return all(map(is_local, self._paths.values()))

    @property
    @override
    def rows_name(self) -> str:
        return Path(self.path).name

    @property
    def _fields(self) -> Fields:
        options = self.options if self._is_choice else None
        return Fields(self.question, self.answer, self.rationale, self.slice, options)

    def _fields_of(self, path: str) -> Fields:
        """Return the fields of a labelled file; of one that has rows without answers, too."""
        is_shared = path == self.unlabelled_path
        return replace(self._fields, takes=Takes.LABELLED) if is_shared else self._fields

    @property
    def unlabelled_field(self) -> FieldName | None:
        """Return the first field that a question may stand in."""
        return self.question.split("|")[0]

    # --- how answers are compared ----------------------------------------------------------------

    @cached_property
    def _metric(self) -> Metric:
        if self.schema is not None:
            return self._by_schema
        return metric_of(self.metric, self.min_f1, self.verifier, self.database)

    @override
    def normal(self, answer: str) -> str:
        return self._metric.normal(answer)

    @property
    @override
    def parts(self) -> tuple[Any, ...]:
        return (self._metric.verifier,) if isinstance(self._metric, Own) else ()

    @property
    def _is_choice(self) -> bool:
        return self.metric == "multiple_choice" and self.verifier is None

    @cached_property
    def _by_schema(self) -> BySchema:
        made = BySchema(self._schema or {}, self.min_f1)
        _ = made.kinds
        return made

    @cached_property
    def _schema(self) -> dict[str, Any] | None:
        return None if self.schema is None else read_schema(self.schema)

    @property
    def _schema_text(self) -> str:
        schema = self._schema
        return "" if schema is None else json.dumps(schema, sort_keys=True)

    @property
    def _lacks_file(self) -> bool:
        """Whether the schema or the database cannot be read."""
        named = (path for path in (self.schema, self.database) if path is not None)
        return any(why_unreadable(os.path.expanduser(path)) for path in named)

    # --- the splits ------------------------------------------------------------------------------

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
        from stratos.tasks.row_splits import are_even  # imports numpy

        near = self._content.near
        if near is None or not near.n_rows:
            return None
        splits = self._split_by(lambda rows: near.grouped(self._families(rows)))
        apart, _ = self._split_by(self._families)
        even = are_even(splits[0], apart, self._divided()[0], self.normal)
        return splits if even else None

    def _split_by(
        self, groups: Callable[[Rows], NDArray[np.uint64]]
    ) -> tuple[dict[Split, Rows], dict[str, int]]:
        """Return the rows of each split, where those of one group are of one, and the others."""
        from stratos.tasks.row_splits import split_by_hash  # imports numpy

        shares = (self.validation_share, self.test_share)
        return split_by_hash(*self._divided(), self._families, groups, self.normal, *shares)

    def _divided(self) -> tuple[Rows, Rows]:
        """Return the rows that are split by hash, and those that are tested whatever it is."""
        own, *tested = self._files
        return own.rows, Rows.concat([file.rows for file in tested])

    def _families(self, rows: Rows) -> NDArray[np.uint64]:
        """Return of each row a hash that it shares with all that have to be of its split."""
        return rows.column("families")

    @cached_property
    def _unlabelled(self) -> Rows:
        file = self._content.unlabelled
        if file is None:
            return Rows.concat([])
        from stratos.tasks.row_splits import without_answered  # imports numpy

        return without_answered(file.rows, Rows.concat(self._divided()))

    @property
    @override
    def n_train(self) -> int:
        return len(self._by_split["train"])

    @property
    @override
    def n_test(self) -> int:
        return len(self._by_split["test"])

    @property
    @override
    def tests_other_rows(self) -> bool:
        return self.test_path is not None

    @property
    @override
    def takes_unlabelled(self) -> bool:
        return self.unlabelled_path is not None

    @property
    def n_unlabelled(self) -> int:
        """How many rows without an answer there are, none of which is a labelled one's question."""
        return len(self._unlabelled)

    # --- what is said of the files ---------------------------------------------------------------

    @property
    @override
    def left_out(self) -> dict[str, int]:
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
    def notes(self) -> tuple[str, ...]:
        """Return how many rows each split has, and how files are read that are no usual CSV."""
        return (*self._separators, self._sizes, *self._left_out_note, *self._schema_note)

    @property
    def _left_out_note(self) -> list[str]:
        """Say how many lines are set aside; those that are wrong are told with their causes."""
        reasons = [f"{reason}: {n:,}" for reason, n in self._set_aside.items() if n]
        return [f"Left out of {' and '.join(self._paths.values())}: {'; '.join(reasons)}."] * bool(
            reasons
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
        of_test = f" of {self.test_path}" if self.test_path else ""
        more = f", {self.n_unlabelled:,} without an answer" if self.n_unlabelled else ""
        near = self._content.near
        return (
            f"{n['train']} to train, {n['validation']} to validate, {n['test']} to test"
            f"{of_test}{more}; split by their hash."
            f"{'' if near is None else near.note(self._together is not None)}"
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
    def complaints(self) -> tuple[Reason, ...]:
        """Return what is wrong with lines that are left out, and doubtful about the others."""
        of_files = (
            (rows.problems() if rows.n_problems else None, self._doubt(rows))
            for rows in self._files
        )
        unlabelled = self._content.unlabelled
        return (
            *(() if unlabelled is None else doubts.of_unlabelled(unlabelled, self.path)),
            *(reason for of_file in of_files for reason in of_file if reason is not None),
            *doubts.of_ids(self.path, self._files[0].rows, self.question, self.answer),
            *doubts.of_copies(self.path, self._split[1][doubts.COPY]),
            *self._doubtful_golds,
            *doubts.of_sizes(self._by_split),
            *doubts.of_languages(self.path, self._by_split["train"]),
        )

    @property
    def _doubtful_golds(self) -> Sequence[Reason]:
        """Return what the verifier finds doubtful about the gold answers of held-out rows."""
        if not isinstance(self._metric, Own):
            return ()
        held_out = {split: rows for split, rows in self._by_split.items() if split != "train"}
        return self._metric.doubts(
            {split: [row.answer for row in rows] for split, rows in held_out.items()}
        )

    @override
    def refusals(self) -> list[Reason]:
        return doubts.too_few(self.path, self._by_split)

    def _doubt(self, rows: FileRows) -> Reason | None:
        if self.verifier is None:
            return None  # the metric may need labels that are still being read
        return file_content.doubt_of_verifier(self._metric, rows)

    # --- reading the files -----------------------------------------------------------------------

    @cached_property
    @override
    def content_sha256(self) -> str:
        unlabelled = self._content.unlabelled
        files = (*self._files, *(() if unlabelled is None else (unlabelled,)))
        read = [*(file.rows.sha256() for file in files), self._schema_text]
        if self._together is not None and self._content.near is not None:
            read.append(self._content.near.sha256())
        if self.database is not None:
            read.append(digest_of(Path(self.database).expanduser()))
        return hashlib.sha256("".join(read).encode()).hexdigest()

    @property
    def _files(self) -> tuple[FileRows, ...]:
        return self._content.files

    @cached_property
    def _content(self) -> file_content.Content:
        return self._read_once()

    def _read_once(self) -> file_content.Content:
        """Return what is in the files; what is on this machine is read once in a process."""
        try:
            files = tuple(map(identity_of, self._all_paths.values()))
        except OSError:
            files = (None,)
        if None in files:
            return self._read_files()
        return file_content.read_once(
            (type(self), repr(self), files, self._schema_text), self._read_files
        )

    def _read_files(self) -> file_content.Content:
        from stratos.tasks.near_duplicates import Near

        source = RowSource()
        files = tuple(self._read(key, path, source) for key, path in self._paths.items())
        rows = Rows.concat([file.rows for file in files])
        near = Near.among(rows) if self.compares_words else None
        return file_content.Content(files, self._read_unlabelled(), near)

    def _read_unlabelled(self) -> FileRows | None:
        """Read the rows without answers; None where no file of them is named."""
        path, key = self.unlabelled_path, "task.unlabelled_path"
        if path is None:
            return None
        fields = replace(self._fields, takes=Takes.UNLABELLED)
        file = self._rows_of(key, path, fields, RowSource())
        file_content.check_unlabelled(file, key, skips=self.on_error == "skip")
        return file

    def _rows_of(self, key: str, path: str, fields: Fields, source: RowSource) -> FileRows:
        try:
            records = None if source.records is None else source.records(path)
            return read_rows(path, fields, partial(self._check, key), records, source.settle)
        except OSError as error:
            reason = error.strerror or str(error)
            hint = beside(Path(local_path(path)).expanduser()) if is_local(path) else ""
            raise ConfigError(
                f"{key}={path} cannot be read: {reason}{self._or_here()}{hint and f'.{hint}'}"
            ) from error

    def _or_here(self) -> str:
        """Say how to name files of this machine, where the task's are elsewhere."""
        away = [f"{key}=<file>" for key, path in self._all_paths.items() if not is_local(path)]
        if not away:
            return ""
        return f". Or name files of this machine (JSON lines, CSV, Parquet): {' '.join(away)}"

    def _read(self, key: str, path: str, source: RowSource) -> FileRows:
        """Read a file of questions and answers.

        Raises:
            ConfigError: it cannot be used.
        """
        file = self._rows_of(key, path, self._fields_of(path), source)
        is_own = key == "task.path"
        file_content.check_labelled(
            file,
            Fields(self.question, self.answer, self.rationale, self.slice),
            skips=self.on_error == "skip",
            can_label=is_own and self.metric != "regex",
            needs_paths=is_own,
            if_none=self._if_none,
        )
        _ = self._doubt(file)
        return file

    @property
    def _if_none(self) -> str:
        """Return what a file writes as the answer to a question that has none; "" for nothing."""
        return ""

    def _check(self, key: str, row: Row) -> Row | Reason:
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
            return AnswerTooLong(len(answer), _LONGEST_ANSWER)
        slice = self._slice_of(key, row)
        if slice not in self.slices:
            return UnknownSlice(slice, self.slices)
        try:
            # A row without an answer is told from a broken one before it is checked.
            answer = self._canonical(key, answer, row.options) if answer else ""
        except ValueError as error:
            return Because(str(error))
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
