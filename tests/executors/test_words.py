"""The sentences of reasons; the values are what other tests compare."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.core.reasons import Reason
from stratos.executors import words

REASONS = [
    words.NoExecutor(),
    words.FewerNodes("slurm", 4, 1),
]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_a_reason_is_a_sentence(reason: Reason, snapshot: SnapshotAssertion) -> None:
    assert str(reason) == snapshot
