"""The sentences of reasons; the values are what other tests compare."""

import pytest

from stratos.contrib.skypilot import executor as words

REASONS = [
    words.NoProgram("rsync"),
    words.NoSky("/opt/sky", "is version 0.11.2"),
    words.NoCloud(),
    words.NoPrice(),
]


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: type(reason).__name__)
def test_a_reason_is_a_sentence(reason, snapshot):
    assert str(reason) == snapshot
