"""A user's file as rows of text, with everything that is wrong named by line at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stratos.tasks.files import read_records
from stratos.tasks.split import content_id
from stratos.words import counted

_SHOWN = 20
"""Problems that a message lists before it only counts."""
_LONGEST_SHOWN = 60
_LACKS = "has no field"


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    line: str
    """Where it stands: "line 3"."""
    question: str
    answer: str
    rationale: str
    slice: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Fields:
    """What the fields of a line are called; None for one that the file has not.

    `a|b` is the first of them that a line has. Case does not count.
    """

    question: str
    answer: str
    rationale: str | None = None
    slice: str | None = None
    options: str | None = None


@dataclass(frozen=True)
class Rows:
    """The good rows of a file, and what was wrong with the others."""

    path: str
    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    n_lines: int

    @property
    def same_everywhere(self) -> str | None:
        """The field that every single line lacks, in words; None where some line has it."""
        found = {problem.partition(": ")[2] for problem in self.problems}
        if len(found) != 1 or len(self.problems) < max(2, self.n_lines):
            return None
        [problem] = found
        return problem if problem.startswith(_LACKS) else None

    def complaint(self) -> str:
        """Return all problems as one message, long lists cut short."""
        more = len(self.problems) - _SHOWN
        listed = [*self.problems[:_SHOWN], *([f"… and {more} more"] if more > 0 else [])]
        head = f"{self.path} has {counted(len(self.problems), 'broken line')}:"
        return "\n    ".join([head, *listed])


def read_rows(path: str, fields: Fields, check: Callable[[Row], Row | str]) -> Rows:
    """Read every line of a file, local, behind any fsspec URL, or on the hub.

    Where one question has two answers, nobody can tell which is right: none of its rows is good:
    each is a problem of its own.

    Args:
        path: of the file.
        fields: names of the fields.
        check: returns a row in canonical form, or what is wrong with it.

    Raises:
        OSError: the file cannot be read.
    """
    problems: list[tuple[int, str]] = []
    firsts: dict[str, tuple[int, Row]] = {}
    repeats: dict[str, list[tuple[int, Row]]] = {}
    n_lines = 0
    for line, data in read_records(path):
        n_lines += 1
        made = data if isinstance(data, str) else _row(line, data, fields)
        made = check(made) if isinstance(made, Row) else made
        if isinstance(made, str):
            problems.append((n_lines, f"{line}: {made}"))
            continue
        key = content_id(made.question)
        if key in firsts:
            repeats.setdefault(key, []).append((n_lines, made))
        else:
            firsts[key] = n_lines, made
    for key, others in repeats.items():
        if found := _contradictions([firsts[key], *others]):
            problems += found
            del firsts[key]
    good = tuple(row for _, row in firsts.values())
    return Rows(path, good, tuple(problem for _, problem in sorted(problems)), n_lines)


def _contradictions(rows: Sequence[tuple[int, Row]]) -> list[tuple[int, str]]:
    """Return what is wrong with each row of one question; nothing where their answers are one."""
    first = rows[0]
    second = next((one for one in rows if one[1].answer != first[1].answer), None)
    if second is None:
        return []
    found = []
    for n, row in rows:
        k, other = second if row.answer == first[1].answer else first
        told = (
            f"the question of {other.line} again, but with the answer {_quoted(row.answer)} "
            f"where that has {_quoted(other.answer)}"
            if k < n
            else f"its question is again in {other.line}, with the answer "
            f"{_quoted(other.answer)} where this has {_quoted(row.answer)}"
        )
        found.append((n, f"{row.line}: {told}"))
    return found


def shown(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """Return a text as it may be shown: cut short, control characters and the like escaped."""
    text = text if text.isprintable() else json.dumps(text)[1:-1]
    return text if len(text) <= longest else f"{text[: longest - 3]}…"


def find_field(row: dict[str, Any], names: str) -> str | None:
    """Return the name that a field has in a row: the first of `a|b` that is there."""
    folded = {str(name).casefold(): str(name) for name in reversed(row)}
    for name in names.split("|"):
        if name in row:
            return name
        if name.casefold() in folded:
            return folded[name.casefold()]
    return None


def _row(line: str, data: dict[str, Any], fields: Fields) -> Row | str:
    found = {}
    for names in (fields.question, fields.answer):
        name = find_field(data, names)
        if name is None:
            known = ", ".join(shown(str(key)) for key in data) or "none"
            return f"{_LACKS} {names.replace('|', ' or ')}; it has {known}"
        found[names] = text_of(data, name)
        if not found[names]:
            return f"{name} is {_quoted(data[name])}, not a text"
    options = data.get(fields.options, ()) if fields.options else ()
    if not isinstance(options, list | tuple) or not all(isinstance(o, str | int) for o in options):
        return f"{fields.options} is {_quoted(options)}, not a list of texts"
    return Row(
        line=line,
        question=found[fields.question],
        answer=found[fields.answer],
        rationale=text_of(data, fields.rationale),
        slice=text_of(data, fields.slice),
        options=tuple(_clean(str(option)) for option in options),
    )


def text_of(row: dict[str, Any], names: str | None) -> str:
    """Return a field as clean text, "" where it is none."""
    name = find_field(row, names) if names else None
    value = row[name] if name is not None else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return _clean(str(value))


def _clean(text: str) -> str:
    # Lone surrogates can stand in JSON and in no file.
    return text.encode("utf-8", "replace").decode().strip()


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}…"
