"""The sentences of the reasons of `stratos/teachers`."""

from syrupy.assertion import SnapshotAssertion

from stratos.teachers import words
from tests.sentences import sentences


def test_every_reason_is_a_sentence(snapshot: SnapshotAssertion) -> None:
    assert sentences(words) == snapshot
