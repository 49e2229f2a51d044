"""Why a command line cannot be run, in words."""

from stratos.cli import words
from tests.sentences import sentences


def test_every_reason_is_a_sentence(snapshot):
    assert sentences(words) == snapshot
