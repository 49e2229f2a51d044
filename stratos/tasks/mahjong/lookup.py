"""The look-up baseline: the waits of the nearest training hand.

Distance is Euclidean between counts of the 34 kinds, the least over the 48 ways to permute the
three suits and to mirror each; the answer is mapped back the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

from stratos.tasks.base import Item
from stratos.tasks.mahjong.tiles import Hand, text_to_hand, tiles_to_text


def nearest(train: Sequence[Item], items: Sequence[Item]) -> list[str]:
    """Return an answer for each item; ties go to the training item that comes first."""
    import numpy as np

    if not train:
        return [""] * len(items)

    def table(hands: list[Hand]) -> np.ndarray:
        return np.array([[n for counts in hand for n in counts] for hand in hands], np.float32)

    known = table([text_to_hand(item.question) for item in train])
    questions = table([text_to_hand(item.question) for item in items])
    norms = (known**2).sum(1)
    best = np.full(len(items), np.inf, np.float32)
    answers = [""] * len(items)
    for order, mirrors in product(permutations(range(3)), product((False, True), repeat=3)):
        columns = _columns(order, mirrors)
        distance = norms[None, :] - 2 * (questions[:, columns] @ known.T)
        closest = distance.argmin(1)
        least = distance[np.arange(len(items)), closest]
        for row in np.flatnonzero(least < best - 1e-3):
            best[row] = least[row]
            answers[row] = _map_back(train[closest[row]].answer, columns)
    return answers


def _columns(order: tuple[int, ...], mirrors: tuple[bool, ...]) -> list[int]:
    """Return which of the 34 kinds each kind of the mapped hand comes from."""
    columns = []
    for suit, mirrored in zip(order, mirrors, strict=True):
        ranks = list(range(9 * suit, 9 * suit + 9))
        columns += ranks[::-1] if mirrored else ranks
    return [*columns, *range(27, 34)]


def _map_back(answer: str, columns: list[int]) -> str:
    tiles = [
        (s, i) for s, counts in enumerate(text_to_hand(answer)) for i, n in enumerate(counts) if n
    ]
    kinds = [columns[9 * suit + rank] for suit, rank in tiles]
    return tiles_to_text(frozenset((kind // 9, kind % 9 + 1) for kind in kinds))
