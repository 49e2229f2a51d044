"""The sentences of reasons; the values are what other tests compare."""

import pytest

from stratos.contrib.ray import nodes as words

REASONS = [
    words.Unreachable("no Ray dashboard answers at http://127.0.0.1:8265 (Connection refused)."),
]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_a_reason_is_a_sentence(reason, snapshot):
    assert str(reason) == snapshot
