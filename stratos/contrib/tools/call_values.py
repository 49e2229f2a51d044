"""The values that a conversation offers for the arguments of a call, and what tells them apart.

Each value has features: who named it, how long ago, what stands around it, the path in a tool's
result, and the argument of an earlier call that it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from stratos.contrib.tools.call_paths import named_values
from stratos.contrib.tools.grounding import shape, token, tokens
from stratos.tasks.answers import is_finite

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True)
_TOKEN = re.compile(r"\S+")
_AROUND = "\"'`.,;:!?()[]{}<>"
_ENDS = tuple(".,;:!?")
_CLAUSE = re.compile(r"[^.,;:!?\n]+")
_MOST_TOKENS = 5
"""Of a span of a message."""
_LONGEST, _MOST_LEAVES = 80, 120
"""Tokens of a message and values of a result that are looked at: the first of them."""
_MOST_CHARACTERS, _NEAR = 4000, 100
"""Of a message in which dates, times and clauses are looked for; and beside one of them."""
_RECENT = {"user": 6, "assistant": 3, "tool": 8, "system": 1, "developer": 1}
"""Messages of each role that are looked at: the last of them."""
_FLAGS = re.IGNORECASE | re.ASCII
"""Without ASCII, "ſep" is a month, and "١" a digit."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,? (?P<year>\d{4}))?"
_DATES = tuple(
    re.compile(pattern, _FLAGS)
    for pattern in (
        rf"\b{_MONTH} (?:the )?{_DAY}\b{_YEAR}",
        rf"\b(?:the )?{_DAY} (?:of )?{_MONTH}{_YEAR}",
        r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\b",
    )
)
_HOUR = r"\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_TIME = re.compile(
    rf"\b(?:(?P<part>half past|quarter past|quarter to) )?(?P<hour>{_HOUR})(?::(?P<minute>\d\d))?"
    r"(?: ?(?P<half>[ap])\.?m\b| o'?clock|(?= in the (?P<day>morning|afternoon|evening)))?",
    _FLAGS,
)
_PARTS = {"half past": 30, "quarter past": 15, "quarter to": -15}
_NUMBER = re.compile(r"[-+$€£]?(\d[\d,]*(?:\.\d+)?)%?")
_PAIR = re.compile(r'"([^"\\]{1,60})":\s*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false)')
_RESULT_TOKEN = re.compile(r"[^\s,;()\[\]{}\"']+")


Item = tuple[str, int]
"""Path of a list in a result, and the number of one of its objects."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A place where a value stands."""

    value: Any
    features: tuple[str, ...]
    origin: str
    """Where a value that means the same stands in another conversation."""
    item: Item | None = None
    """Of a result: which object of which list it is a part of."""


@dataclass(slots=True)
class Candidate:
    """A value with the features of all its mentions."""

    value: Any
    features: set[str] = field(default_factory=set)
    origins: list[str] = field(default_factory=list)
    """Of its mentions, the last first."""
    order: int = 0
    """Number of its first mention."""
    last: int = 0
    """Number of its last mention."""


