"""Texts that begin alike: which of them share a beginning, so that most is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_SHORTEST = 16
"""Tokens below which a common beginning is not worth a pass of its own."""
_DEEPEST = 200
"""Groups within groups that are looked at."""

Group = tuple[list[int], int]
"""Which texts begin alike, and in how many tokens."""


def alike(texts: Sequence[Sequence[int]], cost: int = _SHORTEST) -> list[Group]:
    """Return the groups of texts whose beginnings, each computed once, save the most tokens.

    In the order of their tokens, texts that begin alike are neighbours. A run of them shares what
    all have in common, or is cut where neighbours share least and each part looked at for itself.
    One token at least of each text is left over.

    Args:
        texts: token ids of each.
        cost: of a beginning of its own, in tokens.
    """
    order = sorted(range(len(texts)), key=lambda text: list(texts[text]))
    shared = [_n_shared(texts[a], texts[b]) for a, b in pairwise(order)]

    def best(first: int, last: int, depth: int) -> tuple[int, list[Group]]:
        """Return the tokens saved, and the groups, of a run."""
        if first == last:
            return 0, []
        least = min(shared[first:last])
        saved, groups = 0, list[Group]()
        if depth < _DEEPEST:
            cuts = [i for i in range(first, last) if shared[i] == least]
            ends = zip([first, *(i + 1 for i in cuts)], [*cuts, last], strict=True)
            parts = [best(*end, depth + 1) for end in ends]
            saved = sum(n for n, _ in parts)
            groups = [group for _, several in parts for group in several]
        of_all = (last - first) * least - cost
        if least >= _SHORTEST and of_all > 0 and of_all >= saved:
            return of_all, [(order[first : last + 1], least)]
        return saved, groups

    return best(0, len(order) - 1, 0)[1] if order else []


def _n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return in how many first tokens two texts agree, short of the whole of either."""
    most = min(len(first), len(second)) - 1
    pairs = zip(first, second, strict=False)
    return min(most, next((n for n, (a, b) in enumerate(pairs) if a != b), most))
