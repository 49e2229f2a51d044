"""The reader of a task's files: every line is checked, and what cannot be used is refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace as replace_row

from stratos.core.errors import ConfigError, StratosError
from stratos.core.foreign import beside
from stratos.core.reasons import Because, Reason
from stratos.core.redact import shown
from stratos.core.remote import local_path
from stratos.tasks import rows
from stratos.tasks.files import ROW_SUFFIXES, is_local, is_same_file, name_of
from stratos.tasks.metrics import LETTERS, Metric, Own
from stratos.tasks.table import Row, Rows
from stratos.tasks.words import AnswerTooLong, GoldNotRight, UnknownSlice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stratos.tasks.dedup.near import Near

PATH, TEST_PATH, UNLABELLED_PATH = "task.path", "task.test_path", "task.unlabelled_path"
"""Keys of the config that name files."""
_LONGEST_ANSWER = 20_000
"""Characters of an answer above which it is none that a student could write."""
_MEND = "Fix them, or skip them with task.on_error=skip."
_OR_SKIP = ", or skip them with task.on_error=skip"


@dataclass(frozen=True)
class Content:
    """What was read of a task's files."""

    files: tuple[rows.FileRows, ...]
    """Of each file of labelled rows; that of training rows is the first."""
    unlabelled: rows.FileRows | None = None
    """Rows without answers."""
    near: Near | None = None
    """Near duplicates among the rows; None where the task has groups of its own, or none."""
    passed: Mapping[str, int] = field(default_factory=dict)
    """Why to how many rows are left out though nothing is wrong with them."""
    keys: NDArray[np.uint64] | None = None
    """Of each conversation a hash that all have that have to be of its split; None where rows are
    no turns of conversations."""

    def families(self, some: Rows) -> NDArray[np.uint64]:
        """Return of each row a hash that it shares with all that have to be of its split."""
        if self.keys is None or not len(some):
            return some.column("families")
        return self.keys[some.column("conversations").astype("int64")]


ContentT = TypeVar("ContentT", bound=Content)
ContentT_co = TypeVar("ContentT_co", bound=Content, covariant=True)


class Reader(Protocol[ContentT_co]):
    """Reads all files of a task."""

    def read(self) -> ContentT_co:
        """Return what is in the files.

        Raises:
            ConfigError: they cannot be used; the message says what to type.
        """
        ...


_MOST_CONTENTS = 4
"""Tasks of one process whose files are read once, whoever makes them anew."""
_contents: dict[tuple[Any, ...], Content] = {}
_of_elsewhere: WeakValueDictionary[tuple[Any, ...], Content] = WeakValueDictionary()
"""What is read of files that are not on this machine, for as long as a task has it."""


def read_once(
    settings: tuple[Any, ...], files: Iterable[str], reader: Reader[ContentT]
) -> ContentT:
    """Return what a reader gives, which is remembered of the last few settings and files.

    Check, run and every job of a sweep make a task of their own of the same settings.
    """
    try:
        identities = tuple(map(rows.identity_of, files))
    except OSError:
        return reader.read()
    key = (*settings, identities)
    if None in identities:
        known: Any = _of_elsewhere.get(key) or reader.read()
        _of_elsewhere[key] = known
        return known
    if key not in _contents:
        content = reader.read()
        while len(_contents) >= _MOST_CONTENTS:
            del _contents[next(iter(_contents))]
        _contents[key] = content
    made: Any = _contents[key]
    return made


class Checker(Protocol):
    """Checks the rows of files."""

    def __call__(self, key: str, row: Row) -> Row | Reason:
        """Return a row with its answer in canonical spelling, or what is wrong with it.

        Args:
            key: of the file in the config.
            row: as it was read.
        """
        ...


@dataclass(frozen=True)
class RowChecker:
    """Checks the slice of a row and its answer, which a rationale may stand before."""

    slices: tuple[str, ...]
    slice_of: Callable[[str, Row], str]
    """Gives the slice of a row of the file of a key."""
    canonical: Callable[[str, str, Sequence[str]], str]
    """Gives an answer of the file of a key, to a question with options, in canonical spelling."""
    split_answer: str | None = None
    """Separator between rationale and answer in the answer."""
    lists_options: bool = False
    """Whether the options of a question are written below it."""

    def __call__(self, key: str, row: Row) -> Row | Reason:
        """Return a row as it is used, or what is wrong with it."""
        answer, rationale = row.answer, row.rationale
        if self.split_answer and self.split_answer in answer:
            before, _, answer = answer.rpartition(self.split_answer)
            rationale, answer = rationale or before.strip(), answer.strip()
        if len(answer) > _LONGEST_ANSWER:
            return AnswerTooLong(len(answer), _LONGEST_ANSWER)
        slice = self.slice_of(key, row)
        if slice not in self.slices:
            return UnknownSlice(slice, self.slices)
        try:
            # A row without an answer is told from a broken one before it is checked.
            answer = self.canonical(key, answer, row.options) if answer else ""
        except ValueError as error:
            return Because(str(error))
        question = row.question
        if self.lists_options:
            lines = [f"{a}) {text}" for a, text in zip(LETTERS, row.options, strict=False)]
            question = "\n".join([question, *lines])
        return replace_row(row, question=question, answer=answer, rationale=rationale, slice=slice)