@dataclass(slots=True)
class Offered:
    """What a conversation offers before a turn."""

    values: dict[str, Candidate] = field(default_factory=dict)
    """By the value as JSON."""
    used: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Tool and argument to its values in earlier calls as JSON."""
    n_mentions: int = 0


def as_json(value: Any) -> str:
    """Return a value as the text by which it is known."""
    return _ENCODER.encode(value)


def form_of(word: str) -> str:
    """Return a word without case, of one with digits its form."""
    return word.lower() if word.isalpha() else shape(word)


def offered(messages: Sequence[Mapping[str, Any]], year: str) -> Offered:
    """Return the values that messages offer.

    Args:
        messages: of a conversation before a turn.
        year: of a date that is said without one.
    """
    made = Offered()
    ages = dict.fromkeys(_RECENT, 0)
    places: list[tuple[int, int]] = []
    for index in range(len(messages) - 1, -1, -1):
        role = messages[index]["role"]
        if ages[role] < _RECENT[role]:
            places.append((index, ages[role]))
        if index and role == "tool" and messages[index - 1]["role"] == "tool":
            continue  # results of calls that were made together are as old
        ages[role] += 1
    tools = _tools_of_results(messages)
    users = [message["content"] for message in messages if message["role"] == "user"]
    latest = "\n".join(reversed(users[-2:]))
    for index, age in reversed(places):
        message = messages[index]
        role, text = message["role"], message["content"]
        if role == "tool":
            mentions, references = _in_result(text, tools[index]), _references(text, latest)
        else:
            mentions, references = _in_text(role, text, year), {}
        for mention in mentions:
            _add(made, mention, f"{role}{min(age, 3)}")
            if mention.item in references:
                made.values[as_json(mention.value)].features.update(references[mention.item])
        for call in message.get("tool_calls", ()):
            for mention in _in_call(call):
                _add(made, mention, f"call{min(age, 3)}")
                key = (call["name"], mention.origin.rpartition(".")[2])
                made.used.setdefault(key, []).append(as_json(mention.value))
    return made


def _tools_of_results(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return of each message the tool whose result it is."""
    names, waiting = list[str](), list[str]()
    for message in messages:
        if message["role"] == "tool":
            names.append(waiting.pop(0) if len(waiting) > 1 else waiting[0] if waiting else "")
        else:
            waiting = [call["name"] for call in message.get("tool_calls", ())] or waiting
            names.append("")
    return names


def _add(made: Offered, mention: Mention, age: str) -> None:
    key = as_json(mention.value)
    if (candidate := made.values.get(key)) is None:
        candidate = made.values[key] = Candidate(mention.value, order=len(made.values))
    made.n_mentions = candidate.last = made.n_mentions + 1
    candidate.features.add(age)
    candidate.features.update(mention.features)
    candidate.features.add(f"last={age[:-1]}")
    candidate.origins.insert(0, mention.origin)


def _in_call(call: Mapping[str, Any]) -> Iterator[Mention]:
    for name, value in named_values(call["arguments"]):
        if not is_finite(value):
            continue
        origin = f"arg={call['name']}.{name}"
        yield Mention(value, (origin, f"arg={name}"), origin)


# --- results of tools ----------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _in_result(text: str, tool: str) -> tuple[Mention, ...]:
    try:
        leaves = [*_leaves(json.loads(text), "", "", None)]
    except (ValueError, RecursionError):
        pairs = _PAIR.findall(text)
        if not pairs:
            return tuple(_in_lines(text, tool))
        leaves = [(key, "", json.loads(value), None) for key, value in pairs]
    mentions = []
    for path, position, value, item in leaves[:_MOST_LEAVES]:
        origin = f"r={tool}.{path}"
        key = path.rpartition(".")[2]
        looks = f"s={shape(str(value))}"
        features = (origin, f"k={key}", f"{origin}{position}", f"i={position}", looks)
        mentions.append(Mention(value, features, origin, item))
    return tuple(mentions)


