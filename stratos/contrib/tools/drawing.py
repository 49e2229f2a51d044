"""Draw calls from the schemas of tools: by type, enum, format, examples, and training rows."""

from __future__ import annotations

import datetime
import random
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from stratos.contrib.data_files import table
from stratos.contrib.tools.calls import Call
from stratos.contrib.tools.signatures import Tool
from stratos.contrib.tools.words import NoDraw, NotDrawn
from stratos.tasks.schema.document import resolved

LONGEST = 400
"""Characters of a request that is read back."""
_LEAST_SAID_OTHERWISE = 3
"""Characters of a choice that is said in small letters, or without its underscores."""
DAY_FORM = re.compile("YYYY-MM-DD", re.IGNORECASE)
_DAYS_SAID = ("%B %d, %Y", "%d %B %Y", "%b %d, %Y")
"""How a request says a day, beside the form that its schema wants."""
ENGLISH: dict[str, Any] = table(__file__, "english.toml")
"""Words and forms of requests; the file says what each list is."""
_PERCENT = re.compile(r"per ?cent|%", re.IGNORECASE)
_GROUPED = re.compile(r"-?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?%?|-?\$?\d+(?:\.\d+)?%?")
_QUOTES = "'\""
_JOINED = re.compile(
    r"[,;.]? (?:and also|and then|as well as) |; and |, then |\. (?:Also|Then|After that),? "
)
"""What joins requests stands in no text without quotes."""
_LEAST_GROUPED = 1000


def spelled(value: Any) -> str | None:
    """Return a value as a request says it; None where it cannot be said in a few words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if value.strip() == value and value and "\n" not in value else None
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(one, str | int) for one in value):
        texts = [spelled(one) or "" for one in value]
        return ", ".join(texts) if all(texts) and not any(", " in one for one in texts) else None
    return None


def spellings(value: Any, tool: Tool, name: str) -> list[str]:
    """Return how a request may say the value of an argument, the plainest first.

    A choice stands in words of its own, too, a text in quotes, a day as it is spoken, an amount
    with its sign, and a share as a percentage.
    """
    text = spelled(value)
    if text is None:
        return []
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    if not isinstance(schema, Mapping):
        return [text]
    others: tuple[str, ...] = ()
    if isinstance(value, bool):
        others = ("yes" if value else "no",)
    elif isinstance(value, int | float):
        others = _numbers_said(value, schema, name)
    elif isinstance(value, str) and "enum" in schema:
        words = text.replace("_", " ")
        if len(text) >= _LEAST_SAID_OTHERWISE:
            others = (words, words.lower(), words[:1].upper() + words[1:])
    elif isinstance(value, str) and is_day(schema):
        day = _day(value, ("%Y-%m-%d",))
        others = tuple(_day_said(day, form) for form in _DAYS_SAID) if day else ()
    elif isinstance(value, str) and not set(_QUOTES) & set(value):
        others = (text, f"'{text}'", f'"{text}"')
    return list(dict.fromkeys((text, *others)))


def is_day(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema wants a day in the form of ISO 8601."""
    described = DAY_FORM.search(str(schema.get("description", ""))) is not None
    return schema.get("format") == "date" or ("format" not in schema and described)


def is_whole_percent(schema: Mapping[str, Any]) -> bool:
    """Return whether 5% is 5 by a schema, and not 0.05."""
    described = _PERCENT.search(str(schema.get("description", ""))) is not None
    return schema.get("type") == "integer" or described


def _numbers_said(value: float, schema: Mapping[str, Any], name: str) -> tuple[str, ...]:
    words = name.lower().split("_")
    if words[-1] in ENGLISH["shares"]:
        shown = value if is_whole_percent(schema) else round(value * 100, 6)
        return (f"{shown:g}%",)
    if words[-1] in ENGLISH["money"]:
        return (f"${value:,}", f"${value}", f"{value:,}")
    is_large = abs(value) >= _LEAST_GROUPED and not {"year", "id"} & set(words)
    return (f"{value:,}",) if is_large else ()


