"""What was read of a task's files, once in a process, and why a file is refused: what to type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.core.errors import ConfigError, StratosError
from stratos.core.reasons import Reason
from stratos.tasks import rows
from stratos.tasks.metrics import Metric, Own
from stratos.tasks.shown import shown
from stratos.tasks.words import GoldNotRight

if TYPE_CHECKING:
    from stratos.tasks.near_duplicates import Near


_MOST_CONTENTS = 4
"""Tasks of one process whose files are read once, whoever makes them anew."""
_contents: dict[tuple[Any, ...], Content] = {}


@dataclass(frozen=True)
class Content:
    """What was read of a task's files."""

    files: tuple[rows.FileRows, ...]
    unlabelled: rows.FileRows | None = None
    """Rows without answers."""
    near: Near | None = None
    """Near duplicates among the rows; None where the task has groups of its own, or none."""
    labels: tuple[str, ...] = ()
    """The labels of a classification that names none."""
    spellings: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of these labels their spellings in the file, with how many rows have them."""


def read_once(key: tuple[Any, ...], read: Callable[[], Content]) -> Content:
    """Return what `read` gives, which is remembered of the last few keys.

    Check, run and every job of a sweep make a task of their own of the same settings.
    """
    if key not in _contents:
        content = read()
        while len(_contents) >= _MOST_CONTENTS:
            del _contents[next(iter(_contents))]
        _contents[key] = content
    return _contents[key]


_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".ndjson")
"""Of files that are what they are read as."""
_MEND = "Fix them, or skip them with task.on_error=skip."
_OR_SKIP = ", or skip them with task.on_error=skip"


def check_labelled(
    content: rows.FileRows,
    fields: rows.Fields,
    *,
    skips: bool,
    can_label: bool,
    needs_paths: bool,
    if_none: str = "",
) -> None:
    """Check what was read of a file of questions and answers.

    Args:
        content: what was read of it.
        fields: what its fields are called in the config.
        skips: whether broken lines are skipped.
        can_label: whether a teacher could answer its rows without an answer.
        needs_paths: whether some row has to bring the reasoning that leads to its answer.
        if_none: what the file writes where no label is right; "" where each row has one.

    Raises:
        ConfigError: it is refused.
    """
    path = content.path
    if content.same_everywhere and not content.rows:
        meant, (question, answer) = _likely_fields(path, fields)
        raise ConfigError(
            f"{path}: every line {content.same_everywhere}.{meant} Name the fields it has with "
            f"task.question={question} and task.answer={answer}"
        )
    if content.n_problems and fields.slice is not None and not content.rows:
        columns = rows.columns_of(path)
        if columns and rows.find_field(dict.fromkeys(columns), fields.slice) is None:
            raise ConfigError(
                f"{path}: every line has no field {fields.slice}; it has "
                f"{', '.join(map(shown, columns))}.{_meant(fields.slice, columns)} Name the "
                "field with the slices, or leave task.slice out."
            )
    if content.n_problems and not skips:
        answer = f"Answer them ({if_none} where no label is right)" if if_none else "Answer them"
        offer = "."
        if content.rows and can_label:
            offer = f", or let a teacher answer them: task.unlabelled_path={path}"
        mend = _MEND
        if content.broken.n_lines == content.n_lines and Path(path).suffix not in _SUFFIXES:
            mend = (
                "No line of it can be read. If it is a CSV file, name it "
                f"{Path(path).stem}.csv: the suffix tells how a file is read."
            )
        raise ConfigError(str(content.problems(mend, f"{answer}{_OR_SKIP}{offer}")))
    if not content.rows:
        what = "good lines" if content.n_lines else "lines"
        causes = f" {content.problems()}" if content.n_problems else ""
        raise ConfigError(f"{path} has no {what}.{causes}")
    if fields.rationale and needs_paths and not content.rows.column("has_path").any():
        columns = rows.columns_of(path)
        is_known = rows.find_field(dict.fromkeys(columns), fields.rationale) is not None
        lacks = "" if is_known else f" It has {', '.join(map(shown, columns))}."
        meant = "" if is_known else _meant(fields.rationale, columns)
        raise ConfigError(
            f"task.rationale={fields.rationale}: no line of {path} has a value there.{lacks}"
            f"{meant} Name the field with the reasoning, or leave it out."
        )


def check_unlabelled(content: rows.FileRows, key: str, *, skips: bool) -> None:
    """Check what was read of a file of questions without answers.

    Args:
        content: what was read of it.
        key: of the file in the config.
        skips: whether broken lines are skipped.

    Raises:
        ConfigError: it is refused.
    """
    if content.n_problems and not skips:
        raise ConfigError(str(content.problems(_MEND)))
    if not content.rows:
        raise ConfigError(
            f"{key}={content.path}: every line has an answer. Leave {key} out, or name a file with "
            "questions without answers."
        )


def doubt_of_verifier(metric: Metric, content: rows.FileRows) -> Reason | None:
    """Try the user's verifier on a gold answer; return that it is not right by it, if so.

    Raises:
        ConfigError: the verifier fails on it.
    """
    if not isinstance(metric, Own):
        return None
    row = content.rows[0]
    where = f"{row.line} of {content.path}"
    try:
        _ = metric.read(row.answer)
        points = metric.compare(row.answer, row.answer)
    except StratosError as error:
        raise ConfigError(
            f"{error} It was tried on the gold answer {shown(row.answer)} of {where}."
        ) from error
    if points >= 1:
        return None
    return GoldNotRight(type(metric.verifier).__name__, points, row.answer, where)


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
