"""Every reason of the room in words: what a reader meets, once."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.logs import words
from stratos.core.reasons import Reason

REASONS = (
    *words.Doubt,
    words.FieldOfWrongType("TypeError"),
    words.OnlyCalls("a b.jsonl", 327, "'a b.jsonl'"),
    words.FilesLeftOut("a.jsonl", 1),
    words.FilesLeftOut("a.jsonl", 1200),
    words.CallsNotLearnt("a.jsonl", 1),
    words.CallsNotLearnt("a.jsonl", 30),
    words.OtherWorkloads("a.jsonl", "w1", 1),
    words.OtherWorkloads("a.jsonl", "w1", 30),
    words.DatedSystems("a.jsonl", 5, 85),
    words.OtherSystems("a.jsonl", 5, 85),
    words.OneSession("a.jsonl", 80),
    words.SecretsReplaced(1),
    words.SecretsReplaced(2),
    words.AnswersNotUsed("a.jsonl", {words.Doubt.REFUSED: 2, words.Doubt.LOOPS: 1}),
    words.AnswersNotUsed("a.jsonl", {words.Doubt.REFUSED: 1}, 0),
    words.LaterRowsRepeat("a.jsonl", 160, 400),
    words.NoLog(),
    words.NoCard("gpt-x", "logged_model"),
    words.NoCard("", "logged_model"),
)


def test_every_reason_is_here() -> None:
    classes = {
        one
        for one in vars(words).values()
        if isinstance(one, type) and issubclass(one, Reason) and one is not Reason
    }
    assert classes == {type(one) for one in REASONS}


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: type(one).__name__)
def test_a_reason_in_words(reason: Reason, snapshot: SnapshotAssertion) -> None:
    assert str(reason) == snapshot