def _day_said(day: datetime.date, form: str) -> str:
    return day.strftime(form).lstrip("0").replace(" 0", " ")


def _day(text: str, forms: tuple[str, ...]) -> datetime.date | None:
    for form in forms:
        try:
            return datetime.datetime.strptime(text, form).date()
        except ValueError:
            continue
    return None


def value_of_text(text: str, tool: Tool, name: str) -> Any:
    """Return the value that a text is by the argument's schema; None if it is none."""
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    if not isinstance(schema, Mapping):
        return text
    return _typed(text, schema, tool)


def _typed(text: str, schema: Mapping[str, Any], tool: Tool) -> Any:
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "null")
    if "enum" in schema:
        return _chosen(text, schema["enum"])
    if kind == "boolean":
        return {"true": True, "yes": True, "false": False, "no": False}.get(text)
    if kind in ("integer", "number"):
        return _number_in(text, schema, is_whole=kind == "integer")
    if kind == "array":
        inner = resolved(tool.parameters, schema.get("items", {"type": "string"}))
        if not isinstance(inner, Mapping):
            return None
        found = [_typed(one, inner, tool) for one in text.split(", ")]
        return found if all(one is not None for one in found) else None
    if kind != "string":
        return None
    if is_day(schema):
        day = _day(text, _DAYS_SAID)
        return day.isoformat() if day else None if " " in text else text
    if text[:1] in tuple(_QUOTES):
        is_one = len(text) > 2 and text.find(text[0], 1) == len(text) - 1
        return text[1:-1] if is_one else None
    return None if _JOINED.search(text) else text


def _number_in(text: str, schema: Mapping[str, Any], is_whole: bool) -> float | None:
    """Return the number that a text is: $5,000 is 5000, and 5% is 0.05 where no whole is wanted."""
    if _GROUPED.fullmatch(text) is None:
        return None
    bare = text.strip("%").replace("$", "").replace(",", "")
    if is_whole and "." in bare:
        return None
    value = float(bare) if "." in bare else int(bare)
    if text.endswith("%") and not is_whole_percent(schema):
        return round(value / 100, 8)
    return value


def _chosen(text: str, choices: Any) -> Any:
    """Return the choice that a text is, in whatever case; None where it is none, or two."""
    exact = next((one for one in choices if spelled(one) == text), None)
    if exact is not None:
        return exact
    alike = [one for one in choices if isinstance(one, str) and _folded(one) == _folded(text)]
    return alike[0] if len(alike) == 1 else None


def _folded(text: str) -> str:
    return text.replace("_", " ").casefold()


_KNOWN = {name: entry["values"] for entry in reversed(ENGLISH["texts"]) for name in entry["names"]}
_NUMBERS = ((1, 20), (1, 20), (1, 100), (100, 5000))
"""The range of a number whose name says nothing: small ones are commoner."""
_MONEY_STEPS = (10, 50, 100, 1000, 5000)


def word(rng: random.Random) -> str:
    """Return a word that stands for nothing."""
    return rng.choice(ENGLISH["words"])


def text_by_name(name: str, rng: random.Random) -> str:
    """Return a text for an argument: of what its last known word names.

    Args:
        name: of the argument, such as `departure_city`.
        rng: source of chance.
    """
    words = [one.rstrip("s") if one not in _KNOWN else one for one in _split(name)]
    known = next((_KNOWN[one] for one in reversed(words) if one in _KNOWN), None)
    if known is not None:
        return rng.choice(known)
    if words == ["name"] or words[-2:] in (["full", "name"], ["first", "name"], ["last", "name"]):
        return rng.choice(ENGLISH["people"])
    if rng.random() < 0.3:
        return rng.choice(ENGLISH["topics"])
    made = f"{word(rng)} {word(rng)}" if rng.random() < 0.6 else word(rng)
    return made.title() if words[-1:] == ["name"] else made


