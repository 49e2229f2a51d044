"""Keep secrets out of everything that is written down: W&B configs, pages, commands.

Keys come from the environment and belong nowhere else; this is the net below that rule, for a
config in which someone put one all the same.
"""

from __future__ import annotations

import os
import re
from typing import Any

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(^|[_\-.])(api[_\-]?key|secret|secret[_\-]?key|access[_\-]?key|password|passwd|token"
    r"|credentials?|authorization)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\b(sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|AKIA[A-Z0-9]{12,}"
    r"|AIza[\w-]{20,}|xox[abprs]-[\w-]{10,})"
)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_URL_SIGNATURE = re.compile(
    r"(?<=[?&])((?:x-amz-|x-goog-)?(?:signature|credential|security-token)|sig|token|api_?key)"
    r"=[^&\s]+",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 8
"""Values of the environment shorter than this are no keys, and too likely to occur by chance."""


def redact_text(text: str) -> str:
    """Return `text` without keys: known shapes, logins in URLs, values of secret variables."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _names_a_key(name):
            text = text.replace(value, HIDDEN)
    text = _SECRET_VALUE.sub(HIDDEN, text)
    text = _URL_LOGIN.sub(HIDDEN, text)
    return _URL_SIGNATURE.sub(rf"\1={HIDDEN}", text)


def redact(value: Any, name: str = "") -> Any:
    """Return nested dicts and lists with every secret string replaced.

    Args:
        value: what a config or a record is made of.
        name: the key that the value stands under; `api_key: anything` is hidden whole.
    """
    if isinstance(value, dict):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner, name) for inner in value]
    if isinstance(value, str):
        return HIDDEN if value and _names_a_key(name) else redact_text(value)
    return value


def redact_override(override: str) -> str:
    """Return one `key=value` of a command line without its secret."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{redact(value, key)}"


def _names_a_key(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None
