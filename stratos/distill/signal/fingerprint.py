"""Tokenizer fingerprints: distributions are shared only between equal tokenizers.

A model's embedding may be padded to any width; that is no part of what ids mean and not looked at.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from stratos.core.errors import StratosError
from stratos.core.reasons import Reason
from stratos.distill.words import OtherEnd, OtherSplit, OtherToken

_SAMPLED_TOKENS = 256
"""Tokens of the vocabulary that are put together to texts, to see how these are cut again."""
_TEXTS = (
    "The quick brown fox jumps over the lazy dog, 1234567890 times.",
    "  leading, trailing and   repeated spaces  \t\n\n  tabs\r\n",
    "don't WON'T Straße Ångström e\u0301 é ﬁ Ⅳ ½",
    "def f(x: int) -> list[str]:\n    return [f'{x:>8.3f}'] * 2  # 3.14e-10",
    "数学は楽しい。 Привет, мир! مرحبا 🙂👩‍🔬",
)


class TokenizerMismatch(StratosError):
    """Two tokenizers give one id different meanings."""


@dataclass(frozen=True)
class Fingerprint:
    """The name of what a tokenizer's ids mean."""

    name: str
    """Where the tokenizer comes from."""
    digest: str
    n_ids: int
    """Ids that have a meaning; rows of an embedding beyond them are padding."""

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} ({self.n_ids:,} ids, {self.digest[:12]})"


def fingerprint(tokenizer: Any) -> Fingerprint:
    """Return the fingerprint of a tokenizer: tokens by id, how texts are cut, what ends a text."""
    tokens = tokens_by_id(tokenizer)
    facts = [sorted(tokens.items()), _cuts(tokenizer, tokens), _ends(tokenizer)]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return Fingerprint(str(tokenizer.name_or_path), digest, max(tokens) + 1)


def check_same(student: Any, teacher: Any) -> None:
    """Check that what both tokenizers have in common means the same to both.

    Ids that only one of them has (tokens added behind the vocabulary of a family) do not matter.

    Raises:
        TokenizerMismatch: they differ.
    """
    reason = difference(student, teacher)
    if reason is not None:
        raise TokenizerMismatch(
            "Student and teacher have different tokenizers.\n"
            f"  student  {fingerprint(student)}\n"
            f"  teacher  {fingerprint(teacher)}\n"
            f"{reason}\n"
            "For another tokenizer: strategy.only_shared=true (or "
            "strategy.objective=universal_logit); or learn from the teacher's verified text: "
            "strategy=alignment"
        )


def difference(student: Any, teacher: Any) -> Reason | None:
    """Return what two tokenizers differ in, or None."""
    ours, theirs = tokens_by_id(student), tokens_by_id(teacher)
    shared = sorted(ours.keys() & theirs.keys())
    for id_ in shared:
        if ours[id_] != theirs[id_]:
            return OtherToken(id_, ours[id_], theirs[id_])
    common = {id_: ours[id_] for id_ in shared}
    for text, cut in _cuts(student, common).items():
        if cut != _cut(teacher, text):
            return OtherSplit(text)
    if (end := _ends(student)) not in theirs:
        return OtherEnd(end)
    return None


def tokens_by_id(tokenizer: Any) -> dict[int, str]:
    """Return every id with its token as the vocabulary spells it, added tokens included."""
    return {id_: token for token, id_ in tokenizer.get_vocab().items()}


def _cuts(tokenizer: Any, tokens: dict[int, str]) -> dict[str, list[int]]:
    """Return how texts are cut: normaliser, pre-tokenizer and merges seen from outside."""
    special = set(tokenizer.all_special_tokens)
    plain = [tokens[id_] for id_ in sorted(tokens) if tokens[id_] not in special]
    step = max(1, len(plain) // _SAMPLED_TOKENS)
    sampled = plain[::step]
    drawn = [
        tokenizer.convert_tokens_to_string([*sampled[start : start + 8]])
        for start in range(0, len(sampled), 8)
    ]
    return {text: _cut(tokenizer, text) for text in (*_TEXTS, *drawn)}


def _cut(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _ends(tokenizer: Any) -> int | None:
    end: int | None = tokenizer.eos_token_id
    return end
