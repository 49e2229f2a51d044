"""A user's file as text rows, with all errors reported by line."""

from __future__ import annotations

import heapq
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from stratos.core.digest import identity
from stratos.core.formats import listed, writable
from stratos.core.reasons import Reason
from stratos.core.redact import LONGEST_SHOWN, redact_shapes, shown
from stratos.core.remote import local_path
from stratos.tasks import words
from stratos.tasks.answers import object_of
from stratos.tasks.base import FieldName
from stratos.tasks.files import is_local, read_records
from stratos.tasks.table import Row, Rows, Table

_SHOWN = 20
"""Causes that a message lists before it only counts."""
_LINES_OF_CAUSE = 5
"""Lines that are named of one cause before they are only counted."""
_ANSWERS_SHOWN = 3
"""Answers that are shown of a question that has several."""
_ALIKE_SHOWN = 20
"""Characters of a common beginning that are shown in front of where answers differ."""
_ROWS_TO_GUESS_BY = 1000
_ROWS_OF_SWAP, _ROWS_OF_AN_ANSWER = 20, 3
"""Rows that each value of a field has on average, from which the field may hold answers."""
ID_SHARE = 0.9
"""Different answers for each row from which they may be ids of the rows."""
_WORDS_OF_A_TEXT = 3
"""Words that values of a field have on average, from which they may be texts to be labelled."""
_ALIKE = 0.7
"""Likeness of the name of a field with that of another from which it may be a slip of it."""


class Settled(NamedTuple):
    """What becomes of the rows of one question with different answers."""

    row: int | None
    """Place of the row that is taken; None for none."""
    n_repeats: int = 0
    """How many others say the same as that one."""


@dataclass(frozen=True)
class RowSource:
    """How the rows of a file are read, where its lines are none, or questions repeat."""

    records: Callable[[str], Iterable[tuple[str, Record]]] | None = None
    """Path to what is read in place of the lines of that file; None reads these."""
    settle: Callable[[Sequence[Row]], Settled] | None = None
    """Tells which of several answers to a question is taken; None takes none of them."""


class Takes(Enum):
    """Which rows of a file are read; the others are passed over and counted."""

    ALL = "all"
    """All; those without an answer are no good rows, and are named apart from broken lines."""
    LABELLED = "labelled"
    """Those that have an answer."""
    UNLABELLED = "unlabelled"
    """Those that have none."""


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
    takes: Takes = Takes.ALL

    @cached_property
    def _names(self) -> dict[tuple[str, ...], dict[str, FieldName | None]]:
        return {}

    def of(self, row: dict[str, Any]) -> dict[str, FieldName | None]:
        """Return the name that each field has in a row; lines of one shape are looked up once."""
        keys = tuple(row)
        fields = self._names.get(keys)
        if fields is None:
            names_of = (self.question, self.answer, self.rationale, self.slice)
            fields = {names: find_field(row, names) for names in names_of if names}
            if len(self._names) < _SHAPES:
                self._names[keys] = fields
        return fields


_Cause = tuple[str, int]
"""What is wrong with lines, and the group that they are of."""
_SHAPES = 1000
"""Sets of fields of one file that are remembered."""


@dataclass(frozen=True)
class FileRows:
    """The good rows of a file, and what was wrong with the others."""

    path: str
    rows: Rows
    broken: words.Listing
    """Lines that cannot be read as a question and its answer."""
    unanswered: words.Listing
    """Lines with a question and no answer, where those are not passed over."""
    n_lines: int
    same_everywhere: words.LacksField | None
    """The field that every single line lacks; None where some line has it."""
    n_passed: int = 0
    """Good lines of the kind that was not asked for: with an answer, or without one."""
    n_repeats: int = 0
    """Good lines with the question and the answer of another one, which is taken."""

    @property
    def n_problems(self) -> int:
        """How many lines are no good rows."""
        return self.broken.n_lines + self.unanswered.n_lines

    def problems(self, mend: str = "", answer: str = "") -> words.FileProblems:
        """Return all problems, long lists cut short.

        Args:
            mend: what to do about broken lines.
            answer: what to do about rows without an answer.
        """
        return words.FileProblems(self.path, self.broken, self.unanswered, mend, answer)


