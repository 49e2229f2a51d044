import random

import numpy as np

from stratos.models.kinds.tagger.extraction import folds_of, layouts_of
from stratos.models.kinds.tagger.tagged_text import read

TEMPLATES = [
    " ".join(f"{word}{k}" for word in ("alpha", "beta", "gamma", "delta", "epsilon")).translate(
        str.maketrans("0123456789", "zyxwvutsrq")
    )
    for k in range(10)
]


def test_texts_of_one_template_are_held_out_together():
    source = random.Random(0)
    kinds = [source.randrange(10) for _ in range(200)]
    layouts = layouts_of([read(f"{TEMPLATES[k]} {source.random()}") for k in kinds])
    pairs = {(kind, int(layout)) for kind, layout in zip(kinds, layouts, strict=True)}
    assert len(pairs) == len(set(kinds)) == len(set(layouts))
    folds, are_whole = folds_of(layouts, 4, seed=0)
    assert are_whole
    assert all(len(set(folds[layouts == layout])) == 1 for layout in set(layouts))
    assert set(folds) == {0, 1, 2, 3}


def test_rows_without_layouts_are_held_out_at_random():
    folds, are_whole = folds_of(layouts_of([read(f"word{k}") for k in range(40)]), 4, seed=0)
    assert not are_whole
    assert np.bincount(folds).tolist() == [10, 10, 10, 10]