@dataclass(frozen=True)
class FileReader:
    """Reads the rows of files, and refuses a file that cannot be used."""

    files: Mapping[str, str]
    """Key of the config to file, as `FileTask.files` has them."""
    fields: rows.Fields
    """What fields are called in the config."""
    check: Checker
    skips: bool
    """Whether broken lines are skipped."""
    compares_words: bool
    """Whether near duplicates are looked for."""
    can_label: bool = True
    """Whether a teacher could answer rows without an answer."""
    if_none: str = ""
    """What a file writes where no label is right; "" where each row has one."""
    metric: Metric | None = None
    """The user's own, which is tried on a gold answer of each file."""
    source: rows.RowSource = field(default_factory=rows.RowSource)

    def read(self) -> Content:
        """Return what is in the files."""
        from stratos.tasks.dedup.near import Near  # imports numpy

        files = tuple(self.labelled(key, path) for key, path in self.labelled_files.items())
        all_rows = Rows.concat([file.rows for file in files])
        near = Near.among(all_rows) if self.compares_words else None
        return Content(files, self.unlabelled(), near)

    @property
    def labelled_files(self) -> dict[str, str]:
        """Key to file of those with answers, that of training rows first."""
        return {key: path for key, path in self.files.items() if key != UNLABELLED_PATH}

    def labelled(self, key: str, path: str) -> rows.FileRows:
        """Read a file of questions and answers.

        Raises:
            ConfigError: it cannot be used.
        """
        is_shared = is_same_file(path, self.files.get(UNLABELLED_PATH))
        takes = rows.Takes.LABELLED if is_shared else rows.Takes.ALL
        file = self._rows(key, path, replace(self.fields, takes=takes), self.source)
        self._check_labelled(file, is_own=key == PATH)
        _ = self.doubt(file)
        return file

    def unlabelled(self) -> rows.FileRows | None:
        """Read the file of rows without answers; None where none is named.

        Raises:
            ConfigError: it cannot be used.
        """
        path = self.files.get(UNLABELLED_PATH)
        if path is None:
            return None
        fields = replace(self.fields, takes=rows.Takes.UNLABELLED)
        file = self._rows(UNLABELLED_PATH, path, fields, rows.RowSource(self.source.records))
        if file.n_problems and not self.skips:
            raise ConfigError(str(file.problems(_MEND)))
        if not file.rows:
            raise ConfigError(
                f"{UNLABELLED_PATH}={path}: every line has an answer. Leave {UNLABELLED_PATH} out, "
                "or name a file with questions without answers."
            )
        return file

    def doubt(self, file: rows.FileRows) -> Reason | None:
        """Try the user's metric on a gold answer; return that it is not right by it, if so.

        Raises:
            ConfigError: the metric fails on it.
        """
        if not isinstance(self.metric, Own):
            return None
        row = file.rows[0]
        where = f"{row.line} of {file.path}"
        try:
            _ = self.metric.read(row.answer)
            points = self.metric.compare(row.answer, row.answer)
        except StratosError as error:
            raise ConfigError(
                f"{error} It was tried on the gold answer {shown(row.answer)} of {where}."
            ) from error
        if points >= 1:
            return None
        return GoldNotRight(type(self.metric.verifier).__name__, points, row.answer, where)

    def _rows(
        self, key: str, path: str, fields: rows.Fields, source: rows.RowSource
    ) -> rows.FileRows:
        try:
            records = None if source.records is None else source.records(path)
            check = partial(self.check, key)
            return rows.read_rows(path, fields, check, records, source.settle)
        except OSError as error:
            reason = error.strerror or str(error)
            hint = beside(Path(local_path(path)).expanduser()) if is_local(path) else ""
            raise ConfigError(
                f"{key}={path} cannot be read: {reason}{self._or_here()}{hint and f'.{hint}'}"
            ) from error

    def _or_here(self) -> str:
        """Say how to name files of this machine, where the task's are elsewhere."""
        away = [f"{key}=<file>" for key, path in self.files.items() if not is_local(path)]
        if not away:
            return ""
        return f". Or name files of this machine (JSON lines, CSV, Parquet): {' '.join(away)}"

    def _check_labelled(self, file: rows.FileRows, is_own: bool) -> None:
        """Check what was read of a file of questions and answers.

        Args:
            file: what was read.
            is_own: whether it is that of training rows, of which some have to bring their
                reasoning where the task names a field of it.

        Raises:
            ConfigError: it is refused.
        """
        path, fields = file.path, self.fields
        if 2 * file.broken.n_lines >= file.n_lines and (swapped := rows.swapped(path, fields)):
            raise ConfigError(str(swapped))
        if file.same_everywhere and not file.rows:
            if "messages" in rows.columns_of(path):
                raise ConfigError(
                    f"{path}: every line {file.same_everywhere}. Conversations are read by other "
                    f"tasks. See which: stratos look {shlex.quote(path)}"
                )
            meant, (question, answer) = _likely_fields(path, fields)
            raise ConfigError(
                f"{path}: every line {file.same_everywhere}.{meant} Name the fields it has with "
                f"task.question={question} and task.answer={answer}"
            )
        if file.n_problems and fields.slice is not None and not file.rows:
            columns = rows.columns_of(path)
            if columns and rows.find_field(dict.fromkeys(columns), fields.slice) is None:
                raise ConfigError(
                    f"{path}: every line has no field {fields.slice}; it has "
                    f"{', '.join(map(shown, columns))}.{_meant(fields.slice, columns)} Name the "
                    "field with the slices, or leave task.slice out."
                )
        if file.n_problems and not self.skips:
            raise ConfigError(self._what_to_mend(file, is_own))
        if not file.rows:
            what = "good lines" if file.n_lines else "lines"
            causes = f" {file.problems()}" if file.n_problems else ""
            raise ConfigError(f"{path} has no {what}.{causes}")
        if fields.rationale and is_own and not file.rows.column("has_path").any():
            columns = rows.columns_of(path)
            is_known = rows.find_field(dict.fromkeys(columns), fields.rationale) is not None
            lacks = "" if is_known else f" It has {', '.join(map(shown, columns))}."
            meant = "" if is_known else _meant(fields.rationale, columns)
            raise ConfigError(
                f"task.rationale={fields.rationale}: no line of {path} has a value there.{lacks}"
                f"{meant} Name the field with the reasoning, or leave it out."
            )

    def _what_to_mend(self, file: rows.FileRows, is_own: bool) -> str:
        """Return what is wrong with the lines of a file, and what to type."""
        path, none = file.path, self.if_none
        answer = f"Answer them ({none} where no label is right)" if none else "Answer them"
        offer = "."
        if file.rows and self.can_label and is_own:
            offer = f", or let a teacher answer them: {UNLABELLED_PATH}={path}"
        mend = _MEND
        if file.broken.n_lines == file.n_lines and Path(name_of(path)).suffix not in ROW_SUFFIXES:
            mend = (
                "No line of it can be read. If it is a CSV file, name it "
                f"{Path(path).stem}.csv: the suffix tells how a file is read."
            )
        return str(file.problems(mend, f"{answer}{_OR_SKIP}{offer}"))


def _likely_fields(path: str, fields: rows.Fields) -> tuple[str, tuple[str, str]]:
    """Return the question what was meant by a field that a file has not, and what to type."""
    columns = rows.columns_of(path)
    named = (fields.question, fields.answer)
    there = [rows.find_field(dict.fromkeys(columns), names) for names in named]
    free = [name for name in columns if name not in there]
    meant = [
        [] if here is not None else rows.nearest_fields(names, free)
        for names, here in zip(named, there, strict=True)
    ]
    typed = [
        here or (near[0] if near and near[0] == shown(near[0]) else "…")
        for here, near in zip(there, meant, strict=True)
    ]
    hints = "".join(
        _meant(names, free) for names, here in zip(named, there, strict=True) if here is None
    )
    question, answer = rows.likely_fields(path) or (typed if hints else ("…", "…"))
    return hints, (question, answer)


def _meant(names: str, known: Iterable[str]) -> str:
    """Return " Did you mean x?" with the fields that look like one that is not there, or ""."""
    nearest = [shown(name) for name in rows.nearest_fields(names, known)]
    return f" Did you mean {' or '.join(nearest)}?" if nearest else ""