class Problems:
    """What is wrong with lines: all are counted, the first ones are kept."""

    def __init__(self) -> None:
        self.n = 0
        self._first: list[tuple[int, _Cause]] = []  # a heap of causes, the last line on top
        self._lines: dict[_Cause, list[str]] = {}  # of each cause, its first lines
        self._counts: dict[_Cause, int] = {}
        self._reasons: dict[str, Reason] = {}  # the first two, by their text

    def add(self, number: int, line: str, reason: Reason, group: int = 0) -> None:
        """Take in what is wrong with the line of a number.

        Args:
            number: of the line.
            line: where it stands, in words.
            reason: what is wrong with it.
            group: lines of different groups do not stand together, though one thing is wrong.
        """
        self.n += 1
        problem, _ = redact_shapes(str(reason))
        if len(self._reasons) < 2:
            self._reasons.setdefault(problem, reason)
        cause = problem, group
        if cause in self._counts:
            self._counts[cause] += 1
            if len(self._lines[cause]) < _LINES_OF_CAUSE:
                self._lines[cause].append(line)
            return
        if len(self._first) < _SHOWN:
            heapq.heappush(self._first, (-number, cause))
        elif -number > self._first[0][0]:
            _, last = heapq.heapreplace(self._first, (-number, cause))
            del self._counts[last], self._lines[last]
        else:
            return
        self._counts[cause], self._lines[cause] = 1, [line]

    def listing(self) -> words.Listing:
        """Return the first causes, each with its lines, in the order of the first of them."""
        first = sorted(self._first, reverse=True)
        causes = tuple(f"{self._where(cause)}: {cause[0]}" for _, cause in first)
        return words.Listing(causes, sum(self._counts.values()), self.n)

    def _where(self, cause: _Cause) -> str:
        lines, n = self._lines[cause], self._counts[cause]
        if n == 1:
            return lines[0]
        named = lines if n > len(lines) else lines[:-1]
        last = f"{n - len(lines):,} more" if n > len(lines) else lines[-1]
        return f"{', '.join(named)} and {last}"

    def same_everywhere(self, n_lines: int) -> words.LacksField | None:
        """Return the one problem of all lines, if it is a field that they lack."""
        if len(self._reasons) != 1 or self.n < max(2, n_lines):
            return None
        [reason] = self._reasons.values()
        return reason if isinstance(reason, words.LacksField) else None


def identity_of(path: str) -> tuple[int, ...] | None:
    """Return what changes when a file of this machine does; None for a file elsewhere."""
    return identity(os.stat(os.path.expanduser(local_path(path)))) if is_local(path) else None


def columns_of(path: str) -> dict[str, set[str]]:
    """Return the fields of a file's first rows, in their order, each with its different texts."""
    texts: dict[str, set[str]] = {}
    for _, data in islice(read_records(path), _ROWS_TO_GUESS_BY):
        if isinstance(data, dict):
            for name, value in data.items():
                texts.setdefault(str(name), set()).add(str(value))
    return texts


def likely_answers(path: str, *used: str) -> list[str]:
    """Return what to type for each field whose values repeat, as answers to a set of questions do.

    Args:
        path: of the file.
        used: names of fields that are none of them, as the task has them.
    """
    columns = columns_of(path)
    used_names = {find_field(dict.fromkeys(columns), names) for names in used}
    most = max(map(len, columns.values()), default=0)
    likely = [
        (len(texts), f"task.answer={name} ({len(texts)} different values)")
        for name, texts in columns.items()
        if name not in used_names and _are_like_labels(texts, most) and name == shown(name)
    ]
    return [typed for _, typed in sorted(likely)[:_ANSWERS_SHOWN]]


def _are_like_labels(texts: set[str], n: int) -> bool:
    """Return whether the texts of a field are labels, beside a field of `n` different texts."""
    is_few = 2 <= len(texts) <= n / _ROWS_OF_AN_ANSWER
    return is_few and max(map(len, texts)) <= LONGEST_SHOWN


def likely_fields(path: str) -> tuple[str, str] | None:
    """Return which of two fields is the question and which the answer; None if there are more.

    The answer is the one with fewer different texts, or the second where both have as many.
    """
    texts = columns_of(path)
    if len(texts) != 2 or any(len(shown(name)) != len(name) or " " in name for name in texts):
        return None
    first, second = texts
    return (first, second) if len(texts[second]) <= len(texts[first]) else (second, first)


def swapped(path: str, fields: Fields) -> words.Swapped | None:
    """Return that questions are JSON objects or labels, and their answers texts; else None."""
    return _swapped_objects(path, fields) or _swapped_labels(path, fields)


