"""A text as tokens, each described by its word, its shape and what stands around it.

A `Vocabulary` numbers the attributes of tokens, and places those of a token and of its surroundings
in slots ("two words before", "label in the same line", "cell above"), so that a linear model
scores a token by adding weights.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from stratos.tasks.readings import DATE, NUMBER, TIME

_RULED = re.compile(
    rf"(?P<mail>[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+)"
    rf"|(?P<date>{DATE})|(?P<time>{TIME})|(?P<number>{NUMBER})"
    r"|(?P<word>(?:[^\W\d_]\.){2,}"  # S.A., o.o.
    r"|(?=[\w\-/'&+]*\d)[^\W_](?:(?:[\w\-/'&+]|(?<=\d)\.(?=\d))*[^\W_])?"  # INV_9/K-8
    r"|[^\W\d_](?:[^\W\d_]|[\-'&])*[^\W\d_]|[^\W_])"
    r"|(?P<mark>-{2,}|={2,}|\*{2,}|_{2,}|[^\w\s]|_)",
    re.IGNORECASE,
)
_SPACED = re.compile(r"(?P<word>\S+)")
_GAP = re.compile(r"\s{2,}|\t|\|")


@dataclass(frozen=True)
class Document:
    """Tokens of a text; `starts`, `ends` and `columns` count characters, `lines` and `cells` up."""

    text: str
    starts: list[int]
    ends: list[int]
    kinds: list[str]
    lines: list[int]
    cells: list[int]
    columns: list[int]

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def tokens(self) -> list[str]:
        """The text of each token."""
        return [self.text[a:b] for a, b in zip(self.starts, self.ends, strict=True)]

    @cached_property
    def rows(self) -> dict[int, list[int]]:
        """Token numbers of each line that has tokens."""
        rows: dict[int, list[int]] = {}
        for token, line in enumerate(self.lines):
            rows.setdefault(line, []).append(token)
        return rows

    @cached_property
    def sorts(self) -> list[str]:
        """The sort of each token as a border of a span."""
        return [sort_of(word) for word in self.tokens]

    @cached_property
    def folded(self) -> str:
        """The text in lower case, as long as the text."""
        low = self.text.lower()
        return low if len(low) == len(self.text) else "".join(c.lower()[:1] for c in self.text)

    def span(self, first: int, last: int) -> str:
        """Return the text from token `first` to token `last`, both included."""
        return self.text[self.starts[first] : self.ends[last]]


def read(text: str, *, spaced: bool = False) -> Document:
    """Split a text into words, numbers, dates and marks, or at white space alone if `spaced`."""
    document = Document(text, [], [], [], [], [], [])
    cell, offset = 0, 0
    for line, content in enumerate(text.split("\n")):
        gaps = [gap.end() for gap in _GAP.finditer(content)]
        turn = 0
        for match in (_SPACED if spaced else _RULED).finditer(content):
            while turn < len(gaps) and gaps[turn] <= match.start():
                turn, cell = turn + 1, cell + 1
            document.starts.append(offset + match.start())
            document.ends.append(offset + match.end())
            document.kinds.append(match.lastgroup or "word")
            document.lines.append(line)
            document.cells.append(cell)
            document.columns.append(match.start())
        offset, cell = offset + len(content) + 1, cell + 1
    return document


@lru_cache(maxsize=65536)
def shape(word: str) -> str:
    """Return the shape of a word with runs shortened: `INV-9K8` is `X-0X0`, `Ltd` is `Xx`."""
    shapes = re.sub(r"[^\W\d_]", lambda m: "X" if m[0].isupper() else "x", word)
    return re.sub(r"(.)\1+", r"\1", re.sub(r"\d", "0", shapes))[:12]


@lru_cache(maxsize=65536)
def sort_of(word: str) -> str:
    """Return what a token is made of, in one character; the first of its marks if of marks."""
    if not any(c.isalnum() for c in word):
        return word[:1]
    if any(c.isdigit() for c in word):
        return "0"
    return "X" if word[0].isupper() else "x"


@lru_cache(maxsize=65536)
def _attributes(word: str, kind: str) -> tuple[str, ...]:
    """Return word, letters (the same after a swap), beginning, end, shape and kind of a token."""
    low = word.lower().strip(".,;:()\"'") or word
    if kind != "word" or "@" in word:  # of an address nothing is kept
        size = str(min(len(word), 8)) if kind == "number" else ""
        value = low if kind == "mark" or (kind == "number" and len(low) < 4) else ""
        named = f"w={value}" if value else ""
        return (named, "", "", "", f"s={shape(word)}", f"k={kind}{size}")
    ending = word[-1] if not word[-1].isalnum() else ""
    return (
        f"w={low}",
        f"l={low[0]}{''.join(sorted(set(low)))}" if low.isalpha() else "",
        f"p={low[:4]}" if len(low) > 4 else "",
        f"x={low[-3:]}" if len(low) > 3 else "",
        f"s={shape(word)}",
        f"k={kind}{min(len(low), 6)}{ending}",
    )


_WIDTH = 6
"""Attributes of a token."""
_IN_BAGS = 3
"""Attributes that bags of tokens use: the first ones."""
_OFFSETS = (0, -1, -2, -3, 1, 2)
_BAGS = (
    *(("left", 6), ("right", 4), ("above", 4), ("before", 4), ("after", 3), ("head", 4)),
    *(("word-1", 1), ("word-2", 1), ("word-3", 1), ("word+1", 1)),
)
"""Name and size of each bag."""
_N_PLACES = 9
N_LOCAL = len(_OFFSETS) * _WIDTH
"""Feature columns of a token and its neighbours; those of bags and places come behind them."""


class Vocabulary:
    """Numbers of attributes; 0 is none, and what too few training texts have."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._ids = {name: number for number, name in enumerate(self.names, 1)}
        self._cache: dict[tuple[str, str], tuple[int, ...]] = {}
        self.stride = max(64, len(self.names) + 1)  # 64: a place slot has room for its codes
        near = np.repeat(np.arange(len(_OFFSETS)), _WIDTH)
        bags = np.repeat(len(_OFFSETS) + np.arange(len(_BAGS)), [_IN_BAGS * n for _, n in _BAGS])
        places = len(_OFFSETS) + len(_BAGS) + np.arange(_N_PLACES)
        self._first_ids = np.concatenate([near, bags, places]) * self.stride
        self.size = (len(_OFFSETS) + len(_BAGS) + _N_PLACES) * self.stride
        """How many features there are: slots times attributes."""

    @classmethod
    def fitted(cls, documents: Sequence[Document], least: int) -> Vocabulary:
        """Number the attributes that at least so many documents have."""
        counts: Counter[str] = Counter()
        for document in documents:
            pairs = set(zip(document.tokens, document.kinds, strict=True))
            counts.update({name for pair in pairs for name in _attributes(*pair)})
        return cls(sorted(name for name, n in counts.items() if name and n >= least))

    def _encode(self, document: Document) -> np.ndarray:
        """Return attribute numbers, shape (tokens + 1, `_WIDTH`); the last row is no token."""
        rows = []
        for pair in zip(document.tokens, document.kinds, strict=True):
            row = self._cache.get(pair)
            if row is None:
                row = tuple(self._ids.get(name, 0) for name in _attributes(*pair))
                if len(self._cache) < 200_000:
                    self._cache[pair] = row
            rows.append(row)
        rows.append((0,) * _WIDTH)
        return np.array(rows, dtype=np.int64)

    def features(self, document: Document) -> np.ndarray:
        """Return feature numbers, shape (tokens, features), int32; 0 is none."""
        ids, n = self._encode(document), len(document)
        if not n:
            return np.zeros((0, len(self._first_ids)), np.int32)
        around = ids[_neighbours(document)].reshape(n, -1)
        bags = ids[_bags(document)][:, :, :_IN_BAGS].reshape(n, -1)
        grid = np.concatenate([around, bags, _places(document)], axis=1)
        return np.where(grid > 0, grid + self._first_ids, 0).astype(np.int32)


