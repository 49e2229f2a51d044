"""Check the token counts that an endpoint reports against the bytes sent and received.

A count that is missing is counted from the bytes, and never as nothing. One that no tokenizer can
have given is no count at all: the reply is then no answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stratos.teachers.base import Question

MESSAGE_TOKENS = 16
"""Most tokens that a chat template adds to a message."""
_BYTES_A_TOKEN = 16
"""Bytes that a token stands for on average at the very most; ordinary text has 3 to 6."""
_SHORT = 64
"""Bytes up to which a text may be a few long tokens."""
_HIDDEN_TOKENS = 8192
"""Most that a provider's own prompt adds to a question."""
_MOST_REASONING = 2**18
"""Tokens of reasoning that are believed, told apart or not. They are billed, so a count that a
model can have written is booked as it is told, whatever the limit was."""
_RUN = re.compile(r"(.)\1{4,}", re.DOTALL)
"""The same character again and again, which many tokenizers take as one token."""


class ImplausibleUsage(ValueError):
    """A count of tokens that cannot be right."""


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer took."""

    input_tokens: int
    output_tokens: int
    is_estimated: bool
    """True if one of them was counted from bytes: an upper estimate."""


def most_input_tokens(question: Question) -> int:
    """Return the most tokens that a prompt has: no tokenizer makes more than there are bytes."""
    n = sum(len(message["content"].encode("utf-8", "replace")) for message in question.chat)
    return n + MESSAGE_TOKENS * len(question.chat)


def read_usage(
    usage: Any,
    question: Question,
    text: str,
    *,
    reasoning: str = "",
    is_cut: bool = False,
    hides_reasoning: bool = False,
) -> Usage:
    """Return what an answer took.

    Args:
        usage: as it stands in the reply; anything, or None.
        question: that was asked.
        text: the answer.
        reasoning: what the model wrote before it, where the endpoint shows that.
        is_cut: the answer ended at its longest.
        hides_reasoning: the model wrote something before it that the endpoint does not show.

    Raises:
        ImplausibleUsage: a count is negative, not finite, or more than the bytes allow by far.
    """
    usage = usage if isinstance(usage, Mapping) else {}
    prompt = "\n".join(message["content"] for message in question.chat)
    most_in = most_input_tokens(question)
    sent = f"were read for a prompt of {len(prompt.encode('utf-8', 'replace')):,} bytes"
    n_input = _count(usage.get("prompt_tokens"), 2 * most_in + _HIDDEN_TOKENS, sent)
    written = reasoning + text
    n_bytes = len(written.encode("utf-8", "replace"))
    most_out = 2 * max(question.max_tokens, n_bytes) + _MOST_REASONING
    came = f"were written in an answer of {n_bytes:,} bytes"
    n_output = _count(usage.get("completion_tokens"), most_out, came)
    is_estimated = False
    if n_input < max(1, _least(prompt)) and prompt:
        n_input, is_estimated = most_in, True
    least_out = _least(written)
    # What wrote no text, and what reasoned unseen, may have taken all that it was allowed.
    fills_limit = is_cut or hides_reasoning or not written
    is_untold = usage.get("completion_tokens") is None
    if n_output < max(1, least_out) and (written or is_cut or is_untold):
        # A limit that the endpoint keeps is the most that it can be.
        keeps_limit = least_out <= question.max_tokens
        n_output = min(n_bytes, question.max_tokens) if keeps_limit else n_bytes
        n_output = question.max_tokens if fills_limit and keeps_limit else n_output
        is_estimated = True
    return Usage(n_input, n_output, is_estimated)


def _count(value: Any, most: int, what: str) -> int:
    """Return a count, 0 where there is none.

    Raises:
        ImplausibleUsage: it cannot be right.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if isinstance(value, float) and not math.isfinite(value):
        raise ImplausibleUsage(f"it says that {value} tokens {what}")
    if not 0 <= value <= most:
        amount = f"{value:,}" if abs(value) < 10**15 else "more than 10^15"
        raise ImplausibleUsage(f"it says that {amount} tokens {what}")
    return int(value)


def _least(text: str) -> int:
    """Return the fewest tokens that a text can have, by far; 0 for a short one."""
    if len(text) <= _SHORT:
        return 0
    dense = _RUN.sub(lambda run: run.group(1) * 4, text)
    return len(dense.encode("utf-8", "replace")) // _BYTES_A_TOKEN
