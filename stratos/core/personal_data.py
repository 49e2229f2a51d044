"""Personal data and keys in texts, known by their form alone.

No model reads the text. Names, streets and the like are not recognised, and a number that is none
of a person may be: the counts say where to look.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from stratos.core.redact import shapes_in

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