def _neighbours(document: Document) -> np.ndarray:
    """Return the token numbers at each of `_OFFSETS` in the same line, -1 for none."""
    tokens = np.arange(len(document))
    lines = np.array([*document.lines, -1])
    grid = tokens[:, None] + np.array(_OFFSETS)[None, :]
    grid = np.where((grid < 0) | (grid >= len(tokens)), -1, grid)
    return np.where(lines[grid] == lines[:-1, None], grid, -1)


def _headings(document: Document) -> dict[int, list[int]]:
    """Return for each line the words of the nearest earlier line that opens a block."""
    headings: dict[int, list[int]] = {}
    current: list[int] = []
    for line, tokens in document.rows.items():
        headings[line] = current
        first, last = document.tokens[tokens[0]], document.tokens[tokens[-1]]
        if last == ":" or first in ("[", "#") or (len(first) > 1 and not first[0].isalnum()):
            current = [t for t in tokens if document.kinds[t] == "word"] or current
    return headings


def _bags(document: Document) -> np.ndarray:
    """Return the token numbers in each bag of each token, -1 for none."""
    headings, order = _headings(document), list(document.rows)
    turns = {line: number for number, line in enumerate(order)}
    members = []
    for token, line in enumerate(document.lines):
        row, turn = document.rows[line], turns[line]
        index = token - row[0]
        before = document.rows[order[turn - 1]] if turn else []
        after = document.rows[order[turn + 1]] if turn + 1 < len(order) else []
        words = [t for t in row[max(0, index - 12) : index] if document.kinds[t] == "word"]
        ahead = [t for t in row[index + 1 : index + 7] if document.kinds[t] == "word"]
        bags = (
            row[max(0, index - 6) : index][::-1],
            row[index + 1 : index + 5],
            _above(document, token, before),
            before,
            after,
            headings[line],
            words[-1:],
            words[-2:-1],
            words[-3:-2],
            ahead,
        )
        padded = [(bag + [-1] * n)[:n] for (_, n), bag in zip(_BAGS, bags, strict=True)]
        members.append([member for bag in padded for member in bag])
    return np.array(members, dtype=np.int64)


