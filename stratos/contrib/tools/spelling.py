"""Values of arguments as a request says them, and read from its text by their schema."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stratos.contrib.tools.signatures import Tool
from stratos.tasks.schema.document import resolved

LONGEST = 400
"""Characters of a request that is read back."""
_LEAST_SAID_OTHERWISE = 3
"""Characters of a choice that is said in small letters, or without its underscores."""
DAY_FORM = re.compile("YYYY-MM-DD", re.IGNORECASE)
_DAYS_SAID = ("%B %d, %Y", "%d %B %Y", "%b %d, %Y")
"""How a request says a day, beside the form that its schema wants."""
ENGLISH: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("english.toml").read_text(encoding="utf-8")
)
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
        return _number(text, schema, is_whole=kind == "integer")
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


def _number(text: str, schema: Mapping[str, Any], is_whole: bool) -> float | None:
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
