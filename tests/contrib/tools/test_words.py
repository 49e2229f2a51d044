"""Every reason of the room in words: what a reader meets, once."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.tools import words
from stratos.core.reasons import Reason

REASONS = (
    words.NoTools("tools"),
    words.ToolsInferred("a.jsonl", ("find(city: string)", "book(people?: integer)")),
    words.UnknownTool(1, "x", ()),
    words.UnknownTool(2, "x", ("weather", "clock")),
    words.WrongArguments("$.city", "1 is not of type 'string'"),
    words.NestedTooDeep(),
    words.WrongCall(1, "weather", words.NestedTooDeep()),
    words.NoArgument("accept", 1, "nope", "clock", ()),
    words.NoArgument("optional", 1, "nope", "irrigate", ("bed", "minutes")),
    words.WrongAccept(1, "minutes", "ten", "irrigate"),
    words.NoCalls(),
    words.NotRecovered(),
    *(words.NotDrawn(problem, "NAME", "FORM") for problem in words.NoDraw),
    words.NeverDrawn({"irrigate": words.NotDrawn(words.NoDraw.NO_MATCH)}, 3),
    words.NeverDrawn({f"t{k}": words.NotDrawn(words.NoDraw.NO_MATCH) for k in range(22)}, 30),
    words.UncheckedTurns("a.jsonl", 5000),
    *words.TurnDoubt,
    words.DoubtfulTurns(
        "a.jsonl",
        (
            (1200, words.TurnDoubt.OTHER_TOOL, "line 3, message 5"),
            (20, words.TurnDoubt.RENAMED, "line 2, message 3"),
            (1, words.TurnDoubt.REPEATED, "line 9, message 7"),
        ),
    ),
    words.DoubtfulTurns("a.jsonl", ((20, words.TurnDoubt.RENAMED, "line 2, message 3"),)),
    words.DoubtfulTurns(
        "a.jsonl", ((3, words.TurnDoubt.SCHEMA, "line 2, message 3"),), n_relabelled=2
    ),
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
