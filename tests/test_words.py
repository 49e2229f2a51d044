"""A count and its noun agree."""

from __future__ import annotations

import pytest

from stratos.words import counted


@pytest.mark.parametrize(
    ("n", "words", "spec", "said"),
    [
        (0, ("item",), "", "0 items"),
        (1, ("item",), "", "1 item"),
        (2, ("item",), "", "2 items"),
        (1, ("try", "tries"), "", "1 try"),
        (3, ("try", "tries"), "", "3 tries"),
        (1, ("item is", "items are"), "", "1 item is"),
        (2000, ("item is", "items are"), "", "2000 items are"),
        (2000, ("item",), ",", "2,000 items"),
        (1.0, ("hour",), "g", "1 hour"),
        (1.5, ("hour",), "g", "1.5 hours"),
        (1.04, ("item",), ".2g", "1 item"),  # what is read decides, not what was rounded
    ],
)
def test_a_count_and_its_noun_agree(n: float, words: tuple[str, ...], spec: str, said: str) -> None:
    assert counted(n, *words, spec=spec) == said
