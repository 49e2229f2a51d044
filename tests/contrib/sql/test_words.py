"""Every reason of the room in words: what a reader meets, once."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.sql import words
from stratos.core.extras import ROOT
from stratos.core.reasons import Reason

REASONS = (
    words.QueryFails("no such table: order"),
    words.DuckDbIsMissing(),
    words.EmptyGolds("shop.db", {"validation": 0, "test": 3}, {"validation": 9, "test": 1200}),
    words.EmptyGolds("shop.db", {"validation": 1, "test": 3}, {"validation": 9, "test": 12}),
)


def test_every_reason_is_here() -> None:
    classes = {
        one
        for one in vars(words).values()
        if isinstance(one, type) and issubclass(one, Reason) and one is not Reason
    }
    assert classes == {type(one) for one in REASONS}


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: type(one).__name__)
def test_a_reason_in_words(reason: Reason, snapshot: SnapshotAssertion) -> None:
    assert str(reason).replace(str(ROOT), ".") == snapshot
