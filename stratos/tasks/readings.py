"""Dates, times, numbers and words as texts write them, read as values; and texts without them.

The readings are general: a day-first date, a decimal comma, lower case. Which of them a field uses
is learned from its rows.

A wording is what is left of a text when the values of its answer are masked. Rows of one template
differ in their values alone. A student that has learnt some of them knows the others, and says
nothing of how it does on a text that is worded otherwise. So they are of one fold, and of one split
where a test gets enough wordings (`stratos.tasks.dedup.splits`).
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
NUMBER_WORDS = {
    name: number for number, names in enumerate(_COUNTS.split("|")) for name in names.split()
}


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
    if text.lower() in NUMBER_WORDS:
        return (Reading(NUMBER_WORDS[text.lower()], "word"),)
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


_VALUE = re.compile(rf"[\w.+\-]+@[\w\-.]+|{DATE}|{TIME}|{NUMBER}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_FEWEST = 2
"""Common words of a text below which it has no wording."""
_SHORT_TEXT, _ALIKE_SHORT, _ALIKE = 12, 0.7, 0.5
"""Cosine from which two texts are of one wording: of those with so few words, and of longer ones,
which have optional parts."""
_MOST = 1_000
"""Wordings that are told apart."""
_MOST_OF_ONE, _SHARED = 2 / 3, 0.5
"""Share of the rows that one wording may have, and that wordings of several rows have to have."""


@dataclass(frozen=True)
class Wordings:
    """Known wordings."""

    words: tuple[str, ...] = ()
    """That many texts share, and that are no values."""
    centres: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """How much each word weighs in each wording, shape (wordings, words), each of length 1."""

    @classmethod
    def among(
        cls, texts: Sequence[str], answers: Sequence[Mapping[str, Any]]
    ) -> tuple[Wordings, NDArray[np.int64]]:
        """Return the wordings of rows, and the number of each row's, whatever their order.

        This is leader clustering by cosine, the most frequent frames first. A row without a wording
        is alone with a number of its own. Where most rows are alone, no wording is known: their
        texts are worded freely, and so is the next, which is answered as these are.
        """
        frames = [_frame(*row) for row in zip(texts, answers, strict=True)]
        counts = Counter(word for frame in frames for word in frame)
        least = max(3, 0.01 * len(frames))
        made = cls(tuple(sorted(word for word, n in counts.items() if n >= least)))
        bags = [made._columns(frame) for frame in frames]
        sums, of_bag = made._clustered(Counter(bag for bag in bags if len(bag) >= _FEWEST))
        numbers = np.array([of_bag.get(bag, -1) for bag in bags], np.int64)
        alone = numbers < 0
        numbers[alone] = len(sums) + np.arange(int(alone.sum()))
        sizes = np.bincount(numbers, minlength=len(sums))[: len(sums)]
        shared = sizes > 1
        if sizes[shared].sum() < _SHARED * len(numbers):
            return cls(), numbers
        centres = sums[shared] / np.linalg.norm(sums[shared], axis=1, keepdims=True)
        return cls(made.words, centres.astype(np.float32)), numbers

    def knows(self, text: str, answer: Mapping[str, Any]) -> bool:
        """Return whether a text with its answer is of a known wording; True where there are none.

        Words that no known text has count against it.
        """
        if not len(self.centres):
            return True
        frame = _frame(text, answer)
        if not (bag := self._columns(frame)):
            return False
        cosine = float(self._cosines(self.centres, bag).max()) * np.sqrt(len(bag) / len(frame))
        return bool(cosine >= _alike(len(frame)))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def _columns(self, frame: frozenset[str]) -> tuple[int, ...]:
        return tuple(sorted(self._ids[word] for word in frame if word in self._ids))

    @staticmethod
    def _cosines(centres: NDArray[Any], bag: tuple[int, ...]) -> NDArray[Any]:
        cosines: NDArray[Any] = centres[:, list(bag)].sum(axis=1) / np.sqrt(len(bag))
        return cosines

    def _clustered(
        self, bags: Counter[tuple[int, ...]]
    ) -> tuple[NDArray[np.float64], dict[tuple[int, ...], int]]:
        """Return the sum of the bags of each cluster, and the cluster of each bag."""
        sums = np.zeros((min(_MOST, len(bags)), len(self.words)))
        centres, n, of_bag = np.zeros_like(sums, np.float32), 0, {}
        for bag in sorted(bags, key=lambda bag: (-bags[bag], bag)):
            cosines = self._cosines(centres[:n], bag)
            best = int(cosines.argmax()) if n else 0
            if not n or cosines[best] < _alike(len(bag)):
                if n == len(sums):
                    continue
                best, n = n, n + 1
            of_bag[bag] = best
            sums[best, list(bag)] += bags[bag] / np.sqrt(len(bag))
            centres[best] = sums[best] / np.linalg.norm(sums[best])
        return sums[:n], of_bag


def _alike(n_words: int) -> float:
    return _ALIKE_SHORT if n_words <= _SHORT_TEXT else _ALIKE


def _frame(text: str, answer: Mapping[str, Any]) -> frozenset[str]:
    """Return the words of a text that are no values."""
    low = _VALUE.sub(" 0 ", text).lower()
    for value in sorted(set(_texts(answer)), key=lambda value: (-len(value), value)):
        if value in low:
            low = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", " 0 ", low)
    return frozenset(word for word in _WORD.findall(low) if word not in NUMBER_WORDS)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, in lower case."""
    if isinstance(value, str):
        if len(low := value.strip().lower()) > 1:
            yield low
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def folds_of(
    wordings: NDArray[np.int64], n_folds: int, seed: int
) -> tuple[NDArray[np.int64], bool]:
    """Return the fold of each row, and whether most rows are held out with others of their wording.

    Rows of one wording are of one fold, the smallest so far; where one wording has most of all rows
    there are no others to learn from, and rows are held out at random.
    """
    random = np.random.default_rng(seed)
    names, sizes = np.unique(wordings, return_counts=True)
    if sizes.max() > _MOST_OF_ONE * len(wordings):
        return random.permutation(len(wordings)) % n_folds, False
    order = random.permutation(len(names))
    folds, filled = np.zeros(int(names.max()) + 1, np.int64), np.zeros(n_folds, np.int64)
    for k in order[np.argsort(-sizes[order], kind="stable")]:
        folds[names[k]] = filled.argmin()
        filled[folds[names[k]]] += sizes[k]
    is_shared = sizes[sizes > 1].sum() >= _SHARED * len(wordings)
    return folds[wordings], bool(is_shared)
