"""A text as tokens, each described by its word, its shape and what stands around it.

A `Vocabulary` numbers the attributes of tokens, and places those of a token and of its surroundings
in slots ("two words before", "label in the same line", "cell above"), so that a linear model
scores a token by adding weights.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

# Dates, times, numbers and words as texts write them, read as values.
#
# The readings are general: a day-first date, a decimal comma, lower case. Which of them a field
# uses is learned from its rows.

MONTHS = {
    name: number
    for names in (
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "january february march april may june july august september october november december",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
        "dicembre",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "jän fév mär avr mai juin juil aoû sept okt nov dez",
        "ene fev mrt abr mag giu lug ago set ott nov dic",
    )
    for number, name in enumerate(names.split(), 1)
}
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_SHORT = "|".join(name for name in MONTHS if len(name) == 3)
DATE = (
    r"(?<![\w.\-/])(?:"
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?[\s\-/]?(?:of\s)?(?:{_MONTH})[.,]?[\s\-/]?\d{{4}}"
    rf"|\d{{1,2}}[\s\-/]?(?:{_SHORT})\.?[\s\-/'’]?\d{{2}}(?![\d:.])"
    rf"|(?:{_MONTH})\.?[\s\-]\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?(?:{_MONTH})(?!\w)"
    rf"|\d{{1,2}}\.\s(?:{_MONTH})(?!\w|\s\d{{1,2}}\b)"
    rf"|(?:{_MONTH})\.?\s\d{{1,2}}(?:st|nd|rd|th)?(?![\d:])"
    r")(?![\w/]|-\d)"
)
TIME = (
    r"(?<![\w.\-/:])(?:\d{1,2}[:.h]\d{2}\s?(?:[ap]\.?m\b\.?)|\d{1,2}\s?[ap]\.?m\b\.?"
    r"|\d{1,2}[:h]\d{2}(?::\d{2})?)(?![\w:])"
)
NUMBER = (
    r"(?<![\w\-/])(?<!\d[.,'])-?(?:\d{1,3}(?:[ \u00a0\u202f.,'’]\d{3})+(?:[.,]\d{1,2})?"
    r"|\d+(?:[.,]\d+)?|[.]\d+)(?![\w/]|[.,]\d|-\w)"
)
_COUNTS = (
    "zero no none|one a an single|two couple both pair|three|four|five|six|seven|eight|nine|ten"
    "|eleven|twelve dozen|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty"
)
_WORDS = {name: number for number, names in enumerate(_COUNTS.split("|")) for name in names.split()}


_LONGEST = 30
"""Characters of a number or a date; what is longer is a code, and may be too large to be read."""


_YEARS = range(2015, 2036)
"""Years that a date without one may be in."""


class Reading(NamedTuple):
    """A value that a piece of text can stand for, and the way in which it was read."""

    value: str | int | float | bool
    way: str


@lru_cache(maxsize=65536)
def numbers(text: str) -> tuple[Reading, ...]:
    """Read a number; a single mark with three digits behind it can be read in two ways."""
    if len(text) > _LONGEST:
        return ()
    if text.lower() in _WORDS:
        return (Reading(_WORDS[text.lower()], "word"),)
    unit = re.fullmatch(r"[x×]?(\d+)(?:[a-zA-Z×]{1,3})?", text)
    if unit and not text.isdigit():
        return (Reading(int(unit[1]), "unit"),)
    plain = re.sub(r"[ \u00a0\u202f'’]", "", text)
    if not re.fullmatch(r"-?[\d.,]*\d", plain):
        return ()
    marks = [mark for mark in plain if mark in ".,"]
    if not marks:
        return (Reading(int(plain), "plain"),)
    whole, _, decimals = plain.rpartition(marks[-1])
    joined = re.sub(r"[.,]", "", whole)
    as_decimal = Reading(float(f"{joined or '0'}.{decimals}"), "decimal" + marks[-1])
    as_thousands = Reading(int(joined + decimals or "0"), "thousands" + marks[-1])
    if len(set(marks)) == 2:
        return (as_decimal,)
    if len(marks) > 1:
        return (as_thousands,)
    return (as_thousands, as_decimal) if len(decimals) == 3 else (as_decimal,)


@lru_cache(maxsize=65536)
def dates(text: str) -> tuple[Reading, ...]:
    """Read a date as ISO; 03/04/2025 can be read in two ways, 3 April in each of some years."""
    if len(text) > _LONGEST:
        return ()
    named = re.search(rf"(?<![^\W\d_])(?:{_MONTH})", text, re.IGNORECASE)
    digits = re.findall(r"\d+", text)
    parts = [int(part) for part in digits]
    orders: dict[str, tuple[int, int, int]] = {}
    if named and len(parts) == 1:  # the rows show which year is meant, if one is
        month, day = MONTHS[named[0].lower()], parts[0]
        orders = {f"in {year}": (year, month, day) for year in _YEARS}
    elif named and len(parts) == 2:
        orders = {"named": (parts[1], MONTHS[named[0].lower()], parts[0])}
    elif not named and len(parts) == 3 and len(digits[0]) == 4:
        orders = {"ymd": (parts[0], parts[1], parts[2])}
    elif not named and len(parts) == 3:
        mark = next((character for character in text if character in "./-"), "")
        orders = {
            f"dmy{mark}": (parts[2], parts[1], parts[0]),
            f"mdy{mark}": (parts[2], parts[0], parts[1]),
        }
    readings: dict[str, Reading] = {}
    for way, (year, month, day) in orders.items():
        try:
            value = dt.date(year + 2000 * (year < 100), month, day).isoformat()
        except ValueError:
            continue
        readings[value] = Reading(value, "same" if value in readings else way)
    return tuple(readings.values())


@lru_cache(maxsize=65536)
def times(text: str) -> tuple[Reading, ...]:
    """Read a time of day as HH:MM on the 24-hour clock."""
    pattern = r"(\d{1,2})(?:[:.h](\d{2}))?(?::\d{2})?\s*(?:([ap])\.?m)?"
    match = re.match(pattern, text, re.IGNORECASE)
    if match is None or not (match[2] or match[3]) or int(match[1]) > 23 or int(match[2] or 0) > 59:
        return ()
    hour = int(match[1])
    if match[3]:
        hour = hour % 12 + 12 * (match[3].lower() == "p")
    return (Reading(f"{hour:02d}:{match[2] or '00'}", "clock" + (match[3] or "24").lower()),)


READERS: dict[str, Callable[[str], tuple[Reading, ...]]] = {
    "date": dates,
    "time": times,
    "number": numbers,
}
STYLES: dict[str, Callable[[str], str]] = {
    "exact": lambda text: " ".join(text.split()),
    "lower": lambda text: " ".join(text.split()).lower(),
    "upper": lambda text: " ".join(text.split()).upper(),
    "title": lambda text: " ".join(w[:1].upper() + w[1:].lower() for w in text.split()),
    "sentence": lambda text: " ".join(text.split()).capitalize(),
    "alphanumeric": lambda text: re.sub(r"[\W_]+", "", text),
    "singular": lambda text: re.sub(r"(?<=\w\w)s$", "", " ".join(text.split()).lower()),
}
"""What a text field does to the words of a span."""
PERIODS = ("days", "weeks", "months")


def later(base: str, count: int) -> Iterator[Reading]:
    """Yield the dates that a count of days, weeks or months after an ISO date can mean.

    A month later is the last day of a month that is too short.
    """
    try:
        start = dt.date.fromisoformat(base)
        for way, days in (("days", count), ("weeks", 7 * count)):
            yield Reading((start + dt.timedelta(days=days)).isoformat(), way)
        years, month = divmod(start.month - 1 + count, 12)
        year = start.year + years
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        yield Reading(dt.date(year, month + 1, day).isoformat(), "months")
    except (ValueError, OverflowError):
        return


def equal(first: object, right: object) -> bool:
    """Return whether two scalars of JSON are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(first, bool) or isinstance(right, bool):
        return first is right
    return first == right


