"""Redact secrets in everything shown or written: screen, logs, records, pages, W&B.

Keys come from the environment and belong nowhere else; this is the net below that rule, for a
config in which someone put one all the same. Secrets are known in three ways: by their shape, by
the name that they stand under, and by their value. `learn` takes the values from a config when it
is resolved, so that they are hidden wherever they turn up later, in whatever words.

Personal data in texts are counted, known by their form alone. No model reads the text. Names,
streets and the like are not recognised, and a number that is none of a person may be: the counts
say where to look.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias
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
_PASSWORD_WORDS = frozenset(
    ["authorization", "cookie", "credential", "credentials", "pass", "passphrase", "passwd",
     "password", "pwd", "secret"]
)  # fmt: skip
"""In the name of a key below it, whose value is a secret."""
_KEY_WORDS = frozenset(["apikey", "auth", "key", "sig", "signature", "token"])
"""The same, where the value looks like a key: `prompt_cache_key` and `stop_token` hold words."""
_MIXED = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])[^\s<>|]+")
_RANDOM = re.compile(
    r"(?=[A-Za-z]*\d)(?=[A-Z\d]*[a-z])(?=[a-z\d]*[A-Z])[A-Za-z\d]{16,}|\b[0-9a-f]{32,}\b", re.ASCII
)
"""What looks like a key there whatever its name, if it has `_FEWEST_NUMBERS`: names of models have
one or two."""
_FEWEST_NUMBERS = 3

_known: set[str] = set()


def is_secret_variable(name: str) -> bool:
    """Return whether a variable of the environment is called as those that hold secrets."""
    return _SECRET_VARIABLE.search(name) is not None


def remember(secret: str) -> None:
    """Hide a value from now on, wherever it turns up."""
    for form in (secret, unquote(secret)):
        if len(form) >= _SHORTEST_KNOWN and not _is_common(form):
            _known.add(form)


def forget() -> None:
    """Know no secrets by their value: the next config tells its own."""
    _known.clear()


def learn(node: Any, name: str = "", is_free: bool = False) -> None:
    """Remember the secrets of a config: logins and keys in URLs, values under telling names.

    Args:
        node: plain dicts, lists and values.
        name: the key that it stands under.
        is_free: it stands below a key whose keys nobody knows.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            learn(value, str(key), is_free or key == _FREE)
    elif isinstance(node, list | tuple):
        for item in node:
            learn(item, name, is_free)
    elif isinstance(node, str):
        if name == "api_key_env":
            remember(os.environ.get(node, ""))
        elif _may_be_key(name, node) if is_free else _names_a_key(name):
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


def hide_known(text: str, shortest: int = _SHORTEST_VARIABLE) -> str:
    """Return a text without the secrets that the config told, such as the key of a teacher.

    Args:
        text: of anybody, such as a teacher that repeats its key.
        shortest: characters of a secret; shorter ones are words of answers, too.
    """
    for secret in sorted(_known, key=len, reverse=True):
        if len(secret) >= shortest:
            text = text.replace(secret, HIDDEN)
    return text


def redact_text(text: str) -> str:
    """Return `text` without keys: known values and shapes, logins in URLs, secret variables."""
    text = hide_known(text, _SHORTEST_KNOWN)
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


def _may_be_key(name: str, value: str) -> bool:
    """Return whether a value of a key that nobody knows may be a secret, by either of them."""
    words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)}
    if len(value) >= _SHORTEST_VARIABLE and (
        words & _PASSWORD_WORDS or (words & _KEY_WORDS and _MIXED.fullmatch(value))
    ):
        return True
    if _names_a_key(name) and not re.search(r"[\s<>|]", value):
        return True
    looks = _RANDOM.search(value)
    return looks is not None and len(re.findall(r"\d+", looks[0])) >= _FEWEST_NUMBERS


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


Kind: TypeAlias = str
"""What personal data are called."""
EMAIL, PHONE, CARD, IBAN, ID = "e-mail address", "phone number", "card number", "IBAN", "US SSN"
IP = "IP address"
SECRET = "key or token"

