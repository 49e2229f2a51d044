"""What the outermost ORDER BY of a query sorts by, so that rows of equal keys can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HIDDEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
"""Texts, quoted names and comments, in which no word of SQL stands."""
_WORDS = re.compile(
    r"[(),]|\border\s+by\b|\b(?:select|from|distinct|union|intersect|except|limit|offset|fetch)\b",
    re.IGNORECASE,
)
_WAY = re.compile(r"\s+(?:asc|desc|nulls\s+first|nulls\s+last)\s*$", re.IGNORECASE)
_NAMED = re.compile(r"\s+as\s+(\w+)\s*$", re.IGNORECASE)
_COMBINED = ("distinct", "union", "intersect", "except")


@dataclass(frozen=True)
class Keyed:
    """A query that also tells its keys."""

    query: str
    """The query with the keys as further columns."""
    columns: tuple[int, ...]
    """Keys that are columns of the query itself, from 0."""
    n_added: int


def is_ordered(query: str) -> bool:
    """Return whether the outermost query sorts its rows: an order stands in no bracket."""
    return any(word == "order by" for word, _, _ in _outermost(query))


def keyed(query: str) -> Keyed | None:
    """Return a query with the keys that it sorts by as its last columns; None if that is unclear.

    A key may be the number of a column, or what could stand in the list of columns as well.
    """
    words = _outermost(query)
    names = [word for word, _, _ in words]
    if "order by" not in names or any(name in names for name in _COMBINED):
        return None
    if names.count("select") != 1 or "from" not in names:
        return None
    at = names.index("order by")
    behind = words[at + 1 :]
    end = next((start for word, start, _ in behind if word != ","), len(query))
    commas = [start for word, start, _ in behind if word == "," and start < end]
    starts = [words[at][2], *(comma + 1 for comma in commas)]
    terms = [_term(query[a:b]) for a, b in zip(starts, [*commas, end], strict=True)]
    named = _named(query, words)
    columns = tuple(
        int(term) - 1 if term.isdigit() else named[term.lower()]
        for term in terms
        if term.isdigit() or term.lower() in named
    )
    added = [term for term in terms if not (term.isdigit() or term.lower() in named)]
    place = words[names.index("from")][1]
    more = "".join(f", {term}" for term in added)
    return Keyed(f"{query[:place].rstrip()}{more} {query[place:]}", columns, len(added))


def _named(query: str, words: list[tuple[str, int, int]]) -> dict[str, int]:
    """Return the new names of a query's columns, in small letters, with their places."""
    names = [word for word, _, _ in words]
    first, last = names.index("select"), names.index("from")
    commas = [start for word, start, _ in words[first:last] if word == ","]
    starts = [words[first][2], *(comma + 1 for comma in commas)]
    columns = [query[a:b] for a, b in zip(starts, [*commas, words[last][1]], strict=True)]
    if any(column.strip().endswith("*") for column in columns):
        return {}  # which stands for columns that are not counted here
    found = ((_NAMED.search(column), k) for k, column in enumerate(columns))
    return {name[1].lower(): k for name, k in found if name}


def _term(text: str) -> str:
    text = _HIDDEN.sub(
        lambda found: " " if found[0][:2] in ("--", "/*") else found[0], text
    ).strip()
    while (found := _WAY.search(text)) is not None:
        text = text[: found.start()]
    return text


def _outermost(query: str) -> list[tuple[str, int, int]]:
    """Return the words of the outermost query, in small letters, with where they start and end."""
    blank = _HIDDEN.sub(lambda found: " " * len(found[0]), query)
    depth, found = 0, []
    for word in _WORDS.finditer(blank):
        if word[0] in "()":
            depth += 1 if word[0] == "(" else -1
        elif depth == 0:
            found.append((" ".join(word[0].lower().split()), word.start(), word.end()))
    return found
