"""Why a command line cannot be run, in words."""

from __future__ import annotations

from tests.sentences import sentences
from syrupy.assertion import SnapshotAssertion

from stratos.cli import words


def test_every_reason_is_a_sentence(snapshot: SnapshotAssertion) -> None:
    assert sentences(words) == snapshot
