"""The sentences of reasons; the values are what other tests compare."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.skypilot import executor as words
from stratos.core.reasons import Reason

REASONS = [
    words.NoProgram("rsync"),
    words.NoSky("/opt/sky", "is version 0.11.2"),
    words.NoCloud(),
    words.NoPrice(),
]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_a_reason_is_a_sentence(reason: Reason, snapshot: SnapshotAssertion) -> None:
    assert str(reason) == snapshot
