"""The sentences of the reasons of `stratos/core`."""

from sentences import sentences
from syrupy.assertion import SnapshotAssertion

from stratos.core import reasons


def test_every_reason_is_a_sentence(snapshot: SnapshotAssertion) -> None:
    assert sentences(reasons) == snapshot
