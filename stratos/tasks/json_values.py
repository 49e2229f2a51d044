"""The objects of a JSON array, or of several JSON texts behind each other, one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from stratos.core.reasons import Reason
from stratos.tasks.words import JsonEndsHere, NoObject, NotUtf8, RowTooLong, UnreadableJson

_CHUNK = 2**20
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,\[\ufeff]*")
_END = re.compile(r"[\s,\]]*")
_CLOSED = re.compile(r"\s*\]")


def is_values(head: bytes) -> bool:
    """Return whether a file begins with an array of objects, or an object of several lines."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return re.match(rb"\[\s*\{|\[\s*$|\{\s*\n|\[\s*\]", text) is not None


def values_in(file: IO[bytes], longest: int) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    """Yield where each object stands ("row 3") with it, or with what is wrong; then it ends.

    No more than an object and a chunk are held.

    Args:
        file: of JSON.
        longest: characters that an object may have.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    text, place, number, is_over = "", 0, 0, False
    while True:
        place = _behind(_BETWEEN, text, place)
        where = f"row {number + 1}"
        try:
            if place == len(text):
                raise json.JSONDecodeError("cut off", text, place)
            start = place
            value, place = _DECODER.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if _END.fullmatch(text, place) and is_over:
                return
            rest = len(text) - place
            if is_over or rest > longest:
                yield where, RowTooLong() if rest > longest else _problem(error, text)
                return
            try:
                chunk = file.read(max(_CHUNK, rest))
                is_over = not chunk
                text, place = text[place:] + decode(chunk, is_over), 0
            except UnicodeDecodeError:
                yield where, NotUtf8()
                return
            continue
        except (RecursionError, ValueError):
            yield where, UnreadableJson()
            return
        number += 1
        if place - start > longest:
            yield where, RowTooLong()
        else:
            yield where, value if isinstance(value, dict) else NoObject()
        place = _behind(_CLOSED, text, place)


def _behind(pattern: re.Pattern[str], text: str, place: int) -> int:
    """Return the place behind what stands at a place, if it does."""
    found = pattern.match(text, place)
    return found.end() if found else place


def _problem(error: json.JSONDecodeError, text: str) -> Reason:
    is_cut_off = error.pos >= len(text) - 1 or error.msg.startswith("Unterminated")
    return JsonEndsHere("" if is_cut_off else error.msg)
