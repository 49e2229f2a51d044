"""The sentences of the room's reasons."""

from __future__ import annotations

from typing import Any

from stratos.core.reasons import Because
from stratos.distill import words
from stratos.distill.words import NotServed

NONE = words.NoGradientWorkers()
IGNORED = words.ScoringIgnored("http://host/v1")
REASONS = [
    NONE,
    words.ProcessesUnused(2, NONE),
    words.ProcessesGone(2, NONE),
    words.ProcessesBeyondCores(4, 2),
    words.ProcessesBeyondCores(2, 1),
    words.BeginningsShared(1_913, 599),
    words.BeginningsShared(1_913, 599, 300),
    words.BeginningsApart("MambaForCausalLM", False),
    words.BeginningsApart("LlamaForCausalLM", True),
    words.OtherToken(270, "st", "er"),
    words.OtherSplit("The quick brown fox jumps over the lazy dog, 1234567890 times."),
    words.OtherEnd(7),
    words.AlignedPlaces(),
    *NotServed,
    words.ServedTemperature(2.0),
    words.OnlyAnswers("MyTeacher"),
    IGNORED,
    words.ScoringRefused("http://host/v1", "HTTP 422"),
    words.OtherTokensScored("http://host/v1"),
    words.FewerTokens(20, 64),
    words.FewerTokens(1, 64),
    words.SignalTooDear(24_000, 1.25, 0.5, 9_600),
    words.ServedTopK("t"),
    words.PaidEachTime("t"),
    words.NoDistributions("t", IGNORED),
    words.LessSignal("t", words.FewerTokens(20, 64)),
    words.ShardAbsent(),
    words.ShardCorrupt(3, "/cache/x", "its header is cut"),
    words.UnknownParameter("jsd", "bete", ("beta",)),
    words.UnknownParameter("forward_kl", "beta", ()),
    words.ParameterOutOfRange("scale", 10.0, 0.5, 9.0),
    words.EmptyCheckpoint(),
    words.WrongChecksum("data.pkl"),
    words.CheckpointsAside("/run/a", "/run/a.other", words.OtherInputs.NO_SIGNAL),
    words.CheckpointsAside("/run/a", "/run/a.other", words.OtherInputs.CONFIG_OR_CORPUS),
    words.RowsTooLong(1),
    words.RowsTooLong(2),
    words.VocabularyCut(2_100, 49_152),
    words.LayersRemoved(20, 30, 149, 150, 200),
    words.LayersRemoved(30, 30, 150, 150, 200),
    words.LayersUnknown(30, 2, 200, 20),
    words.OutOfTime(3, 10),
    words.OfShallow(str(words.OutOfTime(3, 10))),
    words.AccurateEnough(3, 10, 0.985),
    words.NoBetter(9, 10, 5, 4),
    words.TeacherRowsLearnt(9_500, 500, 0.1, True, {"gold rows alone": 0.75, "corrected": 0.82}),
    words.TeacherRowsLearnt(900, 8, 1.0, False, {}),
    words.TeacherRowsLearnt(900, 80, 0.0, False, {"gold rows alone": 0.75}),
    words.CheckpointUnreadable("/run/step-4.ckpt", Because("File is not a zip file")),
]


def test_reasons_in_words(snapshot: Any) -> None:
    assert [str(reason) for reason in REASONS] == snapshot