def _above(document: Document, token: int, before: list[int]) -> list[int]:
    """Return the tokens of the line before that stand over the token's columns."""

    def columns(t: int) -> tuple[int, int]:
        return document.columns[t], document.columns[t] + document.ends[t] - document.starts[t]

    first, right = columns(token)
    return [t for t in before if columns(t)[0] < right + 2 and columns(t)[1] > first - 2]


def _places(document: Document) -> np.ndarray:
    """Return codes of where each token stands, each above 0 and below 64."""
    n = max(document.lines, default=0) + 1
    lines, cells = np.array(document.lines, np.int64), np.array(document.cells, np.int64)
    sizes = np.bincount(lines, minlength=n)[lines]
    starts, tokens = np.searchsorted(lines, lines), np.arange(len(lines))
    filled = np.bincount(lines, minlength=n) > 0
    blocks = np.cumsum(filled & ~np.concatenate([[False], filled[:-1]])) - 1
    columns = [
        np.minimum(lines, 6),
        np.minimum(n - 1 - lines, 6),
        np.minimum(8 * lines // n, 7),
        np.minimum(cells - cells[starts], 3),
        np.minimum(tokens - starts, 6),
        np.minimum(starts + sizes - 1 - tokens, 6),
        np.array([document.tokens[start] == ">" for start in starts], np.int64),
        np.minimum(blocks[lines], 7),
        np.minimum(sizes - 1, 11),
    ]
    return 1 + np.stack(columns, axis=1)
