"""The sentences of the reasons of `stratos/teachers`."""

from sentences import sentences
from syrupy.assertion import SnapshotAssertion

from stratos.teachers import words


def test_every_reason_is_a_sentence(snapshot: SnapshotAssertion) -> None:
    assert sentences(words) == snapshot
