"""Personal data in texts, by plain patterns: what has the form of an address, a number, a key.

No model reads the text. Names, streets and the like are not found, and a number that is none of a
person may be: the counts say where to look.
"""

from __future__ import annotations

import re

EMAIL, PHONE, CARD, IBAN, ID = "e-mail address", "phone number", "card number", "IBAN", "US SSN"

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w")
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d[\d ()./-]{6,22}\d(?![\w])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_MAY_BE_DIGITS = re.compile(r"\d[\d ()./-]{6,22}\d")
_MAY_BE_IBAN = re.compile(r"[A-Z]{2}\d\d")
"""What each match of the pattern above has in it. What begins with a set of characters is found
several times as fast as what begins with a condition."""
_SSN = re.compile(r"\d{3}-\d{2}-\d{4}")
_IP = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?: .*)?")
_AROUND = 64
"""Characters of a mail address before its @, at most."""
_LEAST_OF_PHONE, _MOST_OF_PHONE = 9, 15
"""Digits of a phone number with its prefix (E.164)."""
_LEAST_OF_CARD, _MOST_OF_CARD = 13, 19


def personal_data(text: str) -> set[str]:
    """Return which kinds of personal data a text seems to hold."""
    found: set[str] = set()
    if _has_mail(text):
        found.add(EMAIL)
    if _MAY_BE_DIGITS.search(text):
        found.update(kind for match in _DIGITS.finditer(text) if (kind := _kind(match[0])))
    if _MAY_BE_IBAN.search(text) and any(_is_iban(one[0]) for one in _IBAN.finditer(text)):
        found.add(IBAN)
    return found


def _has_mail(text: str) -> bool:
    """Return whether a text has a mail address; only what stands around an @ is looked at."""
    place = text.find("@")
    while place >= 0:
        if _EMAIL.search(text, max(0, place - _AROUND), place + 4 * _AROUND):
            return True
        place = text.find("@", place + 1)
    return False


def _kind(written: str) -> str | None:
    """Return what a run of digits and separators is; None for a number like any other."""
    digits = re.sub(r"\D", "", written)
    if _SSN.fullmatch(written):
        return ID
    if _LEAST_OF_CARD <= len(digits) <= _MOST_OF_CARD and _is_card(digits):
        return CARD
    is_other = _DATE.fullmatch(written) or _IP.fullmatch(written)
    if is_other or not _LEAST_OF_PHONE <= len(digits) <= _MOST_OF_PHONE:
        return None
    # A bare run of digits may be any number: a phone number has a prefix or separators.
    parts = re.split(r"[ ()./-]+", written.strip("+()"))
    is_grouped = len(parts) > 2 and all(len(part) >= 2 for part in parts)
    return PHONE if written.startswith("+") or is_grouped else None


def _is_card(digits: str) -> bool:
    """Return whether the last digit checks the others (Luhn), and the first is an issuer's."""
    if digits[0] not in "3456" or len(set(digits)) < 2:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _is_iban(written: str) -> bool:
    """Return whether the check digits are right (ISO 13616)."""
    text = written.replace(" ", "")
    moved = text[4:] + text[:4]
    return int("".join(str(int(one, 36)) for one in moved)) % 97 == 1