_RULED = re.compile(
    rf"(?P<mail>[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+)"
    rf"|(?P<date>{DATE})|(?P<time>{TIME})|(?P<number>{NUMBER})"
    r"|(?P<word>(?:[^\W\d_]\.){2,}"  # S.A., o.o.
    r"|(?=[\w\-/'&+]*\d)[^\W_](?:(?:[\w\-/'&+]|(?<=\d)\.(?=\d))*[^\W_])?"  # INV_9/K-8
    r"|[^\W\d_](?:[^\W\d_]|[\-'&])*[^\W\d_]|[^\W_])"
    r"|(?P<mark>-{2,}|={2,}|\*{2,}|_{2,}|[^\w\s]|_)",
    re.IGNORECASE,
)
_SPACED = re.compile(r"(?P<word>\S+)")
_GAP = re.compile(r"\s{2,}|\t|\|")


@dataclass(frozen=True)
class Document:
    """Tokens of a text; `starts`, `ends` and `columns` count characters, `lines` and `cells` up."""

    text: str
    starts: list[int]
    ends: list[int]
    kinds: list[str]
    lines: list[int]
    cells: list[int]
    columns: list[int]

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def tokens(self) -> list[str]:
        """The text of each token."""
        return [self.text[a:b] for a, b in zip(self.starts, self.ends, strict=True)]

    @cached_property
    def rows(self) -> dict[int, list[int]]:
        """Token numbers of each line that has tokens."""
        rows: dict[int, list[int]] = {}
        for token, line in enumerate(self.lines):
            rows.setdefault(line, []).append(token)
        return rows

    @cached_property
    def sorts(self) -> list[str]:
        """The sort of each token as a border of a span."""
        return [sort_of(word) for word in self.tokens]

    @cached_property
    def folded(self) -> str:
        """The text in lower case, as long as the text."""
        low = self.text.lower()
        return low if len(low) == len(self.text) else "".join(c.lower()[:1] for c in self.text)

    def span(self, first: int, last: int) -> str:
        """Return the text from token `first` to token `last`, both included."""
        return self.text[self.starts[first] : self.ends[last]]