def number_by_name(
    name: str, rng: random.Random, *, is_whole: bool, is_whole_percent: bool
) -> float:
    """Return a number without bounds for an argument.

    Args:
        name: of the argument, such as `interest_rate`.
        rng: source of chance.
        is_whole: whether it is an integer.
        is_whole_percent: whether 5% is 5, and not 0.05.
    """
    words = _split(name) or [""]
    if words[-1] in ENGLISH["shares"]:
        share = rng.randint(1, 30)
        return share if is_whole or is_whole_percent else share / 100
    if words[-1] in ENGLISH["money"]:
        return rng.randint(1, 20) * rng.choice(_MONEY_STEPS)
    ranges = ENGLISH["ranges"]
    known = next((ranges[part] for part in reversed(words) if part in ranges), None)
    low, high = known or ((1, 10) if set(ENGLISH["small"]) & set(words) else rng.choice(_NUMBERS))
    if is_whole or rng.random() < 0.5:
        return rng.randint(low, high)
    return round(rng.uniform(low, high), rng.choice((1, 2)))


def _split(name: str) -> list[str]:
    parts = "".join(f"_{c}" if c.isupper() else c for c in name).replace("-", "_").lower()
    return [one for one in parts.split("_") if one]


_FROM_ROWS = 0.5
"""Share of values that are taken from the training rows, where those have some."""
_MOST_WITH_OPTIONAL, _OPTIONAL = 0.5, 1.2
"""Share of calls that have an optional argument at the most, and how many a call has on average."""
_DEEPEST = 4
_MOST_ITEMS = 3
_TRIES = 20
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_SPAN = 100
"""Between the bounds of a number of which one is not said."""

_BY_FORM = (
    (re.compile(r"[A-Z][\w. ]+, [A-Z]{2}"),
     "Austin, TX|Denver, CO|Portland, OR|Boston, MA|Phoenix, AZ|Miami, FL|Seattle, WA|Chicago, IL"),
    (re.compile(r"[A-Z][\w. ]+, [A-Z][\w. ]+"),
     "Paris, France|Tokyo, Japan|Cairo, Egypt|Oslo, Norway|Lima, Peru|Madrid, Spain|Milan, Italy"),
)  # fmt: skip
"""What stands for an example of a form, beside the example itself."""
_EXAMPLE = re.compile(
    r"\b(?:such as|e\.?g\.?,?|for example,?|for instance,?|examples?|like|either|can be|options?|"
    r"default(?:s to| is| value is)?|(?:possible|valid|allowed) values)(?: are| include| is)?"
    r"[ :(]*",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"""(?:[,/ ]|or\b|and\b)*(?:'([^'\n]{1,60})'|"([^"\n]{1,60})"|`([^`\n]{1,60})`)"""
)
_PLAIN_MARK = re.compile(r"such as|e\.?g|for (?:example|instance)", re.IGNORECASE)
_LIST_END = re.compile(r"[();:\n]|\.(?:\s|$)")
_ETC = re.compile(r"[, ]*\betc\.?$")
_BETWEEN = re.compile(r",? (?:or|and) |, ?")
_VALUE = re.compile(r"[A-Za-z0-9][\w .'+/-]*")
_MOST_WORDS = 3
"""Of an example without quotes: a longer one is a sentence."""
_DATES = (
    (DAY_FORM, "%Y-%m-%d"),
    (re.compile("DD/MM/YYYY", re.IGNORECASE), "%d/%m/%Y"),
    (re.compile("MM/DD/YYYY", re.IGNORECASE), "%m/%d/%Y"),
    (re.compile("DD-MM-YYYY", re.IGNORECASE), "%d-%m-%Y"),
)
"""Forms of a date that a description names."""
_AS_DESCRIBED = 0.5
"""Share of values that are an example of the description, where it has some."""


class CannotDrawError(Exception):
    """A schema asks for values that nothing here can make or say; the message says which."""

    def __init__(self, reason: NotDrawn, tool: str = "") -> None:
        super().__init__(str(reason))
        self.reason, self.tool = reason, tool


