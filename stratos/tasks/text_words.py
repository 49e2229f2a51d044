"""The words of a text, as texts are compared; of a text with few spaces its characters."""

from __future__ import annotations

import re

NO_WORD = re.compile(r"[^\w\s]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese characters, written without spaces."""
_ASCII_NO_WORD = "".join(one for one in map(chr, range(128)) if NO_WORD.match(one)).encode()
_LONG = 20
"""Characters a word has on average in a text with few spaces, such as JSON on one line."""
_FEWEST = 100
"""Characters that such a text has."""


def words_of(normal: str) -> list[str]:
    """Return the words of a normalised text without punctuation.

    A character of a script without spaces is a word, and so is each of a long word in a text that
    has hardly any spaces.
    """
    if normal.isascii():  # the same by a table, in a tenth of the time
        words = normal.encode().translate(None, _ASCII_NO_WORD).decode().split()
    else:
        words = _UNSPACED.sub(r" \g<0> ", NO_WORD.sub("", normal)).split()
    if len(normal) >= _FEWEST and len(normal) > _LONG * len(words):
        return [one for word in words for one in (word if len(word) > _LONG else (word,))]
    return words