def _leaves(
    value: Any, path: str, position: str, item: Item | None
) -> Iterator[tuple[str, str, Any, Item | None]]:
    """Yield path, position in lists, value and item of each scalar, and of lists of scalars."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), position, item)
    elif isinstance(value, list):
        if value and is_finite(value) and not any(isinstance(inner, Mapping | list)
                                                  for inner in value):  # fmt: skip
            yield path, "[]", value, item
        for k, inner in enumerate(value):
            end = "-" if k + 1 == len(value) else ""
            own = (path, k) if isinstance(inner, Mapping) else item
            yield from _leaves(inner, path, f"[{min(k, 4)}{end}]", own)
    elif value is not None and is_finite(value):
        yield path, position, value, item


@lru_cache(maxsize=512)
def _words_of_items(text: str) -> dict[str, dict[int, frozenset[str]]]:
    """Return the words of each object in the lists of a result that not all of a list have."""
    words: dict[str, dict[int, set[str]]] = {}
    for mention in _in_result(text, ""):
        if mention.item is not None:
            path, k = mention.item
            words.setdefault(path, {}).setdefault(k, set()).update(tokens(str(mention.value)))
    made = {}
    for path, of in words.items():
        shared = set.intersection(*of.values())
        made[path] = {k: frozenset(own - shared) for k, own in of.items()}
    return {path: of for path, of in made.items() if len(of) > 1}


@lru_cache(maxsize=512)
def _references(text: str, latest: str) -> dict[Item, tuple[str, str]]:
    """Return whether a user means each object of a result: by its words, or by its number.

    Args:
        text: the result.
        latest: what the user said last, and before it.
    """
    made: dict[Item, tuple[str, str]] = {}
    if not (lists := _words_of_items(text)):
        return made
    user_words = tokens(latest[:_MOST_CHARACTERS])
    number = next((word for word in user_words if word.isdecimal() or word == "last"), None)
    for path, words in lists.items():
        n = {k: len(own.intersection(user_words)) for k, own in words.items()}
        most = max(n.values())
        n_best = sum(each == most for each in n.values())
        for k, each in n.items():
            best = "best" if n_best == 1 else "tie"
            ref = "none" if not most else best if each == most else "less"
            is_it = number == str(k + 1) or (number == "last" and k == max(n))
            nth = "none" if number is None else "yes" if is_it else "no"
            made[path, k] = f"ref={ref}", f"nth={nth}"
    return made


def _in_lines(text: str, tool: str) -> Iterator[Mention]:
    """Yield the words of a result that is no JSON, and all of it."""
    n = 0
    whole = text.strip()
    if len(whole) <= 60:
        yield Mention(whole, (f"r={tool}.", "whole"), f"r={tool}.")
    for row, line in enumerate(text.splitlines()):
        before = "^"
        for column, match in enumerate(_RESULT_TOKEN.finditer(line)):
            value = match[0].strip(".:")
            if not value or (n := n + 1) > _MOST_LEAVES:
                continue
            origin = f"r={tool}.{column}"
            features = (f"r={tool}.", origin, f"{origin}.{min(row, 5)}", f"rp={form_of(before)}",
                        f"s={shape(value)}")  # fmt: skip
            yield Mention(value, features, f"{origin}.{shape(value)}")
            if (number := _number(value)) is not None:
                yield Mention(number, features, f"{origin}.n")
            before = value


# --- texts ---------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _in_text(role: str, text: str, year: str) -> tuple[Mention, ...]:
    return tuple(_mentions(role, text, year))


def _mentions(role: str, text: str, year: str) -> Iterator[Mention]:
    text = text[:_MOST_CHARACTERS]
    words = [*islice(_TOKEN.finditer(text), _LONGEST)]
    bare = [_bare(word) for word in words]
    forms = ["^", *(form_of(text[a:b]) for a, b in bare), "$"]
    marks = ["^", *(word[0][-1] if word[0].endswith(_ENDS) else "" for word in words)]
    for first in range(len(words)):
        for last in range(first, min(first + _MOST_TOKENS, len(words))):
            start, end = bare[first][0], bare[last][1]
            if end > start:
                value = text[start:end]
                features = _looks(role, value, forms, first, last)
                features += (f"{role}:c={marks[first]}{forms[last + 2] == 'and'}{marks[last + 1]}",)
                yield Mention(value, features, f"{role}:{shape(value)}")
                if first == last and (number := _number(value)) is not None:
                    yield Mention(number, features, f"{role}:n")
            if words[last][0].endswith(_ENDS):
                break
    for clause in _CLAUSE.finditer(text) if role == "user" else ():
        parts = [*_TOKEN.finditer(clause[0])][:_LONGEST]
        for k in range(len(parts) - _MOST_TOKENS):  # all of it, and what it ends with
            before = form_of(parts[k - 1][0].strip(_AROUND)) if k else "^"
            features = (f"{role}:clause", f"{role}:clause={k == 0}", f"{role}:p={before}")
            yield Mention(clause[0][parts[k].start() :].rstrip(), features, f"{role}:clause")
    yield from _dates(role, text, year)
    yield from _times(role, text)


def _bare(word: re.Match[str]) -> tuple[int, int]:
    """Return where a word begins and ends without the signs around it."""
    text = word[0]
    start = len(text) - len(text.lstrip(_AROUND))
    return word.start() + start, word.start() + max(start, len(text.rstrip(_AROUND)))


def _looks(role: str, value: str, forms: Sequence[str], first: int, last: int) -> tuple[str, ...]:
    before, after = forms[first], forms[last + 2]
    two = f"{forms[first - 1]} {before}" if first else "^^"
    parts = value.split()
    case = "A" if all(part[:1].isupper() for part in parts) else "a"
    return (
        f"{role}:p={before}", f"{role}:n={after}", f"{role}:pp={two}",
        f"{role}:pn={before},{after}",
        f"s={shape(value)}", f"{role}:len={len(parts)}", f"{role}:case={case}{len(parts)}",
        *((f"w={forms[first + 1]}",) if first == last else
          (f"w1={forms[first + 1]}", f"w2={forms[last + 1]}")),
    )  # fmt: skip


def _number(text: str) -> float | int | None:
    plain = token(text.lower())
    match = _NUMBER.fullmatch(plain)
    if match is None or len(match[1]) > 15:
        return None
    digits = match[1].replace(",", "")
    sign = -1 if plain.startswith("-") else 1
    return sign * (float(digits) if "." in digits else int(digits))


def _around(role: str, text: str, match: re.Match[str]) -> tuple[str, ...]:
    start, end = match.span()
    before = text[max(0, start - _NEAR) : start].split()[-1:]
    after = text[end : end + _NEAR].split()[:1]
    return (
        f"{role}:p={form_of(before[0].strip(_AROUND)) if before else '^'}",
        f"{role}:n={form_of(after[0].strip(_AROUND)) if after else '$'}",
    )


def dates_in(text: str) -> Iterator[tuple[re.Match[str], int, int]]:
    """Yield where a text names a date, perhaps with its `year`, and the date's month and day."""
    for pattern in _DATES:
        for match in pattern.finditer(text):
            month, day = match["month"], int(match["day"])
            number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
            if 1 <= number <= 12 and 1 <= day <= 31:
                yield match, number, day


