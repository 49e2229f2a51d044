"""The sentences of the reasons of `stratos/models`."""

from sentences import sentences

from stratos.models import words


def test_every_reason_is_a_sentence(snapshot):
    assert sentences(words) == snapshot
