"""Constrained decoding: a model writes what a JSON Schema allows, and nothing else.

The grammar of a schema says at each token which may follow (llguidance, which matches in linear
time); the likeliest of those is taken. Where a grammar leaves one answer open, the model chooses as
it would. What a schema says beyond a grammar (`uniqueItems`, `not`, …) is left to validation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stratos.core.reasons import Because
from stratos.models.decode.wider import wider

if TYPE_CHECKING:
    import torch

_STYLE = {
    # As `stratos.tasks.objects.written` writes, which is what a student has learnt.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # What a grammar cannot say makes it wider, not invalid.
    "lenient": True,
}


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
    return _Grammars(tokenizer, [s and json.dumps(s) for s in schemas], list(ends))


class _Grammars:
    """The state of each answer's grammar."""

    def __init__(self, tokenizer: Any, schemas: Sequence[Any], ends: list[int]) -> None:
        self._tokenizer, self._schemas, self._ends = tokenizer, schemas, ends
        self._table: Any = None
        self._matchers: dict[int, Any] = {}

    def __call__(self, logits_BV: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
        """Return the likeliest allowed token of each row, (B, 1)."""
        import numpy as np
        import torch

        width = logits_BV.shape[-1]
        if self._table is None:
            self._table = _table(self._tokenizer, width, self._ends)
        masks = np.ones((len(prompts), width), bool)
        live = [self._matcher(prompt) for prompt in prompts]
        for row, matcher in zip(masks, live, strict=True):
            if matcher is not None:
                found = np.frombuffer(matcher.compute_bitmask(), np.uint8)
                # A grammar that has met a limit of its parser allows nothing: it is left.
                allowed = np.unpackbits(found, bitorder="little")[:width].astype(bool)
                if not matcher.is_error() and allowed.any():
                    row[: len(allowed)] = allowed
                    row[len(allowed) :] = False
        allowed_BV = torch.from_numpy(masks).to(logits_BV.device)
        tokens = logits_BV.masked_fill(~allowed_BV, float("-inf")).argmax(-1, keepdim=True)
        for matcher, token in zip(live, tokens[:, 0].tolist(), strict=True):
            if matcher is not None:
                matcher.consume_token(token)
        return tokens

    def _matcher(self, prompt: int) -> Any:
        """Return the state of an answer's grammar; None where it is free."""
        from llguidance import LLMatcher

        schema = self._schemas[prompt]
        if schema is None:
            return None
        if prompt not in self._matchers:
            self._matchers[prompt] = LLMatcher(self._table, _grammar(schema), log_level=0)
        found = self._matchers[prompt]
        return None if found.is_error() else found


@cache
def _grammar(schema: str) -> str:
    from llguidance import LLMatcher

    options: Any = _STYLE
    widened = json.dumps(wider(json.loads(schema)))
    return str(LLMatcher.grammar_from_json_schema(widened, overrides=options))


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
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found
