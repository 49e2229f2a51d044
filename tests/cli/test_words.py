"""Why a command line cannot be run, in words."""

from __future__ import annotations

from syrupy.assertion import SnapshotAssertion

from stratos.cli import words
from tests.sentences import sentences


def test_every_reason_is_a_sentence(snapshot: SnapshotAssertion) -> None:
    assert sentences(words) == snapshot
