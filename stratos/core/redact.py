"""Redact secrets in everything shown or written: screen, logs, records, pages, W&B.

Keys come from the environment and belong nowhere else; this is the net below that rule, for a
config in which someone put one all the same. Secrets are known in three ways: by their shape, by
the name that they stand under, and by their value. `learn` takes the values from a config when it
is resolved, so that they are hidden wherever they turn up later, in whatever words.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from stratos.core.errors import StratosError

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(^|[_\-.])(api[_\-]?key|secret|secret[_\-]?key|access[_\-]?key|password|passwd|token"
    r"|credentials?|authorization)$",
    re.IGNORECASE,
)
"""Of a key of a config; `max_tokens` and `api_key_env` are none."""
_SECRET_VARIABLE = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTHORIZATION|COOKIE|SIGNATURE", re.IGNORECASE
)
"""Of a variable of the environment."""
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
"""Where a key may begin: behind no letter of ASCII, unless that is the end of an escape.

Letters of scripts without spaces stand directly before keys. In JSON, a key at the beginning of a
line stands behind `\\n`.
"""
_APART = r"(?:[ \t\u00a0]|\\t|%20)++"
_SHAPES = re.compile(
    # These prefixes are no parts of words, so that they count behind any character.
    r"sk-(?:proj|svcacct|admin|or-v1|ant-\w{3,6})-(?:\w{16,}[\w-]*|[\w-]{40,})"
    r"|github_pat_\w{16,}"
    r"|(?:gh[pousr]|hf)_[A-Za-z0-9]{30,}"
    # A letter with an accent before `sk-` is the end of a word.
    rf"|{_START}(?<![\u00c0-\u024f])sk-[\w-]{{16,}}"
    rf"|{_START}(?:hf_[A-Za-z0-9]{{16,}}|gh[pousr]_\w{{16,}}|AKIA[A-Z0-9]{{12,}}"
    r"|AIza[\w-]{20,}|xox[abprs]-[\w-]{10,}|glpat-[\w-]{16,}|ya29\.[\w-]{20,})"
    rf"|(?P<before>{_START}(?:(?:Bearer|BEARER){_APART}|bearer{_APART}(?=[A-Za-z_.~+/-]*+\d)))"
    r"[\w.~+/-]{20,}=*"
    # With its headers, up to its end, to that of the text or to that of the JSON string.
    r"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[^-\"<>{}\\]|\\+[nrt/]|-(?!----))*+"
    r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)?",
    re.ASCII,
)
"""What is a key or a token wherever it stands in a text that somebody else wrote."""
_JWT = re.compile(
    r"eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]{10,}+"
    # A run that is none is passed over whole: to look behind each of its `eyJ` is quadratic.
    r"|(?P<none>eyJ[\w-]*+)",
    re.ASCII,
)
_MARKS = {
    mark: re.compile(form, re.ASCII)
    for mark, form in {
        "sk-": r"sk-[\w-]{16}",
        "hf_": r"hf_[A-Za-z0-9]{16}",
        **{f"gh{kind}_": rf"gh{kind}_\w{{16}}" for kind in "pousr"},
        "github_pat_": r"github_pat_\w{16}",
        "AKIA": r"AKIA[A-Z0-9]{12}",
        "AIza": r"AIza[\w-]{20}",
        "xox": r"xox[abprs]-[\w-]{10}",
        "eyJ": r"eyJ[\w-]{10}",
        "glpat-": r"glpat-[\w-]{16}",
        "ya29.": r"ya29\.[\w-]{20}",
        **{word: rf"{word}{_APART}[\w.~+/-]{{20}}" for word in ("Bearer", "bearer", "BEARER")},
        "PRIVATE KEY": r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY",
    }.items()
}
"""What each of these forms begins with, or has in it, and as much of it as is soon looked for."""
_SHORTEST_SHAPE = 15
"""Characters of the shortest key that has a shape."""
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_QUERY_NAME = (
    r"[\w.\-]*(?:signature|credential|secret|token|passw(?:or)?d|api[_\-]?key|authorization)"
    r"|sig|key|auth|code|pwd"
)
_QUERY_SECRET = re.compile(rf"(?<=[?&])({_QUERY_NAME})=[^&\s'\"#]+", re.IGNORECASE)
_SHORTEST_VARIABLE = 8
"""Values of the environment shorter than this are no keys, and too likely to occur by chance."""
_SHORTEST_KNOWN = 4
"""The same of a secret that a config told: behind a password of three letters a text is lost."""
_FREE = "extra_body"
"""Key below which whatever comes from the environment is a secret: nobody knows its name."""

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def is_secret_variable(name: str) -> bool:
    """Return whether a variable of the environment is called as those that hold secrets."""
    return _SECRET_VARIABLE.search(name) is not None


def remember(secret: str) -> None:
    """Hide a value from now on, wherever it turns up."""
    global _pattern
    for form in (secret, unquote(secret)):
        if len(form) >= _SHORTEST_KNOWN and form not in _known and not _is_common(form):
            _known.add(form)
            _pattern = None


def forget() -> None:
    """Know no secrets by their value: the next config tells its own."""
    global _pattern
    _known.clear()
    _pattern = None


def learn(node: Any, name: str = "") -> None:
    """Remember the secrets of a config: logins and keys in URLs, values under telling names.

    Args:
        node: plain dicts, lists and values.
        name: the key that it stands under.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            learn(value, str(key))
    elif isinstance(node, list | tuple):
        for item in node:
            learn(item, name)
    elif isinstance(node, str):
        if name == "api_key_env":
            remember(os.environ.get(node, ""))
        elif _names_a_key(name):
            remember(node)
        if "://" in node:
            _learn_url(node)


