"""A count and its noun agree."""

from __future__ import annotations

import pytest

from stratos.core.formats import counted


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


def test_what_has_one_reason_is_one_line_with_a_count() -> None:
    from stratos.core.formats import by_reason

    left_out = {f"s{i}": "needs 30 GiB" for i in range(20)} | {"t": "has no key", "u": "has no key"}
    assert by_reason(left_out) == [
        ("s0, s1, s2, s3 and 16 more (20 in all)", "needs 30 GiB"),
        ("t and u", "has no key"),
    ]
