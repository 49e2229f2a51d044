"""Texts within a few characters of others: typos, and copies with one number changed.

A text of `n` characters cut into `d + 1` parts keeps one part whole under `d` edits, and no
character moves by more than `d` places. So texts that have such a part at such a place are the
candidates (Li, Deng, Wang, Feng: Pass-Join, VLDB 2011), and the distance of each is counted bit by
bit (Myers, JACM 1999; Hyyrö 2001).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from stratos.tasks.dedup.hashes import normalised

MOST_EDITS = 3
"""Characters that are replaced, added or left out."""
CHARACTERS_AN_EDIT = 10
"""Of a text, for each edit: shorter ones are near no other."""
_LONGEST = 1000
"""Characters of a text that is compared."""
_MOST_CANDIDATES = 40
"""Texts that one text is compared with: those of one template may all have a part in common."""


class NearTexts:
    """Tells whether a text is within a few characters of one of some texts.

    Args:
        texts: to compare with; case and spacing do not count.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = list(dict.fromkeys(filter(_is_compared, map(normalised, texts))))
        self._lengths = {len(text) for text in self._texts}
        self._with: dict[tuple[int, int, str], list[int]] = {}
        for number, text in enumerate(self._texts):
            for index, start, end in _parts(len(text)):
                self._with.setdefault((len(text), index, text[start:end]), []).append(number)

    def has_near(self, text: str) -> bool:
        """Return whether one is within `edits_of` characters; after many candidates, False."""
        text = normalised(text)
        if not _is_compared(text):
            return False
        for number in islice(self._candidates(text), _MOST_CANDIDATES):
            candidate = self._texts[number]
            most = min(edits_of(len(text)), edits_of(len(candidate)))
            differing = _differing(text, candidate)
            if _least_distance(*differing) <= most and _distance(*differing) <= most:
                return True
        return False

    def _candidates(self, text: str) -> Iterator[int]:
        """Yield the texts that share a part, those of a rare part first: a template's are many."""
        seen: set[int] = set()
        for numbers in sorted(self._sharing(text), key=len):
            for number in numbers:
                if number not in seen:
                    seen.add(number)
                    yield number

    def _sharing(self, text: str) -> Iterator[list[int]]:
        most = edits_of(len(text))
        for length in range(len(text) - most, len(text) + most + 1):
            if length not in self._lengths:
                continue
            for index, start, end in _parts(length):
                for at in range(max(0, start - most), min(start + most, len(text)) + 1):
                    part = text[at : at + end - start]
                    if numbers := self._with.get((length, index, part)):
                        yield numbers


def edits_of(n_characters: int) -> int:
    """Return by how many characters a text may differ."""
    return min(MOST_EDITS, n_characters // CHARACTERS_AN_EDIT)


def _is_compared(text: str) -> bool:
    return edits_of(len(text)) > 0 and len(text) <= _LONGEST


def _parts(length: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the parts that a text of some length is cut into."""
    n = edits_of(length) + 1
    for index in range(n):
        yield index, index * length // n, (index + 1) * length // n


def _positions(text: str) -> dict[str, int]:
    """Return each character to the bits of its places."""
    positions: dict[str, int] = {}
    for index, character in enumerate(text):
        positions[character] = positions.get(character, 0) | 1 << index
    return positions


def _differing(text: str, candidate: str) -> tuple[str, str]:
    """Return two texts without the beginning and the end that they share."""
    n = _n_shared(text, candidate)
    text, candidate = text[n:], candidate[n:]
    n = _n_shared(text[::-1], candidate[::-1])
    return text[: len(text) - n], candidate[: len(candidate) - n]


def _n_shared(text: str, candidate: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(text, candidate, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(text), len(candidate)))


def _least_distance(text: str, candidate: str) -> int:
    """Return a lower bound of the edit distance: characters that only one of them has."""
    counts, of_candidate = Counter(text), Counter(candidate)
    return max((counts - of_candidate).total(), (of_candidate - counts).total())


def _distance(text: str, candidate: str) -> int:
    """Return the edit distance of two texts.

    Bit `i` of `up` and `down` is whether the distance of the first `i + 1` characters of the text
    is by one more, or less, than that of the first `i`.
    """
    n = len(text)
    if not n:
        return len(candidate)
    positions = _positions(text)
    mask, last = (1 << n) - 1, 1 << (n - 1)
    up, down, distance = mask, 0, n
    for character in candidate:
        same = positions.get(character, 0)
        zero = ((((same & up) + up) ^ up) | same | down) & mask
        more, less = down | (~(zero | up) & mask), up & zero
        distance += bool(more & last) - bool(less & last)
        more = (more << 1 | 1) & mask
        less = less << 1 & mask
        up, down = less | (~(zero | more) & mask), more & zero
    return distance