def resolved(variable: str, value: str, key: str) -> None:
    """Take notice of a variable of the environment that a config takes a value from.

    Args:
        variable: its name.
        value: of it.
        key: of the config that takes it.
    """
    if _SECRET_VARIABLE.search(variable) or _FREE in key.split("."):
        remember(value)


def redact_text(text: str) -> str:
    """Return `text` without keys: known values and shapes, logins in URLs, secret variables."""
    global _pattern
    if _known:
        if _pattern is None:
            longest_first = sorted(_known, key=len, reverse=True)
            _pattern = re.compile("|".join(map(re.escape, longest_first)))
        text = _pattern.sub(HIDDEN, text)
    for name, value in os.environ.items():
        if (
            len(value) >= _SHORTEST_VARIABLE
            and value in text
            and _SECRET_VARIABLE.search(name)
            and not _is_common(value)
        ):
            text = text.replace(value, HIDDEN)
    text, _ = redact_shapes(text)
    if "://" in text:
        text = _URL_LOGIN.sub(HIDDEN, text)
    if "=" in text:
        text = _QUERY_SECRET.sub(rf"\1={HIDDEN}", text)
    return text


def redact_shapes(text: str) -> tuple[str, int]:
    """Return a text of somebody else without keys and tokens, known by shape; and how many.

    It may be JSON: what it escapes before a key hides none, and it stays JSON.
    """
    if len(text) < _SHORTEST_SHAPE:
        return text, 0
    # Each key has one of these forms in it. To look for them is ten times as fast as the pattern.
    for mark, form in _MARKS.items():  # `any` takes twice as long, and logs have millions of texts
        if mark in text and form.search(text):
            break
    else:
        return text, 0
    n_tokens = 0
    if "eyJ" in text:
        n_tokens = sum(match["none"] is None for match in _JWT.finditer(text))
        text = _JWT.sub(lambda match: match["none"] or HIDDEN, text) if n_tokens else text
    text, n_keys = _SHAPES.subn(_hidden, text)
    return text, n_tokens + n_keys


def shapes_in(text: str) -> list[str]:
    """Return the keys and tokens of a text of somebody else, known by shape."""
    if not redact_shapes(text)[1]:
        return []
    tokens = [match[0] for match in _JWT.finditer(text) if match["none"] is None]
    return tokens + [
        match[0].removeprefix(match["before"] or "") for match in _SHAPES.finditer(text)
    ]


def _hidden(match: re.Match[str]) -> str:
    return f"{match['before'] or ''}{HIDDEN}"


def redact(value: Any, name: str = "") -> Any:
    """Return nested dicts and lists with every secret string replaced.

    Args:
        value: what a config or a record is made of.
        name: the key that the value stands under; `api_key: anything` is hidden whole.
    """
    if isinstance(value, Mapping):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner, name) for inner in value]
    if isinstance(value, str):
        return HIDDEN if value and _names_a_key(name) else redact_text(value)
    return value


def redact_override(override: str) -> str:
    """Return one `key=value` of a command line without its secret."""
    key, equals, value = override.partition("=")
    return redact_text(f"{key}{equals}{redact(value, key)}")


def _learn_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query)
    except ValueError:  # is refused elsewhere
        return
    login = parts.netloc.rpartition("@")[0]
    for part in login.split(":", 1):
        remember(part)
    for name, value in query:
        if re.fullmatch(_QUERY_NAME, name, re.IGNORECASE):
            remember(value)


def _names_a_key(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _is_common(value: str) -> bool:
    """Tell what is no secret though it stands where one may: paths, numbers, words of settings."""
    return (
        value.startswith(("~", "./", "../", "unix:"))
        # A key in base64 may begin with a slash, too.
        or (value.startswith("/") and os.path.exists("/" + value.split("/")[1]))
        or value.lower() in ("true", "false", "none", "null", "auto", "user", "token", "root")
        or value.replace(".", "").isdigit()
        or value == HIDDEN
    )


@contextlib.contextmanager
def without_secrets() -> Iterator[None]:
    """Take keys and logins out of an error of ours before anybody reads or logs it."""
    try:
        yield
    except StratosError as error:
        texts = (redact_text(text) if isinstance(text, str) else text for text in error.args)
        error.args = tuple(texts)
        raise