def read(text: str, *, spaced: bool = False) -> Document:
    """Split a text into words, numbers, dates and marks, or at white space alone if `spaced`."""
    document = Document(text, [], [], [], [], [], [])
    cell, offset = 0, 0
    for line, content in enumerate(text.split("\n")):
        gaps = [gap.end() for gap in _GAP.finditer(content)]
        turn = 0
        for match in (_SPACED if spaced else _RULED).finditer(content):
            while turn < len(gaps) and gaps[turn] <= match.start():
                turn, cell = turn + 1, cell + 1
            document.starts.append(offset + match.start())
            document.ends.append(offset + match.end())
            document.kinds.append(match.lastgroup or "word")
            document.lines.append(line)
            document.cells.append(cell)
            document.columns.append(match.start())
        offset, cell = offset + len(content) + 1, cell + 1
    return document


@lru_cache(maxsize=65536)
def shape(word: str) -> str:
    """Return the shape of a word with runs shortened: `INV-9K8` is `X-0X0`, `Ltd` is `Xx`."""
    shapes = re.sub(r"[^\W\d_]", lambda m: "X" if m[0].isupper() else "x", word)
    return re.sub(r"(.)\1+", r"\1", re.sub(r"\d", "0", shapes))[:12]


@lru_cache(maxsize=65536)
def sort_of(word: str) -> str:
    """Return what a token is made of, in one character; the first of its marks if of marks."""
    if not any(c.isalnum() for c in word):
        return word[:1]
    if any(c.isdigit() for c in word):
        return "0"
    return "X" if word[0].isupper() else "x"


