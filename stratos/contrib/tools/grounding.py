"""What texts say, as sets of tokens in which numbers, times and dates have one form.

A value of an argument is grounded where all of its tokens stand in what came before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import chain
from typing import Any

from stratos.core.formats import writable
from stratos.tasks.dedup.hashes import normalised

_WORD = re.compile(r"[^\W_]+")
_TIME = re.compile(
    r"\b(?:(half past|quarter past|quarter to) )?(\d{1,2})(?::(\d\d))?(?::\d\d)?"
    r" ?([ap])?\.?(?:m\b)?"
)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T.*)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::\d\d)?(?: ?([ap])m)?", re.IGNORECASE)
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_DECIMAL = re.compile(r"\d+\.\d+")
_CONTINENTAL = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d+,\d\d")
"""A number with a comma before its decimals: 1.200,00 or 4,50."""
_FACT = re.compile(r"[^\W_](?:[^\s_]*[^\W_])?")
_STARTS = re.compile(r"(?:^|[.!?;\n*(\"“])\W*$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
]
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_ALIKE = (
    {word: str(k) for k, word in enumerate(NUMBERS)}
    | {word: str(k) for k, word in enumerate(_ORDINALS, start=1)}
    | {month[:3]: month for month in _MONTHS}
    | {"sept": "september", "couple": "2", "dozen": "12"}
)
_WORD_OF_NUMBER = re.compile(rf"\b(?:{'|'.join(NUMBERS)})\b")
_MOST_OF_A_SENTENCE, _WORDS_OF_A_SENTENCE = 0.6, 4
_PARTS = {"quarter past": 15, "half past": 30, "quarter to": -15}


@lru_cache(maxsize=65_536)
def token(word: str) -> str:
    """Return the form of a word that its case, plural, and a number in words leave alone."""
    word = _ALIKE.get(word, word)
    if word.isdecimal():
        return str(int(word)) if len(word) < 5 else word
    if ordinal := _ORDINAL.fullmatch(word):
        return ordinal[1].lstrip("0")
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


@lru_cache(maxsize=65_536)
def tokens(text: str) -> tuple[str, ...]:
    """Return the tokens of a text in order."""
    return tuple(token(word) for word in _WORD.findall(normalised(writable(text))))


@lru_cache(maxsize=65_536)
def times(text: str) -> frozenset[str]:
    """Return the times of day that a text may mean, as @HH:MM."""
    text = _WORD_OF_NUMBER.sub(lambda word: _ALIKE[word[0]], normalised(text))
    meant: set[str] = set()
    for part, hour, minute, half in _TIME.findall(text):
        minutes = int(hour) % 24 * 60 + int(minute or 0) + _PARTS.get(part, 0)
        if half:
            minutes = minutes % 720 + 720 * (half == "p")
        both = not half and int(hour) <= 12
        meant |= {_clock(minutes)} | ({_clock(minutes + 720)} if both else set())
    return frozenset(meant)


def _clock(minutes: int) -> str:
    return f"@{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def words_of_name(name: str) -> tuple[str, ...]:
    """Return the words of a name in camel case, with underscores or dots."""
    return tokens(_CAMEL.sub(" ", name))


@lru_cache(maxsize=65_536)
def _readings(text: str) -> tuple[frozenset[str], ...]:
    """Return the sets of tokens of which each says a value."""
    readings = [frozenset(tokens(text))]
    if (date := _DATE.fullmatch(text)) and 1 <= int(date[2]) <= 12:
        readings.append(frozenset((_MONTHS[int(date[2]) - 1], str(int(date[3])))))
    if _CLOCK.fullmatch(text):
        readings += [frozenset((time,)) for time in times(text)]
    return tuple(reading for reading in readings if reading)


def is_grounded(value: Any, context: Mapping[str, Any]) -> bool:
    """Return whether what was said before says a value; of a sentence most words are enough."""
    if isinstance(value, Mapping):
        return all(is_grounded(inner, context) for inner in value.values())
    if isinstance(value, list):
        return all(is_grounded(inner, context) for inner in value)
    for reading in _readings(text_of(value)):
        n = sum(word in context for word in reading)
        least = _MOST_OF_A_SENTENCE if len(reading) >= _WORDS_OF_A_SENTENCE else 1.0
        if n >= least * len(reading):
            return True
    return False


def text_of(value: Any) -> str:
    """Return a value as one text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=65_536)
