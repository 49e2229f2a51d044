"""Constrained decoding: a model writes what a JSON Schema allows, and nothing else.

The grammar of a schema says at each token which may follow (llguidance, which matches in linear
time); the likeliest of those is taken. Where a grammar leaves one answer open, the model chooses as
it would. What a schema says beyond a grammar (`uniqueItems`, `not`, …) is left to validation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stratos.core.reasons import Because

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_STYLE = {
    # As `stratos.tasks.answers.written` writes, which is what a student has learnt.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # What a grammar cannot say makes it wider, not invalid.
    "lenient": True,
}
STRICT = {"lenient": False}
"""`x-guidance` of a schema that is kept to the letter."""


def is_installed() -> bool:
    """Return whether llguidance is there."""
    return find_spec("llguidance") is not None


def why_no_grammar(schema: Mapping[str, Any]) -> Because | None:
    """Return why no grammar can be made of a schema; None if it can."""
    from llguidance import LLMatcher

    grammar = _grammar(json.dumps(schema))
    is_error, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    return Because("; ".join(messages)) if is_error else None


def by_schemas(
    tokenizer: Any,
    schemas: Sequence[Mapping[str, Any] | None],
    ends: Sequence[int],
) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor]:
    """Return what chooses the likeliest token that the schema of each prompt allows: a `Pick`.

    Args:
        tokenizer: fast tokenizer of transformers.
        schemas: of each prompt; None leaves it free.
        ends: tokens that end an answer.

    Raises:
        ValueError: the tokenizer's tokens cannot be told as bytes.
    """
    texts = [None if schema is None else json.dumps(schema) for schema in schemas]
    return _Pick(Grammars(tokenizer, ends), texts)


class Grammar:
    """Where one answer is in the grammar of its schema."""

    def __init__(self, table: Any, schema: str, width: int) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(table, _grammar(schema), log_level=0)
        self._width = width

    def allowed(self) -> NDArray[np.bool_] | None:
        """Return which tokens may follow, (V,); None for any.

        A grammar that has met a limit of its parser allows nothing: it is left.
        """
        import numpy as np

        if self._matcher.is_error():
            return None
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._width].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            return None
        return np.pad(allowed, (0, self._width - len(allowed)))

    def take(self, token: int) -> None:
        """Go on with a token."""
        if not self._matcher.is_error():
            self._matcher.consume_token(token)


class Grammars:
    """Makes the grammars of answers, by one table of a tokenizer's tokens."""

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        """Make no table yet.

        Args:
            tokenizer: as of `by_schemas`.
            ends: as of `by_schemas`.
        """
        self._tokenizer, self._ends = tokenizer, list(ends)
        self._table: Any = None

    def of(self, schema: str, width: int) -> Grammar:
        """Return the grammar of a new answer.

        Args:
            schema: as JSON text.
            width: tokens that there are logits of.

        Raises:
            ValueError: the tokenizer's tokens cannot be told as bytes.
        """
        if self._table is None:
            self._table = _table(self._tokenizer, width, self._ends)
        return Grammar(self._table, schema, width)


