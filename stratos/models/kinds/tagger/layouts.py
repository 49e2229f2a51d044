"""Layouts of texts, held out whole, so that cross-validation measures layouts it has not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from stratos.models.kinds.tagger.tagged_text import Document

_FRAME = 4
"""Common words of a text below which it has no layout."""
_ALIKE = 0.5
"""Cosine of two texts of one layout."""


def layouts_of(documents: Sequence[Document]) -> np.ndarray:
    """Return the number of each document's layout, by the words that many documents share.

    This is leader clustering by cosine; a text without a layout is one of its own.
    """
    bags = [
        sorted(
            {
                w.lower()
                for w, k in zip(d.tokens, d.kinds, strict=True)
                if k == "word" and w.isalpha()
            }
        )
        for d in documents
    ]
    counts = Counter(word for bag in bags for word in bag)
    common = sorted(w for w, n in counts.items() if n >= max(3, 0.01 * len(documents)))
    frame = {word: number for number, word in enumerate(common)}
    leaders, sums = np.zeros((0, len(frame))), list[np.ndarray]()
    layouts = np.empty(len(documents), dtype=np.int64)
    for row, bag in enumerate(bags):
        ids = [frame[word] for word in bag if word in frame]
        vector = np.zeros(len(frame))
        vector[ids] = 1 / max(np.sqrt(len(ids)), 1)
        likeness = leaders @ vector * (len(ids) >= _FRAME)
        layout = int(likeness.argmax()) if len(likeness) else 0
        if len(likeness) and likeness[layout] >= _ALIKE:
            sums[layout] = sums[layout] + vector
            leaders[layout] = sums[layout] / np.linalg.norm(sums[layout])
        else:
            layout = len(sums)
            sums.append(vector)
            leaders = np.vstack([leaders, vector])
        layouts[row] = layout
    return layouts


def folds_of(layouts: np.ndarray, n_folds: int, seed: int) -> tuple[np.ndarray, bool]:
    """Return the fold of each row, and whether whole layouts are held out.

    They are where enough layouts are large; else rows are, at random.
    """
    names, sizes = np.unique(layouts, return_counts=True)
    random = np.random.default_rng(seed)
    large = sizes >= max(5, len(layouts) // 100)
    if large.sum() < 2 * n_folds or sizes[large].sum() < 0.7 * len(layouts):
        return random.permutation(len(layouts)) % n_folds, False
    folds = {name: number % n_folds for number, name in enumerate(random.permutation(names))}
    return np.array([folds[layout] for layout in layouts]), True
