"""Every reason of the room in words: what a reader meets, once."""

import pytest

from stratos.contrib.sql import same_rows as words
from stratos.core.extras import ROOT

REASONS = (
    words.QueryFails("no such table: order"),
    words.DuckDbIsMissing(),
    words.EmptyGolds("shop.db", {"validation": 0, "test": 3}, {"validation": 9, "test": 1200}),
    words.EmptyGolds("shop.db", {"validation": 1, "test": 3}, {"validation": 9, "test": 12}),
)


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: type(one).__name__)
def test_a_reason_in_words(reason, snapshot):
    assert str(reason).replace(str(ROOT), ".") == snapshot