@lru_cache(maxsize=65536)
def _attributes(word: str, kind: str) -> tuple[str, ...]:
    """Return word, letters (the same after a swap), beginning, end, shape and kind of a token."""
    low = word.lower().strip(".,;:()\"'") or word
    if kind != "word":
        size = str(min(len(word), 8)) if kind == "number" else ""
        value = low if kind == "mark" or (kind == "number" and len(low) < 4) else ""
        named = f"w={value}" if value else ""
        return (named, "", "", "", f"s={shape(word)}", f"k={kind}{size}")
    ending = word[-1] if not word[-1].isalnum() else ""
    return (
        f"w={low}",
        f"l={low[0]}{''.join(sorted(set(low)))}" if low.isalpha() else "",
        f"p={low[:4]}" if len(low) > 4 else "",
        f"x={low[-3:]}" if len(low) > 3 else "",
        f"s={shape(word)}",
        f"k={kind}{min(len(low), 6)}{ending}",
    )


_WIDTH = 6
"""Attributes of a token."""
_IN_BAGS = 3
"""Attributes that bags of tokens use: the first ones."""
_OFFSETS = (0, -1, -2, -3, 1, 2)
_BAGS = (
    *(("left", 6), ("right", 4), ("above", 4), ("before", 4), ("after", 3), ("head", 4)),
    *(("word-1", 1), ("word-2", 1), ("word-3", 1), ("word+1", 1)),
)
"""Name and size of each bag."""
_N_PLACES = 9
N_LOCAL = len(_OFFSETS) * _WIDTH
"""Feature columns of a token and its neighbours; those of bags and places come behind them."""


