"""Which columns of a file hold the text and the answer, and what kind of answers these are."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from stratos.core.errors import ConfigError, did_you_mean
from stratos.core.values import override
from stratos.probe.words import (
    HeaderMissing,
    HoldsCalls,
    HoldsConversations,
    LooksLikeId,
    LooksSwapped,
    NoAnswers,
    NoColumn,
    NoTexts,
    OneColumn,
    Uncertain,
)
from stratos.tasks.answers import object_of
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.files import name_of
from stratos.tasks.label_sets import SetForm, form_of
from stratos.tasks.numbers import stated_number
from stratos.tasks.rows import ID_SHARE, find_field

TEXTS = (
    "text", "question", "message", "body", "content", "input", "prompt", "query", "utterance",
    "sentence", "description", "comment", "review", "instruction", "request", "document", "email",
    "ticket",
)  # fmt: skip
TITLES = ("subject", "title")
"""What columns of texts are called, too, where no other has longer ones."""
ANSWERS = (
    "label", "answer", "labels", "category", "class", "intent", "target", "output", "completion",
    "response", "tag", "tags", "topic", "sentiment", "expected", "gold", "y",
)  # fmt: skip
"""What columns are often called, the likeliest first."""
IDS = ("id", "ids", "uuid", "guid", "key", "number", "no", "nr", "index")
"""What names of columns with ids often end with."""
MOST_LABELS = 200
"""Different answers above which a run wants labels to be named."""
_ROWS_OF_A_LABEL = 2
"""Rows that each answer has on average, from which answers are labels."""
_ROWS_OF_A_LONG_LABEL = 10
"""The same, from which they are labels however long."""
_TEXTS_OF_A_LABEL = 3
"""Different answers for each text from which both columns may be swapped."""
_FEW_NUMBERS = 20
"""Different numbers up to which they are labels, such as stars."""
_FEW_ROWS = 20
"""Rows up to which answers need not repeat to be labels."""
_NEARLY_ALL = 0.9
_WORDS_OF_A_TEXT = 3
_LONGEST_NAME = 60
_WORDS_OF_A_NAME = 6
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_CALLS = re.compile(
    r'[\[{].*(?:"(?:role|type|from)".*"(?:tool_calls|tool_use|function_call)"'
    r'(?!\s*:\s*(?:\[\s*\]|null))|"(?:gen_ai|llm)\..*tool)'
    r'|\[.*(?:"speaker".*"service_call"|"service_call".*"speaker")'
)
"""Messages of which some call tools, the span of a call of a model, or a schema-guided dialogue."""
_CONVERSATION = re.compile(r'\[\s*\{.*"(role|from)"\s*:')


class OtherTaskError(ConfigError):
    """The rows of a file are those of another task."""

    def __init__(self, reason: HoldsCalls | HoldsConversations) -> None:
        super().__init__(str(reason))
        self.next = reason.next
        self.overrides = reason.overrides
        """Of a run of the task that reads them; none where there are several."""


class UncertainError(ConfigError):
    """Several columns may hold the answers to the texts of one."""

    def __init__(self, reason: Uncertain) -> None:
        super().__init__(str(reason))
        self.text = reason.text


class AnswerKind(StrEnum):
    """What the answers of a file are."""

    LABELS = "labels"
    """Each is one of a set."""
    SETS = "several labels"
    """Each is some of a set, or none."""
    OBJECTS = "JSON objects"
    NUMBERS = "numbers"
    TEXTS = "free texts"


@dataclass(frozen=True)
class Column:
    """One column of a file, by its first rows."""

    name: str
    n_filled: int
    n_different: int
    words: float
    """On average, of those that are filled."""
    characters: float
    """The same."""
    is_of_numbers: bool
    is_of_dates: bool
    is_of_objects: bool
    """Whether they are JSON objects, or lists of these."""
    is_ascii: bool
    """Whether they have no letters beyond ASCII, as identifiers do."""
    is_counted: bool
    """Whether they are whole numbers that grow from row to row, as those of rows do."""

    @classmethod
    def of(cls, name: str, values: Sequence[str]) -> Column:
        """Return what there is to know of a column with these values; "" where a row has none."""
        filled = [value for value in values if value]
        n = max(1, len(filled))
        return cls(
            name,
            len(filled),
            len(set(filled)),
            sum(len(value.split()) for value in filled) / n,
            sum(map(len, filled)) / n,
            _nearly_all([_is_number(value) for value in filled]),
            _nearly_all([_is_date(value) for value in filled]),
            _nearly_all([_is_of_objects(value) for value in filled if value != "[]"]),
            _nearly_all([value.isascii() for value in filled]),
            _are_counted(filled),
        )

    @property
    def is_id(self) -> bool:
        """Whether nearly each row has another value, which says nothing."""
        is_short = self.words < 2 and self.is_ascii and not self.is_of_numbers
        is_unique = self.n_filled > 1 and self.n_different >= ID_SHARE * self.n_filled
        return is_unique and (is_short or self.is_numbering)

    @property
    def is_numbering(self) -> bool:
        """Whether its numbers, each another one, are those of rows, and tell nothing of them."""
        *_, last = re.split(r"[\W_]+", self.name.casefold().strip("_"))
        return self.is_counted or (self.is_of_numbers and last in IDS)

    @property
    def repeats(self) -> bool:
        """Whether its values repeat, as answers to a set of questions do."""
        return self.n_different * _ROWS_OF_A_LABEL <= self.n_filled

    @property
    def is_like_labels(self) -> bool:
        """Whether its values repeat, and are short or repeat often."""
        is_label = _are_labels(self.n_different, self.n_filled, self.words)
        return self.n_different > 1 and self.repeats and is_label

    @property
    def is_worded(self) -> bool:
        """Whether its values may be texts: no numbers, dates or identifiers."""
        return not (self.is_of_numbers or self.is_of_dates or self.is_id)

    @property
    def is_varied(self) -> bool:
        """Whether its values are texts that do not repeat, whatever it is called."""
        return self.is_worded and not (self.repeats or self.is_of_objects)


def check_columns(**names: object) -> None:
    """Check that what names a column is a name.

    Raises:
        ConfigError: it is none.
    """
    for key, name in names.items():
        if not isinstance(name, str | None):
            raise ConfigError(
                f'{key}={name!r} is no name of a column: give a text, as in {key}="…".'
            )


def columns_of(rows: Mapping[str, Sequence[str]]) -> tuple[Column, ...]:
    """Return the columns of the first rows of a file."""
    return tuple(Column.of(name, values) for name, values in rows.items())


def time_column(rows: Mapping[str, Sequence[str]]) -> str:
    """Return the column of dates or times that the rows of a file are sorted by; "" for none."""
    for name, values in rows.items():
        filled = [value for value in values if value]
        if len(set(filled)) >= _FEW_ROWS and _nearly_all([*map(_is_date, filled)]):
            for places in (slice(None), slice(None, None, -1)):  # a day or a month may be first
                keys = [_date_key(value, places) for value in filled]
                if keys in (sorted(keys), sorted(keys, reverse=True)):
                    return name
    return ""


def _is_date(value: str) -> bool:
    return _DATE.fullmatch(value) is not None


def _date_key(value: str, order: slice) -> tuple[list[int], str]:
    """Return what dates sort by: that of another form than 2026-01-31 has its year last."""
    date, _, time = value.replace("T", " ").partition(" ")
    parts = [int(part) for part in re.split(r"[./-]", date)]
    return (parts if "-" in date else [parts[2], *parts[:2][order]]), time


def chosen(
    path: str, values: Mapping[str, Sequence[str]], text: str | None, answer: str | None
) -> tuple[Column, Column]:
    """Return the columns of the text and of the answer.

    Args:
        path: of the file.
        values: of its first rows, by column.
        text: name that the user gave; None guesses it.
        answer: the same of the answer.

    Raises:
        OtherTaskError: the rows are conversations.
        UncertainError: several may hold the answers.
        ConfigError: they cannot be told; the message says what to type.
    """
    columns = columns_of(values)
    typed = shlex.quote(path)
    if text is None and any(map(_holds_calls, values.values())):
        raise OtherTaskError(HoldsCalls(path, typed, shlex.quote(override("task.path", path))))
    if text is None and any(map(_holds_conversations, values.values())):
        raise OtherTaskError(HoldsConversations(path, typed))
    if text is None and answer is None and _lacks_header(path, values):
        raise ConfigError(str(HeaderMissing(path, typed, len(columns))))
    of_answer = None if answer is None else _named(path, columns, answer)
    of_text = _text(columns, of_answer) if text is None else _named(path, columns, text)
    if of_text is None or not of_text.n_filled:
        raise ConfigError(str(NoTexts(path, typed, tuple(values))))
    if of_answer is None:
        of_answer = _answer(path, columns, of_text)
    if of_answer is of_text:
        raise ConfigError(str(OneColumn(path, typed, of_text.name)))
    if _are_swapped(of_text, of_answer):
        names = of_text.name, of_answer.name
        raise ConfigError(str(LooksSwapped(path, typed, *names, of_text.n_different)))
    return of_text, of_answer


def _are_swapped(text: Column, answer: Column) -> bool:
    """Return whether the texts look like labels, and the answers like what is to be labelled."""
    is_text = answer.is_varied and answer.words > max(text.words, _WORDS_OF_A_TEXT)
    n_fewer = answer.n_different / _TEXTS_OF_A_LABEL
    return is_text and text.is_like_labels and text.n_different <= n_fewer


def why_id(
    path: str, values: Mapping[str, Sequence[str]], text: Column, answer: Column
) -> LooksLikeId | None:
    """Return that the answers look like ids of the rows, if they do.

    An answer that stands in its text is read off it, and is none. A single token may be an answer,
    too: it is taken for an id where another column has labels, or where it counts the rows.

    Args:
        path: of the file.
        values: of its first rows, by column.
        text: column with the text.
        answer: column with the answer.
    """
    pairs = zip(values[text.name], values[answer.name], strict=True)
    n_read_off = sum(_stands_in(value, question) for question, value in pairs if value)
    if not answer.is_id or answer.n_filled <= _FEW_ROWS or 2 * n_read_off >= answer.n_filled:
        return None
    rest = [column for column in columns_of(values) if column not in (text, answer)]
    labels = sorted(
        (column for column in rest if column.is_like_labels and not column.is_of_dates),
        key=lambda column: column.n_different,
    )
    if not labels and (not answer.is_numbering or answer.name.casefold() in ANSWERS):
        return None
    return LooksLikeId(path, text.name, answer.name, {c.name: c.n_different for c in labels})


def _stands_in(value: str, text: str) -> bool:
    """Return whether a value is in a text, and no part of a longer word or number."""
    return re.search(rf"(?<![0-9A-Za-z]){re.escape(value)}(?![0-9A-Za-z])", text) is not None


def _named(path: str, columns: Sequence[Column], name: str) -> Column:
    by_name = {column.name: column for column in columns}
    match = find_field(dict.fromkeys(by_name), name)
    if match is None:
        raise ConfigError(str(NoColumn(path, name, tuple(by_name), did_you_mean(name, by_name))))
    return by_name[match]


def _text(columns: Sequence[Column], answer: Column | None) -> Column | None:
    candidates = [column for column in columns if column is not answer and column.n_filled]
    if any(column.is_varied for column in candidates):  # objects are the answer to these
        candidates = [column for column in candidates if not column.is_of_objects]
    if (known := _known(candidates, TEXTS)) is not None:
        return known
    worded = [column for column in candidates if column.is_worded]
    worded = worded or [column for column in candidates if not column.is_of_dates]
    worded = [column for column in worded if not column.repeats] or worded
    worded = [c for c in worded if answer or c.name.casefold() not in ANSWERS] or worded
    return max(worded, key=lambda column: column.characters, default=None)


def _answer(path: str, columns: Sequence[Column], text: Column) -> Column:
    candidates = [column for column in columns if column is not text]
    known = _known(candidates, ANSWERS)
    if objects := [column for column in candidates if column.is_of_objects]:
        if (of_objects := _known(objects, ANSWERS)) is not None:
            return of_objects
        if len(objects) == 1 and known is None:
            return objects[0]
        raise _uncertain(path, text, [known, *objects] if known else objects)
    if known is not None:
        return known
    likely = [
        column
        for column in candidates
        if column.n_different > 1
        and not (column.is_id or column.is_of_dates)
        and column.name.casefold() not in (*TEXTS, *TITLES)
    ]
    repeating = [c for c in likely if c.is_like_labels]
    if len(repeating) == 1:
        return repeating[0]
    if len(likely) == 1 and not repeating:
        return likely[0]
    if not candidates or not likely:
        raise no_answers(path, text.name, None)
    raise _uncertain(path, text, repeating or likely)


def _uncertain(path: str, text: Column, columns: Iterable[Column]) -> UncertainError:
    fewest_first = sorted(columns, key=lambda column: column.n_different)
    offered = {column.name: column.n_different for column in fewest_first}
    return UncertainError(Uncertain(path, shlex.quote(path), text.name, offered))


def no_answers(path: str, text: str, answer: str | None) -> ConfigError:
    """Return the error of a file without answers, with the command that draws rows to label.

    Args:
        path: of the file.
        text: its column with the text.
        answer: its column that should hold the answers; None where there is none.
    """
    return ConfigError(str(NoAnswers(path, shlex.quote(path), answer, to_label(path, text))))


def to_label(path: str, text: str) -> str:
    """Return the command that draws the rows of a file to label.

    Args:
        path: of the file.
        text: its column with the text.
    """
    words = ["stratos", "plan", "+task=classify", override("task.path", path)]
    if text.casefold() not in ("text", "question"):
        words.append(override("task.question", text))
    return shlex.join(words)


def _known(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    """Return the column with the first of some names."""
    by_name = {column.name.casefold(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _lacks_header(path: str, values: Mapping[str, Sequence[str]]) -> bool:
    """Return whether the first line of a CSV file is a row, so that its values became names."""
    if not name_of(path).endswith((".csv", ".tsv")):
        return False
    names = {name.casefold() for name in values}
    if names & {*TEXTS, *TITLES, *ANSWERS}:
        return False
    is_text = any(
        len(name) > _LONGEST_NAME or len(name.split()) >= _WORDS_OF_A_NAME for name in values
    )
    return is_text or any(name in some or _is_number(name) for name, some in values.items())


def _is_of_objects(value: str) -> bool:
    """Return whether a value is a JSON object, or a list of some that is no conversation."""
    if value[:1] != "[":
        return value[:1] == "{" and object_of(value) is not None
    if _CONVERSATION.match(value):
        return False
    try:
        parts = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(part, dict) for part in parts)


def _holds_calls(values: Sequence[str]) -> bool:
    return any(_CALLS.match(value) for value in values[:5])


def _holds_conversations(values: Sequence[str]) -> bool:
    return any(_CONVERSATION.match(value) for value in values[:5])


def kind_of(answers: Sequence[str]) -> tuple[AnswerKind, SetForm | None]:
    """Return what answers are, and how they name several labels."""
    if _nearly_all([object_of(a) is not None for a in answers if a[:1] == "{"] or [False]) and (
        sum(a[:1] == "{" for a in answers) >= _NEARLY_ALL * len(answers)
    ):
        return AnswerKind.OBJECTS, None
    if (form := form_of(answers)) is not None:
        return AnswerKind.SETS, form
    n_different = len({normalised(answer) for answer in answers})
    repeat = n_different * _ROWS_OF_A_LABEL <= len(answers)
    repeat = repeat or len(answers) <= _FEW_ROWS
    if _nearly_all([_is_number(a) for a in answers]) and not (
        repeat and n_different <= _FEW_NUMBERS
    ):
        return AnswerKind.NUMBERS, None
    words = sum(len(a.split()) for a in answers) / max(1, len(answers))
    is_label = repeat and _are_labels(n_different, len(answers), words)
    return (AnswerKind.LABELS if is_label else AnswerKind.TEXTS), None


def _are_labels(n_different: int, n: int, words: float) -> bool:
    """Return whether answers that repeat are labels: short on average, or repeated often."""
    often = n_different <= MOST_LABELS and n_different * _ROWS_OF_A_LONG_LABEL <= n
    return often or words < 2 * _WORDS_OF_A_TEXT


def _are_counted(values: Sequence[str]) -> bool:
    if not values or not all(value.isascii() and value.isdecimal() for value in values):
        return False
    digits = [value.lstrip("0") for value in values]
    return all((len(a), a) <= (len(b), b) for a, b in pairwise(digits))


def are_numbers(labels: Iterable[str]) -> bool:
    """Return whether labels are numbers, such as stars."""
    return all(map(_is_number, labels))


def _is_number(text: str) -> bool:
    return len(text) < 30 and any(map(str.isdigit, text)) and _stands_alone(text)


def _stands_alone(text: str) -> bool:
    return (
        re.fullmatch(r"[-+$€£]?[\d.,\s]+%?", text) is not None and stated_number(text) is not None
    )


def _nearly_all(flags: Sequence[bool]) -> bool:
    return bool(flags) and sum(flags) >= _NEARLY_ALL * len(flags)
