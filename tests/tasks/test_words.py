"""Every reason of the tasks in words: what a reader meets, once."""

import pytest

from stratos.core.reasons import Reason
from stratos.tasks import words
from stratos.tasks.mahjong import engine as mahjong
from stratos.tasks.schema import words as schema

NOTHING = words.Listing((), 0, 0)
REASONS = (
    words.NoTask(("items", "messages", "parse", "score")),
    words.TaskLacks(("parse", "score")),
    words.Unreadable(),
    words.NotReadBack("x" * 70),
    words.NoPath(),
    words.PathEndsElsewhere("7", "8"),
    words.WrongStep("2 + 2", "5"),
    words.NeverReached("12"),
    *words.Leak,
    words.LineTooLong(17 * 2**20, 16 * 2**20),
    words.RowTooLong(),
    words.NotUtf8(),
    words.NotUtf8(15),
    words.NotJson("Expecting value", 3),
    words.UnreadableJson(),
    words.UnreadableJson("RecursionError"),
    words.JsonEndsHere(""),
    words.JsonEndsHere("Expecting value"),
    words.NoObject(),
    words.NoObject("[1]"),
    words.NotCsv("unexpected end of data"),
    words.Swapped("rows.jsonl", "answer", "text"),
    words.Swapped("rows.csv", "text", "label", 3),
    words.OtherFieldCount(1),
    words.LacksField("question|text", ()),
    words.LacksField("answer", ("question", "why")),
    words.EmptyField("answer"),
    words.OtherType("answer", "[1]", "a text"),
    words.AnswerTooLong(30_000, 20_000),
    words.UnknownSlice("", ("easy", "hard")),
    words.Contradiction(2, '"1" and "2"'),
    words.FileProblems("a.jsonl", words.Listing(("line 1: x",), 1, 3), NOTHING, "Mend them."),
    words.FileProblems("a.jsonl", NOTHING, words.Listing(("line 1: y",), 1, 1), "", "Answer them."),
    words.ToLabel(
        "a.csv", 900, "label|answer", "to_label.csv", 120, 40, 0.9, 0.8, "pseudo.least", True
    ),
    words.NoLabelYet("a.csv", "to_label.csv", 120),
    words.ToLabelUnreadable("a.csv", "to_label.csv", "Is a directory"),
    words.NearTest(40, 60),
    words.AnswersNotRead("b.jsonl", 1, "a.jsonl"),
    words.GoldNotRight("SameSet", 0.5, "a, b", "line 1 of a.jsonl"),
    words.HeldOutCopies("a.jsonl", 1),
    words.HeldOutCopies("a.jsonl", 1200),
    words.AnswersLikeIds("a.jsonl", "id", ("task.answer=x (3)", "task.answer=y (4)")),
    words.SeveralLanguages("a.jsonl", {"English": 1100, "German": 12}, 1112),
    words.TooFewRows("a.jsonl", {"train": 4, "validation": 1, "test": 2}, 2),
    words.MoreLabelsThanRows("a.jsonl", 6, 4, 8, 4),
    words.WideIntervals({"validation": 12, "test": 20}),
    words.TooFewToTell(19, 100),
    words.UnlearnableLabels({"c": 20}),
    words.UnusedLabels(("d",)),
    words.UnusedLabels(tuple("abcdefghij")),
    words.RareLabels({"c": 1, "d": 2}, 4),
    words.LikelyTypos((words.Typo("biling", 6, "billing", 194),)),
    words.MergedSpellings("a.jsonl", {"Late": {"Late": 197, "late": 3}}),
    schema.NoSchema("[1]"),
    schema.InvalidSchema("$.type", "'objekt' is not valid"),
    schema.TooManyParts(20_000, 100),
    schema.TooManyFields(20_000),
    schema.TooManySteps(200_000),
    schema.AtPlace("$.a", schema.EndlessReference()),
    schema.EndlessReference(),
    schema.EndlessAnswer(),
    schema.UnknownKeyword("unevaluatedItems"),
    schema.DynamicReference("$dynamicRef"),
    schema.InnerId(),
    schema.OtherDocument("https://a.org/b"),
    schema.NoTarget("#/$defs/a"),
    schema.InfiniteMultiple(),
    schema.UnsafePattern("^(?!x)", "invalid perl operator"),
    schema.SlowPatterns(1.0),
    schema.NestedTooDeep(),
    schema.Mismatch("$.x", "1 is not of type 'string'"),
    mahjong.NoHand("no tiles"),
    mahjong.OtherTileCount("1m", 14),
    mahjong.BreaksRules(),
    *(mahjong.WrongPath(fault, "TEXT", "RIGHT") for fault in mahjong.Fault),
)


def test_every_reason_is_here():
    classes = {
        one
        for module in (words, schema, mahjong)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Reason) and one is not Reason
    }
    assert classes == {type(one) for one in REASONS}


@pytest.mark.parametrize("reason", REASONS, ids=lambda one: type(one).__name__)
def test_a_reason_in_words(reason, snapshot):
    assert str(reason) == snapshot
