"""What a YAML may say of a task whose rows are in files: its settings, and its metric."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from stratos.core.foreign import why_unreadable
from stratos.tasks import chat
from stratos.tasks.base import FieldName, Task
from stratos.tasks.files import is_local
from stratos.tasks.metrics import OF_DATABASE, Metric, MetricName, Own, metric_of
from stratos.tasks.rows import Fields, Takes
from stratos.tasks.schema import BySchema
from stratos.tasks.schema.document import read_schema


@dataclass(frozen=True)
class FileSettings(Task):
    """Settings of a task of questions and answers from a file of JSON lines, CSV or Parquet."""

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
        found = self._schema
        return "" if found is None else json.dumps(found, sort_keys=True)

    @property
    def _lacks_file(self) -> bool:
        """Whether the schema or the database cannot be read."""
        named = (one for one in (self.schema, self.database) if one is not None)
        return any(why_unreadable(os.path.expanduser(one)) for one in named)
