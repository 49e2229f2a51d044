"""Values of arguments as a request says them, and read from its text by their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stratos.tasks.schema.document import resolved
from stratos.tasks.tools.signatures import Tool

LONGEST = 400
"""Characters of a request that is read back."""
_LEAST_SAID_OTHERWISE = 3
"""Characters of a choice that is said in small letters, or without its underscores."""


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
    """Return how a request may say the value of an argument: a choice in words of its own, too."""
    text = spelled(value)
    if text is None:
        return []
    schema = resolved(tool.parameters, tool.properties.get(name, True))
    is_choice = isinstance(schema, Mapping) and "enum" in schema and isinstance(value, str)
    if not is_choice or len(text) < _LEAST_SAID_OTHERWISE:
        return [text]
    words = text.replace("_", " ")
    return list(dict.fromkeys((text, words, words.lower(), words[:1].upper() + words[1:])))


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
        return {"true": True, "false": False}.get(text)
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" or "." not in text else float(text)
        except ValueError:
            return None
    if kind == "array":
        inner = resolved(tool.parameters, schema.get("items", {"type": "string"}))
        if not isinstance(inner, Mapping):
            return None
        found = [_typed(one, inner, tool) for one in text.split(", ")]
        return found if all(one is not None for one in found) else None
    return text if kind == "string" else None


def _chosen(text: str, choices: Any) -> Any:
    """Return the choice that a text is, in whatever case; None where it is none, or two."""
    exact = next((one for one in choices if spelled(one) == text), None)
    if exact is not None:
        return exact
    alike = [one for one in choices if isinstance(one, str) and _folded(one) == _folded(text)]
    return alike[0] if len(alike) == 1 else None


def _folded(text: str) -> str:
    return text.replace("_", " ").casefold()