class _Pick:
    """Chooses the tokens of all answers, each by its grammar."""

    def __init__(self, grammars: Grammars, schemas: Sequence[str | None]) -> None:
        self._grammars, self._schemas = grammars, schemas
        self._begun: dict[int, Grammar] = {}

    def __call__(self, logits_BV: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
        """Return the likeliest allowed token of each row, (B, 1)."""
        import numpy as np
        import torch

        masks = np.ones(logits_BV.shape, bool)
        live = [self._grammar_of(prompt, logits_BV.shape[-1]) for prompt in prompts]
        for row, grammar in zip(masks, live, strict=True):
            if grammar is not None and (allowed := grammar.allowed()) is not None:
                row[:] = allowed
        allowed_BV = torch.from_numpy(masks).to(logits_BV.device)
        tokens = logits_BV.masked_fill(~allowed_BV, float("-inf")).argmax(-1, keepdim=True)
        for grammar, token in zip(live, tokens[:, 0].tolist(), strict=True):
            if grammar is not None:
                grammar.take(token)
        return tokens

    def _grammar_of(self, prompt: int, width: int) -> Grammar | None:
        schema = self._schemas[prompt]
        if schema is None:
            return None
        if prompt not in self._begun:
            self._begun[prompt] = self._grammars.of(schema, width)
        return self._begun[prompt]


@lru_cache(maxsize=256)
def _grammar(schema: str) -> str:
    from llguidance import LLMatcher

    stated: Any = json.loads(schema)
    options: Any = dict(_STYLE)
    if isinstance(stated, Mapping) and stated.get("x-guidance") == STRICT:
        options |= STRICT
    else:
        stated = wider(stated)
    return str(LLMatcher.grammar_from_json_schema(json.dumps(stated), overrides=options))


def _table(tokenizer: Any, width: int, ends: list[int]) -> Any:
    """Return a tokenizer's tokens as llguidance wants them.

    Args:
        tokenizer: as of `by_schemas`.
        width: of the logits, which may be more than there are tokens.
        ends: as of `by_schemas`.
    """
    from llguidance import LLTokenizer
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(tokenizer, n_vocab=width, eos_token=ends)
    except ValueError:
        # One that looks whole words up: its tokens are their own texts.
        words: Any = _Words(tokenizer, ends)
        return LLTokenizer(words, n_vocab=width, eos_token=ends)


class _Words:
    """A tokenizer whose tokens are texts: what llguidance asks of one it does not know."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Any, ends: list[int]) -> None:
        special = set(tokenizer.all_special_ids)
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = ends[0], None
        self.special_token_ids = sorted(special)
        # llguidance tells special tokens by a byte that is in no text.
        self.tokens = [
            (b"\xff" if k in special else b"") + tokenizer.convert_ids_to_tokens(k).encode()
            for k in range(len(tokenizer))
        ]

    def __call__(self, text: Any) -> list[int]:
        """Return the tokens of a text."""
        text = text.decode() if isinstance(text, bytes) else text
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


_FORMATS = ("date", "ipv4", "uuid")
"""Formats that a grammar takes as validation does: that checks no others, or checks them less."""
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SMALLEST, _LARGEST = 1e-4, 1e16
"""Between them, numbers are written without an exponent."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords that hold values, in which no schema stands."""
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def wider(schema: Any) -> Any:
    """Return a schema that takes what another one takes, spelled as JSON is usually written.

    A grammar of limits knows no exponent (1e-07), so that limits stay only where no number that
    keeps them is written with one. The same is true of an `enum`. Formats stay where a grammar
    takes each text that validation takes.
    """
    if isinstance(schema, list):
        return [wider(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        name: {key: wider(part) for key, part in inner.items()}
        if name in _BY_NAME and isinstance(inner, Mapping)
        else inner
        if name in _VALUES
        else wider(inner)
        for name, inner in schema.items()
    }
    if made.get("format") not in _FORMATS:
        made.pop("format", None)
    if _needs_exponents(made):
        made = {name: inner for name, inner in made.items() if name not in _LIMITS}
    chosen = [*made.get("enum", ()), *([made["const"]] if "const" in made else [])]
    if any(isinstance(choice, float) and "e" in repr(choice) for choice in chosen):
        made = {name: inner for name, inner in made.items() if name not in ("enum", "const")}
    return made


def _needs_exponents(node: Mapping[str, Any]) -> bool:
    """Return whether a number that keeps the limits of a schema may be written with an exponent."""
    if not any(name in node for name in _LIMITS):
        return False
    kinds = node.get("type", "number")
    if "number" not in (kinds if isinstance(kinds, list) else [kinds]):
        return False
    low = max((node[n] for n in ("minimum", "exclusiveMinimum") if _is_number(node.get(n))),
              default=float("-inf"))  # fmt: skip
    high = min((node[n] for n in ("maximum", "exclusiveMaximum") if _is_number(node.get(n))),
               default=float("inf"))  # fmt: skip
    is_within = _SMALLEST <= low <= high < _LARGEST
    return not (is_within or -_LARGEST < low <= high <= -_SMALLEST)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