@dataclass(frozen=True)
class Drawer:
    """Draws calls of tools."""

    seen: Mapping[tuple[str, str], Sequence[Any]] = field(default_factory=dict)
    """Of a tool's argument its values in the training rows."""

    def call(self, tool: Tool, rng: random.Random) -> Call:
        """Return a valid call of a tool.

        Raises:
            CannotDrawError: none could be made.
        """
        for _ in range(_TRIES):
            arguments: dict[str, Any] = {}
            optional = [name for name in tool.properties if name not in tool.required]
            share = _share_of_optional(len(optional))
            # A call says something, where there is anything that it can say.
            wanted = {*tool.required} or {rng.choice(optional or [""])}
            for name, schema in tool.properties.items():
                if name not in wanted and rng.random() >= share:
                    continue
                try:
                    arguments[name] = self._argument(tool, name, schema, rng)
                except CannotDrawError as error:
                    if name in tool.required:
                        raise CannotDrawError(error.reason, tool.name) from error
            if tool.problem(arguments) is None:
                return Call(tool.name, arguments)
        raise CannotDrawError(NotDrawn(NoDraw.NO_MATCH), tool.name)

    def calls(self, tools: Sequence[Tool], rng: random.Random) -> list[Call]:
        """Return a valid call of each tool; those of one tool mostly have the same arguments.

        Raises:
            CannotDrawError: none could be made.
        """
        made: list[Call] = []
        for tool in tools:
            like = next((one.arguments.keys() for one in made if one.name == tool.name), None)
            calls = (self.call(tool, rng) for _ in range(_TRIES))
            first = next(calls)
            alike = (one for one in calls if one.arguments.keys() == like)
            made.append(first if like is None else next(alike, first))
        return made

    def _argument(self, tool: Tool, name: str, schema: Any, rng: random.Random) -> Any:
        known = self.seen.get((tool.name, name), ())
        if known and rng.random() < _FROM_ROWS:
            return rng.choice(known)
        try:
            return value_of(tool.parameters, schema, name, rng)
        except CannotDrawError:
            if not known:
                raise
            return rng.choice(known)


def _share_of_optional(n: int) -> float:
    """Return the share of calls that have each of `n` optional arguments."""
    return min(_MOST_WITH_OPTIONAL, _OPTIONAL / max(1, n))


def value_of(
    root: Mapping[str, Any], schema: Any, name: str, rng: random.Random, depth: int = 0
) -> Any:
    """Return a value that a schema describes.

    Args:
        root: the schema that references are read in.
        schema: of the value.
        name: of the argument, which tells what a text may be.
        rng: source of chance.
        depth: how many values this one is in.

    Raises:
        CannotDrawError: nothing here can make one.
    """
    schema = resolved(root, schema)
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        raise CannotDrawError(NotDrawn(NoDraw.UNKNOWN_VALUES, name))
    for key in ("enum", "examples"):
        if isinstance(schema.get(key), list) and schema[key]:
            return rng.choice(schema[key])
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return value_of(root, rng.choice(schema[key]), name, rng, depth + 1)
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "null")
    if kind == "boolean":
        return rng.random() < 0.5
    if kind in ("integer", "number"):
        return _number(schema, kind == "integer", name, rng)
    if kind == "string":
        return _text(schema, name, rng)
    if kind == "array":
        inner = schema.get("items", {"type": "string"})
        least = schema.get("minItems", 1)
        n = rng.randint(least, max(least, min(_MOST_ITEMS, schema.get("maxItems", _MOST_ITEMS))))
        found: list[Any] = []
        for _ in range(_TRIES):
            if len(found) == n:
                break
            one = value_of(root, inner, name, rng, depth + 1)
            found += [one] if one not in found else []
        return found
    if kind == "object" and schema.get("properties"):
        required = schema.get("required", ())
        share = _share_of_optional(len(schema["properties"].keys() - set(required)))
        return {
            key: value_of(root, one, key, rng, depth + 1)
            for key, one in schema["properties"].items()
            if key in required or rng.random() < share
        }
    raise CannotDrawError(NotDrawn(NoDraw.NO_FIELDS, name))