def shape(text: str) -> str:
    """Return the form of a text: runs of digits and letters, and what stands between."""
    text = re.sub(r"[^\W\d_]+", "a", writable(text[:40]))
    return re.sub(r"\d+", lambda digits: "9" * min(5, len(digits[0])), text)


def form(text: str) -> str:
    """Return the shape of a text, in which numbers of any length are alike: ids grow."""
    return re.sub("9+", "9", shape(text))


def words_in(text: str) -> set[str]:
    """Return the words of a text as `facts_in` writes them."""
    return {_plain(match.group()) for match in _FACT.finditer(text)}


def facts_in(text: str) -> set[str]:
    """Return the words of a text that state something: with digits, or names within a sentence."""
    made = set[str]()
    for match in _FACT.finditer(text):
        word = match.group()
        is_name = word[0].isupper() and word[:2] not in ("I", "I'", "I’")
        if any(map(str.isdigit, word)) or (is_name and not _STARTS.search(text, 0, match.start())):
            made.add(_plain(word))
    return made


def stated_in(messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the words of messages and of their calls, and the parts of words between marks.

    Of JSON the values count: there, spaces and escapes stand elsewhere than in a text.
    """
    made = set[str]()
    for message in messages:
        calls = (call["arguments"] for call in message.get("tool_calls", ()))
        for text in chain(_texts_of(message["content"]), *map(_strings, calls)):
            for word in words_in(text):
                made.add(_number(word))
                made.update(map(_number, _WORD.findall(word)))
            made.update(_other_forms(text))
    return made


def foreign_facts(text: str, stated: Set[str]) -> int:
    """Return how many facts of a text are nowhere in what `stated_in` returned."""
    return sum(
        (value := _number(fact)) not in stated
        and (
            _DECIMAL.fullmatch(value) is not None  # 12.5 is stated by no 12 and 5
            or not all(_number(part) in stated for part in _WORD.findall(fact))
        )
        for fact in facts_in(text)
    )


def number_facts(words: Iterable[str]) -> set[str]:
    """Return words of `facts_in` or `words_in` with each number in the form of its value."""
    return {_number(word) for word in words}


def _other_forms(text: str) -> Iterator[str]:
    """Yield how a text may state the date or the time that a value is."""
    if (date := _DATE.fullmatch(text)) and 1 <= int(date[2]) <= 12:
        month = _MONTHS[int(date[2]) - 1]
        yield from (month, month[:3], str(int(date[3])))
    if clock := _CLOCK.fullmatch(text):
        hour, minute = int(clock[1]), clock[2]
        half = clock[3].lower() if clock[3] else "ap"[12 <= hour < 24]
        short = str(hour % 12 or 12)
        for time in (f"{short}:{minute}", *([short] if minute == "00" else ())):
            yield from (time, f"{time}{half}m")


def _texts_of(content: str) -> Iterable[str]:
    """Return the values of a text that is JSON, else the text."""
    if content[:1] not in ("{", "["):
        return [content]
    try:
        return _strings(json.loads(content))
    except (ValueError, RecursionError):
        return [content]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    else:
        yield text_of(value)


def _number(word: str) -> str:
    """Return a number without zeros that its value leaves out; another word as it is."""
    if not word[:1].isdigit() or not word.isascii():
        return word
    if ordinal := _ORDINAL.fullmatch(word):
        word = ordinal[1]
    if _CONTINENTAL.fullmatch(word):
        word = word.replace(".", "").replace(",", ".")
    try:
        return f"{float(word.replace(',', '')):.12g}"
    except ValueError:
        return word


def _plain(word: str) -> str:
    return word.removesuffix("'s").removesuffix("’s").casefold()
