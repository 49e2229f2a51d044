"""A user's JSON lines as rows of text, with everything that is wrong named by line at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.tasks.split import content_id

_SHOWN = 20
"""Problems that a message lists before it only counts."""


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    line: int
    question: str
    answer: str
    rationale: str
    slice: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Fields:
    """What the fields of a line are called; None for one that the file has not."""

    question: str
    answer: str
    rationale: str | None
    slice: str | None
    options: str | None


def read_rows(path: str, fields: Fields, check: Callable[[Row], Row | str]) -> list[Row]:
    """Read every line of a file, local or behind any fsspec URL.

    Args:
        path: of the file.
        fields: names of the fields.
        check: returns a row in canonical form, or what is wrong with it.

    Raises:
        ValueError: at least one line is broken, or a question has two answers; all are named.
        OSError: the file cannot be read.
    """
    problems: list[str] = []
    rows: dict[str, Row] = {}
    for number, data in _lines(path):
        made = _read_line(number, data, fields)
        made = check(made) if isinstance(made, Row) else made
        if isinstance(made, str):
            problems.append(f"line {number}: {made}")
            continue
        first = rows.setdefault(content_id(made.question), made)
        if first.answer != made.answer:
            problems.append(
                f"line {number}: the question of line {first.line} again, but with the answer "
                f"{_show(made.answer)} where that has {_show(first.answer)}"
            )
    if problems:
        more = len(problems) - _SHOWN
        listed = problems[:_SHOWN] + ([f"… and {more} more"] if more > 0 else [])
        raise ValueError("\n    ".join([f"{path} has {len(problems)} broken lines:", *listed]))
    if not rows:
        raise ValueError(f"{path} has no lines.")
    return list(rows.values())


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of every line that is not blank."""
    import fsspec

    place = path if "://" in path else str(Path(path).expanduser())
    with fsspec.open(place, "rb") as file:
        for number, data in enumerate(file, start=1):
            data = data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data
            if data.strip():
                yield number, data


def _read_line(number: int, data: bytes, fields: Fields) -> Row | str:
    try:
        row = json.loads(data.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1})"
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg}, column {error.colno})"
    if not isinstance(row, dict):
        return f"expected an object, found {_show(row)}"
    question = _text(row, fields.question)
    answer = _text(row, fields.answer)
    for name, value in ((fields.question, question), (fields.answer, answer)):
        if name not in row:
            return f"has no field {name}; it has {', '.join(map(str, row)) or 'none'}"
        if not value:
            return f"{name} is {_show(row[name])}, not a text"
    options = row.get(fields.options, ()) if fields.options else ()
    if not isinstance(options, list | tuple) or not all(isinstance(o, str | int) for o in options):
        return f"{fields.options} is {_show(options)}, not a list of texts"
    return Row(
        line=number,
        question=question,
        answer=answer,
        rationale=_text(row, fields.rationale) if fields.rationale else "",
        slice=_text(row, fields.slice) if fields.slice else "",
        options=tuple(str(option).strip() for option in options),
    )


def _text(row: dict[str, Any], name: str) -> str:
    """Return a field as clean text, "" where it is none."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    # Lone surrogates can stand in JSON and in no file.
    return str(value).encode("utf-8", "replace").decode().strip()


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f"{text[:57]}…"