def _swapped_labels(path: str, fields: Fields) -> words.Swapped | None:
    columns = columns_of(path)
    question, answer = (
        find_field(dict.fromkeys(columns), names) for names in (fields.question, fields.answer)
    )
    if question is None or answer is None:
        return None
    labels, texts = columns[question], columns[answer]
    n_words = [sum(len(text.split()) for text in some) / len(some) for some in (labels, texts)]
    is_text = n_words[1] > max(n_words[0], _WORDS_OF_A_TEXT)
    if not is_text or not _are_like_labels(labels, len(texts)):
        return None
    return words.Swapped(path, question, answer, len(labels))


def _swapped_objects(path: str, fields: Fields) -> words.Swapped | None:
    first = [row for _, row in islice(read_records(path), _ROWS_OF_SWAP) if isinstance(row, dict)]
    pairs = [(text_of(row, fields.question), answer_of(row, fields.answer)) for row in first]
    if not all(object_of(question) and not object_of(answer) for question, answer in pairs):
        return None
    of = fields.of(first[0]) if first else {}
    question, answer = of.get(fields.question), of.get(fields.answer)
    return words.Swapped(path, question, answer) if question and answer else None


def read_rows(
    path: str,
    fields: Fields,
    check: Callable[[Row], Row | Reason],
    records: Iterable[tuple[str, Record]] | None = None,
    settle: Callable[[Sequence[Row]], Settled] | None = None,
) -> FileRows:
    """Read every line of a file, local, behind any fsspec URL, or on the hub; once, in a stream.

    Where one question has two answers, nobody can tell which is right: none of its rows is good.

    Args:
        path: of the file.
        fields: names of the fields.
        check: returns a row in canonical form, or what is wrong with it.
        records: what is read in place of the file's lines: where each stands, with its fields, the
            row that it is, or what is wrong with it.
        settle: returns which of the rows of one question with different answers is taken; without
            it they are no good rows.

    Raises:
        OSError: the file cannot be read.
    """
    import numpy as np

    problems, unanswered = Problems(), Problems()
    table = Table()
    n_lines = n_passed = 0
    numbers = array("Q")  # of each row its line
    for line, data in read_records(path) if records is None else records:
        n_lines += 1
        if isinstance(data, dict) and _is_passed(data, fields):
            n_passed += 1
            continue
        made = _row(line, data, fields) if isinstance(data, dict) else data
        if isinstance(made, Unanswered):
            unanswered.add(n_lines, line, made.why)
            continue
        made = check(made) if isinstance(made, Row) else made
        if isinstance(made, Reason):
            problems.add(n_lines, line, made)
        else:
            table.append(made)
            numbers.append(n_lines)
    same = problems.same_everywhere(n_lines) or unanswered.same_everywhere(n_lines)
    is_taken = np.ones(len(table), bool)
    n_repeats = 0
    for group in _repeats(table):
        if settle is not None:
            row_kept, n_same = _settled(table, group, settle)
        elif _contradict(table, group, numbers, problems):
            row_kept, n_same = None, 0
        else:
            row_kept, n_same = 0, len(group) - 1
        is_taken[group] = False
        n_repeats += n_same
        if row_kept is not None:
            is_taken[group[row_kept]] = True
    return FileRows(
        path,
        Rows.of(table, is_taken),
        problems.listing(),
        unanswered.listing(),
        n_lines,
        same,
        n_passed,
        n_repeats,
    )


def _is_passed(data: dict[str, Any], fields: Fields) -> bool:
    """Return whether a row is not of the kind that is read."""
    if fields.takes is Takes.ALL:
        return False
    return bool(answer_of(data, fields.answer)) == (fields.takes is Takes.UNLABELLED)


def _repeats(table: Table) -> Iterator[list[int]]:
    """Yield the rows of each question that is there more than once, in the order of the file."""
    import numpy as np

    ids = table.column("ids")
    order = np.argsort(ids, kind="stable")
    ends = np.flatnonzero(np.diff(ids[order]) != 0) + 1
    starts = np.concatenate([[0], ends])
    stops = np.concatenate([ends, [len(ids)]])
    for k in np.flatnonzero(stops - starts > 1):
        yield order[starts[k] : stops[k]].tolist()


def _settled(table: Table, group: list[int], settle: Callable[[Sequence[Row]], Settled]) -> Settled:
    """Return which of the rows of a question is taken: the first, unless their answers differ."""
    rows = [table.row(k) for k in group]
    is_one = len({row.answer for row in rows}) < 2
    return Settled(0, len(rows) - 1) if is_one else settle(rows)


