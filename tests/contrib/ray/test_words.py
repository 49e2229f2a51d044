"""The sentences of reasons; the values are what other tests compare."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.ray import nodes as words
from stratos.core.reasons import Reason

REASONS = [
    words.Unreachable("no Ray dashboard answers at http://127.0.0.1:8265 (Connection refused)."),
]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_a_reason_is_a_sentence(reason: Reason, snapshot: SnapshotAssertion) -> None:
    assert str(reason) == snapshot