def _number(schema: Mapping[str, Any], is_whole: bool, name: str, rng: random.Random) -> float:
    if not _BOUNDS & schema.keys():
        is_percent = is_whole_percent(schema)
        return number_by_name(name, rng, is_whole=is_whole, is_whole_percent=is_percent)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    low = (min(1, high - _SPAN) if high is not None and high < 1 else 1) if low is None else low
    high = max(low + _SPAN, low) if high is None else high
    step = schema.get("multipleOf", 1 if is_whole else 0.5)
    n = int((high - low) / step) if step > 0 else 0
    start = low + rng.randint(0, max(0, n)) * step
    if step:  # the multiple that is nearest
        start = round(start / step) * step
    value = round(float(start), 6)
    return int(value) if is_whole or value.is_integer() else value


def _text(schema: Mapping[str, Any], name: str, rng: random.Random) -> str:
    form = schema.get("format")
    day = datetime.date(2024, 1, 1) + datetime.timedelta(rng.randrange(1000))
    time = f"{rng.randrange(24):02d}:{rng.choice((0, 15, 30, 45)):02d}"
    made = {
        "date": day.isoformat(),
        "date-time": f"{day.isoformat()}T{time}:00Z",
        "time": f"{time}:00",
        "email": f"{word(rng)}@{word(rng)}.org",
        "uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "uri": f"https://{word(rng)}.org/{word(rng)}",
        "ipv4": ".".join(str(rng.randrange(1, 255)) for _ in range(4)),
    }
    if form in made:
        return made[form]
    description = str(schema.get("description", ""))
    if "pattern" in schema or form is not None:
        if examples := examples_in(description):
            return rng.choice(examples)
        asked = "a pattern" if "pattern" in schema else f"the format {form}"
        raise CannotDrawError(NotDrawn(NoDraw.NO_EXAMPLES, name, asked))
    for pattern, written in _DATES:
        if pattern.search(description):
            return day.strftime(written)
    if (examples := examples_in(description)) and rng.random() < _AS_DESCRIBED:
        example = rng.choice(examples)
        alike = next((v for form, v in _BY_FORM if form.fullmatch(example)), example)
        return rng.choice([example, *alike.split("|")])
    words = name.lower().replace("-", "_").split("_")
    for kind, marks in (("date", {"date"}), ("email", {"email"}), ("uri", {"url", "uri", "link"})):
        if marks & set(words):
            return made[kind]
    if "id" in words or name.endswith("Id"):
        return f"{word(rng)[:2].upper()}{rng.randrange(1000, 9999)}"
    return text_by_name(name, rng)


@lru_cache(maxsize=4096)
def examples_in(description: str) -> tuple[str, ...]:
    """Return the values that a description gives as examples, in quotes or behind "e.g."."""
    found = []
    for mark in _EXAMPLE.finditer(description):
        place = mark.end()
        while (quoted := _QUOTED.match(description, place)) is not None:
            found.append(next(text for text in quoted.groups() if text is not None).strip())
            place = quoted.end()
        if place == mark.end() and _PLAIN_MARK.match(mark[0]):
            found += _unquoted(description[place:])
    return tuple(dict.fromkeys(one for one in found if one))


def _unquoted(text: str) -> list[str]:
    """Return examples without quotes, up to the end of a sentence or bracket."""
    listed = _ETC.sub("", _LIST_END.split(text, maxsplit=1)[0].strip())
    if any(form.fullmatch(listed) for form, _ in _BY_FORM):
        return [listed]
    parts = [one.strip() for one in _BETWEEN.split(listed)]
    are_short = all(len(one.split()) <= _MOST_WORDS and _VALUE.fullmatch(one) for one in parts)
    return parts if are_short else []
