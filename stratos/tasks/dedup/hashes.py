"""Content hashes of questions, for splits, orders and ids; the words that texts are compared by.

A hash is a number of 64 bits, written as 16 hexadecimal digits where it is an id.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ID_DIGITS = 16
_ASCII_DROPPED = bytes(c for c in range(128) if unicodedata.category(chr(c))[0] in "PZC")
"""What a family does not tell apart, of ASCII: punctuation, spaces, control characters."""


_LOOK_ALIKE = str.maketrans(
    "авеікмнорстухѕјһԁԛԝӏαβεζηικμνορτυχ", "abeikmhopctyxsjhdqwlabezhikmvoptux"
)
"""Cyrillic and Greek letters as the Latin ones that they look like in one of their cases (UTS 39):
a copy of a question in which some were exchanged is a near duplicate."""


class _Letters(dict[int, int | None]):
    """For `str.translate`: drops what a family does not tell apart, learnt as it occurs."""

    def __missing__(self, code: int) -> int | None:
        is_letter = unicodedata.category(chr(code))[0] not in "PZC"
        self[code] = _LOOK_ALIKE.get(code, code) if is_letter else None
        return self[code]


_LETTERS = _Letters()


def normalised(text: str) -> str:
    """Return a text as it is compared: compatible characters, case and spacing made one."""
    if text.isascii():  # has one form only
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content_id(text: str) -> str:
    """Return the hash of a text that spelling, case and spacing leave alone."""
    return id_of(content_hash(normalised(text)))


def family_id(text: str) -> str:
    """Return the hash of a text that punctuation, spacing and letters that look alike leave alone.

    Questions that differ in nothing else are of one family, and so always of one split.
    """
    return id_of(family_hash(normalised(text)))


def content_hash(normal: str) -> int:
    """Return the hash of a text that is normalised."""
    return _hash(normal.encode("utf-8", "surrogatepass"))


def family_hash(normal: str) -> int:
    """Return the hash of a normalised text without punctuation and spaces, in Latin look-alikes."""
    if normal.isascii():
        data = normal.encode()
        return _hash(data.translate(None, _ASCII_DROPPED) or data)
    return content_hash(normal.translate(_LETTERS) or normal)


def id_of(number: int) -> str:
    """Return a hash as it is written."""
    return f"{number:0{_ID_DIGITS}x}"


def order_key(item_id: str, seed: int) -> str:
    """Return what items are sorted by to be shuffled: another order for another seed."""
    return blake2b(f"{seed} {item_id}".encode(), digest_size=8).hexdigest()


def order_keys(numbers: Iterable[int], seed: int) -> NDArray[np.uint64]:
    """Return `order_key` of many items as numbers, from the numbers that their ids are of."""
    import numpy as np

    start = f"{seed} "
    digests = [
        blake2b(f"{start}{number:0{_ID_DIGITS}x}".encode(), digest_size=8).digest()
        for number in numbers
    ]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


NO_WORD = re.compile(r"[^\w\s]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese characters, written without spaces."""
_ASCII_NO_WORD = "".join(
    character for character in map(chr, range(128)) if NO_WORD.match(character)
).encode()
_LONG = 20
"""Characters a word has on average in a text with few spaces, such as JSON on one line."""
_FEWEST = 100
"""Characters that such a text has."""


def words_of(normal: str) -> list[str]:
    """Return the words of a normalised text without punctuation, in Latin look-alikes.

    A character of a script without spaces is a word, and so is each of a long word in a text that
    has hardly any spaces.
    """
    if normal.isascii():  # the same by a table, in a tenth of the time
        words = normal.encode().translate(None, _ASCII_NO_WORD).decode().split()
    else:
        latin = NO_WORD.sub("", normal.translate(_LOOK_ALIKE))
        words = _UNSPACED.sub(r" \g<0> ", latin).split()
    if len(normal) >= _FEWEST and len(normal) > _LONG * len(words):
        return [part for word in words for part in (word if len(word) > _LONG else (word,))]
    return words
