"""Every reason of the room in words: what a reader meets, once."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.sql import same_rows as words
from stratos.core.extras import ROOT
from stratos.core.reasons import Reason

REASONS = (
    words.QueryFails("no such table: order"),
    words.DuckDbIsMissing(),
    words.EmptyGolds("shop.db", {"validation": 0, "test": 3}, {"validation": 9, "test": 1200}),
    words.EmptyGolds("shop.db", {"validation": 1, "test": 3}, {"validation": 9, "test": 12}),
)


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: type(one).__name__)
def test_a_reason_in_words(reason: Reason, snapshot: SnapshotAssertion) -> None:
    assert str(reason).replace(str(ROOT), ".") == snapshot
