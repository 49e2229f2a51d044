"""The form of an answer that a request names: checked, bounded, and as llama.cpp takes it.

A schema that llama.cpp cannot follow, or that would take it seconds and gigabytes, is refused here:
llama.cpp itself would answer without it, or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stratos.deploy.engines.gguf_file import has_byte_pairs
from stratos.deploy.engines.llguidance_c import why_no_grammar
from stratos.deploy.engines.words import SchemaTooLarge

MOST_KIB = 64
"""Of a schema as JSON."""
DEEPEST = 64
"""Objects and lists inside each other."""
MOST_VALUES = 10_000
"""Values of a schema, with its lists and objects."""
MOST_ITEMS = 1_000
"""minItems, maxItems, minProperties, maxProperties, and a repetition in a pattern."""
MOST_ITEMS_IN_ALL = 10_000
"""Sum of these over a schema: llama.cpp takes memory for each."""
MOST_CHARACTERS = 10_000
"""minLength, maxLength."""
LONGEST_PATTERN = 1_000
_OF_ITEMS = ("minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains")
_OF_TEXT = ("minLength", "maxLength")
_PIECE = re.compile(
    r"\\. | \[ (?: \\. | [^\]\\] )* \] | (?P<count> \{ [\ \d,]* \d [\ \d,]* \} ) | .",
    re.VERBOSE | re.DOTALL,
)
"""An escaped character, a class, a repetition, or another character of a pattern."""
_FORMS = (
    'response_format: expected {"type": "json_schema", "json_schema": {"schema": {…}}}, '
    "json_object or text."
)


class AnswerForms:
    """What the answers of a bundle can be constrained to."""

    def __init__(self, bundle: Path) -> None:
        """Read which characters its vocabulary has."""
        self._missing = _missing_characters(bundle)

    def asked(self, response_format: Any) -> dict[str, Any]:
        """Return what llama.cpp is asked so that an answer has the form that a request names.

        Raises:
            ValueError: there is no such form, or this server cannot give it.
        """
        if response_format in (None, {}, {"type": "text"}):
            return {}
        if not isinstance(response_format, Mapping):
            raise ValueError(_FORMS)
        is_strict = False
        if response_format.get("type") == "json_object":
            schema: Any = {"type": "object"}
        elif response_format.get("type") == "json_schema":
            named = response_format.get("json_schema")
            named = named if isinstance(named, Mapping) else {}
            schema, is_strict = named.get("schema"), named.get("strict") is True
        else:
            raise ValueError(_FORMS)
        if not isinstance(schema, Mapping):
            raise ValueError(_FORMS)
        if self._missing:
            raise ValueError(
                "response_format: the vocabulary of this model cannot write JSON. It has no token "
                f"for {' '.join(self._missing[:5])}."
            )
        # As in the evaluation: what a grammar cannot say makes it wider, unless asked to be strict.
        schema = {**schema, "x-guidance": {"lenient": not is_strict}}
        if problem := why_too_large(schema) or why_no_grammar(json.dumps(schema)):
            raise ValueError(f"response_format: the schema is refused: {problem}")
        return {"json_schema": schema}


def why_too_large(schema: Mapping[str, Any]) -> SchemaTooLarge | None:
    """Return which bound a schema breaks; None if it keeps all."""
    n_items = 0.0
    for n_values, (name, value, depth) in enumerate(_values(schema), 1):
        if depth > DEEPEST:
            return SchemaTooLarge("objects and lists inside each other", DEEPEST)
        if n_values > MOST_VALUES:
            return SchemaTooLarge("values", MOST_VALUES)
        counts, most = _counts(name, value)
        if any(one > most for one in counts):
            return SchemaTooLarge(name, most, MOST_ITEMS)
        if name == "pattern" and isinstance(value, str) and len(value) > LONGEST_PATTERN:
            return SchemaTooLarge("characters in a pattern", LONGEST_PATTERN)
        n_items += sum(counts) if most == MOST_ITEMS else 0
        if n_items > MOST_ITEMS_IN_ALL:
            return SchemaTooLarge("items and repetitions in all", MOST_ITEMS_IN_ALL)
    if len(json.dumps(schema)) > MOST_KIB * 1024:
        return SchemaTooLarge("KiB", MOST_KIB)
    return None


def _counts(name: str, value: Any) -> tuple[list[float], int]:
    """Return the repetitions that a value of a schema asks for, and how large each may be."""
    if isinstance(value, str):
        # A pattern may be a value, or the name of one in patternProperties.
        texts = [value] if name == "pattern" else []
        return [n for text in texts for n in _repetitions(text)], MOST_ITEMS
    if isinstance(value, Mapping):
        patterns = value if name == "patternProperties" else ()
        return [n for text in patterns for n in _repetitions(text)], MOST_ITEMS
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [], MOST_ITEMS
    if name in _OF_TEXT:
        return [value], MOST_CHARACTERS
    return [value] if name in _OF_ITEMS else [], MOST_ITEMS


def _repetitions(pattern: str) -> Iterator[float]:
    """Yield the repetitions of a pattern; those inside each other are multiplied."""
    last, groups = 1.0, [1.0]  # of what has just ended, and of the groups that are open
    for found in _PIECE.finditer(pattern):
        piece = found.group()
        if piece == "(":
            groups.append(1.0)
        elif piece == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] = max(groups[-1], last)
        elif found.lastgroup:
            # Digits beyond these are a large number, whichever it is.
            last *= max(float(text[:9]) for text in re.findall(r"\d+", piece))
            groups[-1] = max(groups[-1], last)
            yield last
        else:
            last = 1.0


def _values(schema: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield every value of a schema with its name and depth, without recursion."""
    left: list[tuple[str, Any, int]] = [("", schema, 1)]
    while left:
        name, value, depth = left.pop()
        yield name, value, depth
        if isinstance(value, Mapping):
            left += [(key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            left += [("", inner, depth + 1) for inner in value]


def _missing_characters(bundle: Path) -> list[str]:
    """Return the characters of JSON that no token of a bundle's vocabulary is."""
    model = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: piece and score
        vocabulary = {piece for piece, _ in vocabulary}
    space = "Ġ" if has_byte_pairs(bundle) else " "
    printable = map(chr, range(ord(" "), 0x7F))
    return [one for one in printable if (space if one == " " else one) not in vocabulary]
