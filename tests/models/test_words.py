"""The sentences of the reasons of `stratos/models`."""

from sentences import sentences
from syrupy.assertion import SnapshotAssertion

from stratos.models import words


def test_every_reason_is_a_sentence(snapshot: SnapshotAssertion) -> None:
    assert sentences(words) == snapshot