def _dates(role: str, text: str, year: str) -> Iterator[Mention]:
    for match, number, day in dates_in(text):
        named = match["year"] or year
        around = _around(role, text, match)
        for form, value in (("iso", f"{named}-{number:02d}-{day:02d}"),
                            ("dmy", f"{day:02d}/{number:02d}/{named}"),
                            ("mdy", f"{number:02d}/{day:02d}/{named}")):  # fmt: skip
            yield Mention(value, (f"date={form}", *around), f"{role}:date={form}")


def times_in(text: str) -> Iterator[tuple[re.Match[str], int, bool]]:
    """Yield where a text may name a time of day, its minutes, and whether it is no other one.

    A number without more may be an hour of the morning, or twelve hours later.
    """
    for match in _TIME.finditer(text):
        hour, minute = int(token(match["hour"].lower())), int(match["minute"] or 0)
        if hour > 24 or minute > 59:
            continue
        part, half, day = (match[name] and match[name].lower() for name in ("part", "half", "day"))
        is_late = half == "p" or (day in ("afternoon", "evening"))
        minutes = hour % 24 * 60 + minute + _PARTS.get(part or "", 0)
        if half or day:
            minutes = minutes % 720 + 720 * is_late
        yield match, minutes, bool(half or day or hour > 12)


def clock_of(minutes: int) -> str:
    """Return a time of day by its minutes."""
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _times(role: str, text: str) -> Iterator[Mention]:
    for match, minutes, is_clear in times_in(text):
        part = match["part"]
        how = f"{'m' if match['minute'] else ''}{'p' if part else ''}{'c' if is_clear else ''}"
        around = _around(role, text, match)
        for name, value in (("", minutes), *((("+", minutes + 720),) if not is_clear else ())):
            yield Mention(clock_of(value), (f"time={how}{name}", *around), f"{role}:time")