class Vocabulary:
    """Numbers of attributes; 0 is none, and what too few training texts have."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._ids = {name: number for number, name in enumerate(self.names, 1)}
        self._cache: dict[tuple[str, str], tuple[int, ...]] = {}
        self.stride = max(64, len(self.names) + 1)  # 64: a place slot has room for its codes
        near = np.repeat(np.arange(len(_OFFSETS)), _WIDTH)
        bags = np.repeat(len(_OFFSETS) + np.arange(len(_BAGS)), [_IN_BAGS * n for _, n in _BAGS])
        places = len(_OFFSETS) + len(_BAGS) + np.arange(_N_PLACES)
        self._first_ids = np.concatenate([near, bags, places]) * self.stride
        self.size = (len(_OFFSETS) + len(_BAGS) + _N_PLACES) * self.stride
        """How many features there are: slots times attributes."""

    @classmethod
    def fitted(cls, documents: Sequence[Document], least: int) -> Vocabulary:
        """Number the attributes that at least so many documents have."""
        counts: Counter[str] = Counter()
        for document in documents:
            pairs = set(zip(document.tokens, document.kinds, strict=True))
            counts.update({name for pair in pairs for name in _attributes(*pair)})
        return cls(sorted(name for name, n in counts.items() if name and n >= least))

    def _encode(self, document: Document) -> np.ndarray:
        """Return attribute numbers, shape (tokens + 1, `_WIDTH`); the last row is no token."""
        rows = []
        for pair in zip(document.tokens, document.kinds, strict=True):
            row = self._cache.get(pair)
            if row is None:
                row = tuple(self._ids.get(name, 0) for name in _attributes(*pair))
                if len(self._cache) < 200_000:
                    self._cache[pair] = row
            rows.append(row)
        rows.append((0,) * _WIDTH)
        return np.array(rows, dtype=np.int64)

    def features(self, document: Document) -> np.ndarray:
        """Return feature numbers, shape (tokens, features), int32; 0 is none."""
        ids, n = self._encode(document), len(document)
        if not n:
            return np.zeros((0, len(self._first_ids)), np.int32)
        around = ids[_neighbours(document)].reshape(n, -1)
        bags = ids[_bags(document)][:, :, :_IN_BAGS].reshape(n, -1)
        grid = np.concatenate([around, bags, _places(document)], axis=1)
        return np.where(grid > 0, grid + self._first_ids, 0).astype(np.int32)


def _neighbours(document: Document) -> np.ndarray:
    """Return the token numbers at each of `_OFFSETS` in the same line, -1 for none."""
    tokens = np.arange(len(document))
    lines = np.array([*document.lines, -1])
    grid = tokens[:, None] + np.array(_OFFSETS)[None, :]
    grid = np.where((grid < 0) | (grid >= len(tokens)), -1, grid)
    return np.where(lines[grid] == lines[:-1, None], grid, -1)


def _headings(document: Document) -> dict[int, list[int]]:
    """Return for each line the words of the nearest earlier line that opens a block."""
    headings: dict[int, list[int]] = {}
    current: list[int] = []
    for line, tokens in document.rows.items():
        headings[line] = current
        first, last = document.tokens[tokens[0]], document.tokens[tokens[-1]]
        if last == ":" or first in ("[", "#") or (len(first) > 1 and not first[0].isalnum()):
            current = [t for t in tokens if document.kinds[t] == "word"] or current
    return headings


def _bags(document: Document) -> np.ndarray:
    """Return the token numbers in each bag of each token, -1 for none."""
    headings, order = _headings(document), list(document.rows)
    turns = {line: number for number, line in enumerate(order)}
    members = []
    for token, line in enumerate(document.lines):
        row, turn = document.rows[line], turns[line]
        index = token - row[0]
        before = document.rows[order[turn - 1]] if turn else []
        after = document.rows[order[turn + 1]] if turn + 1 < len(order) else []
        words = [t for t in row[max(0, index - 12) : index] if document.kinds[t] == "word"]
        ahead = [t for t in row[index + 1 : index + 7] if document.kinds[t] == "word"]
        bags = (
            row[max(0, index - 6) : index][::-1],
            row[index + 1 : index + 5],
            _above(document, token, before),
            before,
            after,
            headings[line],
            words[-1:],
            words[-2:-1],
            words[-3:-2],
            ahead,
        )
        padded = [(bag + [-1] * n)[:n] for (_, n), bag in zip(_BAGS, bags, strict=True)]
        members.append([member for bag in padded for member in bag])
    return np.array(members, dtype=np.int64)


def _above(document: Document, token: int, before: list[int]) -> list[int]:
    """Return the tokens of the line before that stand over the token's columns."""

    def columns(t: int) -> tuple[int, int]:
        return document.columns[t], document.columns[t] + document.ends[t] - document.starts[t]

    first, right = columns(token)
    return [t for t in before if columns(t)[0] < right + 2 and columns(t)[1] > first - 2]


def _places(document: Document) -> np.ndarray:
    """Return codes of where each token stands, each above 0 and below 64."""
    n = max(document.lines, default=0) + 1
    lines, cells = np.array(document.lines, np.int64), np.array(document.cells, np.int64)
    sizes = np.bincount(lines, minlength=n)[lines]
    starts, tokens = np.searchsorted(lines, lines), np.arange(len(lines))
    filled = np.bincount(lines, minlength=n) > 0
    blocks = np.cumsum(filled & ~np.concatenate([[False], filled[:-1]])) - 1
    columns = [
        np.minimum(lines, 6),
        np.minimum(n - 1 - lines, 6),
        np.minimum(8 * lines // n, 7),
        np.minimum(cells - cells[starts], 3),
        np.minimum(tokens - starts, 6),
        np.minimum(starts + sizes - 1 - tokens, 6),
        np.array([document.tokens[start] == ">" for start in starts], np.int64),
        np.minimum(blocks[lines], 7),
        np.minimum(sizes - 1, 11),
    ]
    return 1 + np.stack(columns, axis=1)
