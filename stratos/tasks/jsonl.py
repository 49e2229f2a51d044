"""The user's own file as a task: one JSON object per line, with a question and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from typing_extensions import override

from stratos.tasks.base import Item
from stratos.tasks.chat import QuestionPrompt
from stratos.tasks.file_task import FileTask
from stratos.tasks.files import is_local
from stratos.tasks.metrics import (
    OF_DATABASE,
    Metric,
    MetricName,
    MultipleChoice,
    Regex,
    metric_of,
)
from stratos.tasks.reader import Content, FileReader, RowChecker
from stratos.tasks.rows import Fields
from stratos.tasks.schema import BySchema


def check_metric(
    name: MetricName, min_f1: float, schema: str | None, verifier: Mapping[str, Any] | None
) -> None:
    """Check the settings of a metric, of which a schema or a verifier takes the place.

    Raises:
        ValueError: one of them is wrong.
    """
    if not 0 < min_f1 <= 1:
        raise ValueError("min_f1 must be above 0 and at most 1.")
    if schema and (name != "exact" or verifier is not None):
        raise ValueError("schema: it is the metric. Leave task.metric and task.verifier out.")
    if schema and not is_local(schema):
        raise ValueError(f"schema={schema}: it has to be a file of this machine.")


@dataclass(frozen=True)
class JsonlTask(FileTask[Content]):
    """Questions and answers from a file of JSON lines, CSV or Parquet."""

    code_version = 4

    test_path: str | None = None
    """A file of test questions, which is the whole test split; null takes a part of `path`."""
    unlabelled_path: str | None = None
    """A file of unlabelled rows, which a teacher labels; `path` itself means its rows with an empty
    answer."""
    name: str = "jsonl"
    """Name shown in tables and written into records."""
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
    test_share: float = 0.25
    """Share of the rows for the test split; ignored with a `test_path`."""

    def __post_init__(self) -> None:
        """Check the settings, and every line of a file on this machine.

        Raises:
            ValueError: something is wrong; the message lists all lines that are broken.
        """
        check_metric(self.metric, self.min_f1, self.schema, self.verifier)
        self._check_database()
        if self.unlabelled_path and self.metric == "regex":
            raise ValueError(
                "unlabelled_path: with metric=regex the answer of a row is a pattern, which no "
                "teacher can write. Leave unlabelled_path out, or take another metric."
            )
        if self.are_files_beside_here:
            _ = self.measure
        super().__post_init__()

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

    @property
    @override
    def files_beside(self) -> tuple[str, ...]:
        return tuple(path for path in (self.schema, self.database) if path is not None)

    # --- what it is put together of --------------------------------------------------------------

    @cached_property
    @override
    def measure(self) -> Metric:
        if self.schema is not None:
            return BySchema.of_file(self.schema, self.min_f1)
        return metric_of(self.metric, self.min_f1, self.verifier, self.database)

    @property
    @override
    def fields_named(self) -> Fields:
        return Fields(self.question, self.answer, self.rationale, self.slice)

    @property
    def _is_choice(self) -> bool:
        return isinstance(self.measure, MultipleChoice)

    @property
    @override
    def checker(self) -> RowChecker:
        return RowChecker(
            self.slices, self.slice_of, self.canonical, self.split_answer, self._is_choice
        )

    @property
    @override
    def file_reader(self) -> FileReader:
        fields = replace(self.fields_named, options=self.options if self._is_choice else None)
        return replace(
            super().file_reader,
            fields=fields,
            can_label=self.metric != "regex",
            metric=None if self.verifier is None else self.measure,
        )

    @cached_property
    @override
    def prompt(self) -> QuestionPrompt:
        schema = self.measure.answer_schema
        form = (
            ""
            if schema is None
            else "The answer is a JSON object that matches this schema: "
            + json.dumps(schema, ensure_ascii=False)
        )
        return QuestionPrompt(self.instruction, form, self._is_choice)

    @property
    @override
    def system_prompt(self) -> str:
        return self.instruction

    @override
    def choices_of(self, item: Item) -> tuple[str, ...]:
        if self._is_choice:
            n = len(self.measure.options_of(item.question))
            return tuple("ABCD") if n >= 4 and item.answer in "ABCD" else ()
        return () if isinstance(self.measure, Regex) else super().choices_of(item)