_MAIL = re.compile(r"[\w.+'&-]@[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.[^\W\d_]{2,24}\b(?!:[\w/~])")
"""No version (a@1.2.3) and no path of a repository (git@github.com:a/b)."""
_NO_DIGIT = re.compile(r"\D")
_DIGITS = re.compile(
    r"[+(\d](?<![\w.][+(\d])(?:(?<=\d)|(?<=\+)\(?\d|(?<=\()\d)[\d ()./-]{5,22}\d(?!\w)"
)
"""It begins with a set of characters, which is found twice as fast as one that begins with what
stands before."""
_MAY_BE_IBAN = re.compile(r"\d\d(?<=[A-Za-z]{2}\d\d)")
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,4})?\b")
_SSN = re.compile(r"\d{3}([ -]?)\d{2}\1\d{4}")
_NO_SSN = re.compile(r"000.*|666.*|\d{3}\D?00.*|.*0000")
_CALLED_SSN = re.compile(r"\b(?:ssn|social security)\W+(?:[^\W\d]+\W+){0,3}$", re.IGNORECASE)
"""What stands before nine digits without hyphens that are such a number."""
_MAY_BE_IP = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|[\dA-Fa-f]{0,4}(?::[\dA-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)"
)
_CALLED_IP = re.compile(r"\bip\W+(?:[^\W\d]+\W+){0,2}$", re.IGNORECASE)
_LEAST_OF_IP = 6
"""Digits of an address that nothing before it calls one: version 1.2.3.4 is none."""
_NO_PHONE = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}(?:/\d+)?|"  # an address of a machine, or a net
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?: .*|[/-]\d{4}[./-].*)?|"  # a date, and what follows it
    r"\d+\.\d+(?:[ /-]+\d+\.\d+)*|"  # numbers with a point, such as a place on a map
    r"\d{1,2}[-:]\d{1,2}(?: \d{1,2}[-:]\d{1,2})+"  # scores
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3})+")
_SEPARATOR = r"[ ./-]+"
_PHONE = re.compile(
    rf"\+[1-9].*|00[1-9]\d{{0,2}}{_SEPARATOR}\d.*|"  # with the code of the country
    rf"\(\d+\).*|0\d{{2,4}}{_SEPARATOR}\(?\d.*|0\d(?:{_SEPARATOR}\d\d){{4}}|"  # of the area
    rf"(?:1{_SEPARATOR})?\(?[2-9]\d\d\)?{_SEPARATOR}\d{{3}}{_SEPARATOR}\d{{4}}"  # North America
)
_CALLED = re.compile(
    r"\b(?:call|phone|tel|telephone|mobile|cell|fax|whatsapp|sms|telefon|handy|mobil|rufnummer)"
    r"\W+(?:[^\W\d]+\W+){0,3}$",
    re.IGNORECASE,
)
"""What stands before digits that are a phone number whatever their form."""
_BEFORE = 40
"""Characters before digits that are looked at for that."""
_LEAST_OF_PHONE, _MOST_OF_PHONE = 9, 15
"""Digits of a phone number with its prefix (E.164)."""
_LEAST_CALLED = 7
_LEAST_OF_CARD = 13
_SHOWN, _SHOWN_OF_SECRET = 2, 4
"""Characters that a masked form begins with; those of a key tell whose it is."""
_FRACTION = re.compile(r"\d{1,3}\.\d{13,}")
"""A number with a point and many digits: no card is written so."""
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|"
    r"2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|(?:35|6[0245])\d{14,17}|"
    r"(?:50|5[6-8]|6[379])\d{11,17}"
)
"""Digits that issuers begin with, and how many follow: IMEIs, of 15, are none."""
_IBAN_LENGTHS = tomllib.loads(Path(__file__).with_name("iban.toml").read_text("utf-8"))
"""Characters of an IBAN of each country (ISO 13616)."""