def _contradict(table: Table, group: list[int], numbers: Sequence[int], problems: Problems) -> bool:
    """Say once what is wrong with the rows of one question, unless their answers are one."""
    answers = dict.fromkeys(table.row(k).answer for k in group)
    if len(answers) < 2:
        return False
    quoted = _where_they_differ(list(islice(answers, _ANSWERS_SHOWN)))
    more = len(answers) - len(quoted)
    named = listed([*quoted, *([f"{more:,} more"] if more else [])])
    reason = words.Contradiction(len(answers), named)
    for k in group:
        problems.add(numbers[k], table.row(k).line, reason, group=numbers[group[0]])
    return True


def _where_they_differ(answers: Sequence[str]) -> list[str]:
    """Return answers in quotes; what they begin with alike is cut where it is long."""
    columns = enumerate(zip(*answers, strict=False))
    n_alike = next((k for k, some in columns if len(set(some)) > 1), min(map(len, answers)))
    start = max(0, n_alike - _ALIKE_SHOWN)
    if max(map(len, answers)) <= LONGEST_SHOWN - 2:
        start = 0
    longest = LONGEST_SHOWN - 2
    return [f'"{"…" * bool(start)}{shown(answer[start:], longest)}"' for answer in answers]


def find_field(row: dict[str, Any], names: str) -> FieldName | None:
    """Return the name that a field has in a row: the first of `a|b` that is there."""
    if names in row:  # of a wide file, names are not folded for each of them
        return names
    folded = {str(name).casefold(): str(name) for name in reversed(row)}
    for name in names.split("|"):
        if name in row:
            return name
        if name.casefold() in folded:
            return folded[name.casefold()]
    return None


def nearest_fields(names: str, known: Iterable[str]) -> list[str]:
    """Return the fields that may be meant by names of which a file has none, the likeliest first.

    Args:
        names: `a|b`, as a task has them.
        known: fields of the file.
    """
    folded = {name.casefold(): name for name in known}
    close = [
        match
        for name in names.split("|")
        for match in get_close_matches(name.casefold(), list(folded), n=2, cutoff=_ALIKE)
    ]
    return list(dict.fromkeys(folded[match] for match in close))


@dataclass(frozen=True)
class Unanswered:
    """A row with a question, whose answer nobody has written."""

    why: Reason


Record = dict[str, Any] | Row | Unanswered | Reason
"""The fields of a line, the row that it is, or what is wrong with it."""


def _row(line: str, data: dict[str, Any], fields: Fields) -> Row | Reason | Unanswered:
    of = fields.of(data)
    texts = []
    for names in (fields.question, fields.answer):
        if names is fields.answer and fields.takes is Takes.UNLABELLED:
            texts.append("")
            continue
        name = of[names]
        if name is None:
            lacks = words.LacksField(names, tuple(map(str, data)))
            # Any other field may be an answer whose name is misspelled.
            is_bare = names is fields.answer and set(data) <= {*of.values(), fields.options}
            return Unanswered(lacks) if is_bare else lacks
        text = _answer(data[name]) if names is fields.answer else _text(data[name])
        if not text and (isinstance(data[name], str) or data[name] is None):
            empty = words.EmptyField(name)
            return Unanswered(empty) if names is fields.answer else empty
        if not text:
            return words.OtherType(name, _quoted(data[name]), "a text")
        texts.append(text)
    options = data.get(fields.options, ()) if fields.options else ()
    if not isinstance(options, list | tuple) or not all(isinstance(o, str | int) for o in options):
        return words.OtherType(str(fields.options), _quoted(options), "a list of texts")
    question, answer = texts
    return Row(
        line,
        question,
        answer,
        _text_at(data, of, fields.rationale),
        _text_at(data, of, fields.slice),
        tuple(_clean(str(option)) for option in options),
    )


def _text_at(row: dict[str, Any], of: dict[str, FieldName | None], names: str | None) -> str:
    name = of[names] if names else None
    return "" if name is None else _text(row[name])


def text_of(row: dict[str, Any], names: str | None) -> str:
    """Return a field as clean text, "" where it is none; an object or a list is its JSON."""
    name = find_field(row, names) if names else None
    return "" if name is None else _text(row[name])


def answer_of(row: dict[str, Any], names: str) -> str:
    """Return the answer of a row as clean text; an empty list says that no label is right."""
    name = find_field(row, names)
    return "" if name is None else _answer(row[name])


def _answer(value: Any) -> str:
    return "[]" if value == [] else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool | dict | list) and value not in ({}, []):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return _clean(str(value)) if isinstance(value, str | int | float) else ""


def _clean(text: str) -> str:
    return writable(text).strip()


def _quoted(value: Any) -> str:
    text, _ = redact_shapes(json.dumps(value, ensure_ascii=True, default=str))
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}…"
