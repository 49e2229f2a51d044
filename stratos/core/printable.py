"""Escape control characters in foreign text before it is printed."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""What joins letters of some scripts, and the parts of some emoji."""
_UNSEEN = ("Cc", "Cs", "Cf", "Co", "Zl", "Zp")
"""Controls and surrogates; bidi overrides and zero-width characters; private; separators."""


def visible(text: str) -> str:
    """Return `text` with control characters, bidi overrides and lone surrogates made visible.

    Tabs and line ends stay. C0 controls become their Unicode picture (ESC is ␛), all others that
    have no glyph of their own are written as <U+XXXX>.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def unseen(text: str) -> str:
    """Return the first character that nobody can see, as U+202E; "" where there is none."""
    found = (f"U+{ord(c):04X}" for c in text if _is_unseen(c) and c not in _JOINERS)
    return next(found, "")


def shown(text: object, longest: int = 120) -> str:
    """Return what somebody else wrote as a message shows it: escaped, and cut short."""
    escaped = "".join(f"\\u{ord(c):04x}" if _is_unseen(c) else c for c in str(text))
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 1]}…"


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def _visible_character(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"<U+{code:04X}>" if _is_unseen(character) else character