def kinds_in(text: str) -> set[Kind]:
    """Return which kinds of personal data a text seems to hold."""
    return {kind for kind, _ in _matches(text)}


def personal_data(text: str) -> Iterator[tuple[Kind, str]]:
    """Yield the kind and a masked form of whatever looks personal or secret in a text."""
    for kind, written in _matches(text):
        yield kind, f"{written[:_SHOWN]}…"
    for written in shapes_in(text):
        yield SECRET, f"{written[:_SHOWN_OF_SECRET]}…"


def _matches(text: str) -> Iterator[tuple[Kind, str]]:
    if "@" in text:
        yield from ((EMAIL, mail[0]) for mail in _MAIL.finditer(text))
    for match in _DIGITS.finditer(text):
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        if (kind := _kind(match[0], before)) is not None:
            yield kind, match[0]
    if text.count(".") > 2 or text.count(":") > 1:
        yield from ((IP, ip[0]) for ip in _MAY_BE_IP.finditer(text) if _is_ip(ip))
    if _MAY_BE_IBAN.search(text):
        yield from ((IBAN, iban[0]) for iban in _IBAN.finditer(text) if _is_iban(iban[0]))


def _kind(written: str, before: str) -> Kind | None:
    """Return what a run of digits and separators is; None for a number like any other."""
    digits = _NO_DIGIT.sub("", written)
    if (ssn := _SSN.fullmatch(written)) and (ssn[1] == "-" or _CALLED_SSN.search(before)):
        return None if _NO_SSN.fullmatch(written) else ID
    if _FRACTION.fullmatch(written):
        return None
    if len(digits) >= _LEAST_OF_CARD and _has_card(written):
        return CARD
    if len(digits) > _MOST_OF_PHONE or _NO_PHONE.fullmatch(written):
        return None
    # A bare run of digits may be any number: a phone number has a prefix or separators, or a word.
    if len(digits) >= _LEAST_OF_PHONE and _PHONE.fullmatch(written):
        return PHONE
    is_called = len(digits) >= _LEAST_CALLED and _CALLED.search(before) is not None
    return PHONE if is_called and not _THOUSANDS.fullmatch(written) else None


def _is_ip(match: re.Match[str]) -> bool:
    """Return whether an address of a machine is one, and neither a version nor a time.

    One of a local network is everybody's.
    """
    written = match[0]
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    if address.is_private:
        return False
    before = match.string[max(0, match.start() - _BEFORE) : match.start()]
    n_digits = sum(map(str.isdigit, written))
    return n_digits >= _LEAST_OF_IP or _CALLED_IP.search(before) is not None


def _has_card(written: str) -> bool:
    """Return whether digits, or groups of four or more of them, are the number of a card."""
    groups = _NO_DIGIT.split(written)
    runs = (
        "".join(groups[start:stop])
        for start in range(len(groups))
        for stop in range(start + 1, len(groups) + 1)
        if start == 0 == stop - len(groups) or min(map(len, groups[start:stop])) >= 4
    )
    return any(map(_is_card, runs))


def _is_card(digits: str) -> bool:
    """Return whether an issuer has such numbers, and the last digit checks the others (Luhn)."""
    if _CARDS.fullmatch(digits) is None or len(set(digits)) < 2:
        return False
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _is_iban(written: str) -> bool:
    """Return whether length and check digits are right (ISO 13616); words may follow."""
    text = re.sub("[ -]", "", written).upper()
    length = _IBAN_LENGTHS.get(text[:2])
    if length is None or len(text) < length:
        return False
    moved = text[4:length] + text[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


LONGEST_SHOWN = 60
"""Characters of a text that a message shows."""


def shown(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return a text as it may be shown: without keys, cut short, control characters escaped."""
    text, _ = redact_shapes(text)  # before it is cut, since a part of a key has no shape
    text = text if text.isprintable() else json.dumps(text)[1:-1]
    return text if len(text) <= longest else f"{text[: longest - 3]}…"
