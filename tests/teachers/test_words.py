"""The sentences of the reasons of `stratos/teachers`."""

from stratos.teachers import words
from tests.sentences import sentences


def test_every_reason_is_a_sentence(snapshot):
    assert sentences(words) == snapshot
