"""The sentences of the reasons of a plan, in one snapshot."""

from dataclasses import replace

from stratos.core.reasons import Because
from stratos.plan import words
from stratos.records import Interval, Tried

KNOWN = Interval(0.02, 0.0, 0.06, "measured")
TRIED = replace(KNOWN, is_known=False, tried=Tried(0, 45, 1000))
UNKNOWN = Interval(0.0, 0.0, 1.0, is_known=False)
CUT = words.CutBrings(
    "smollm2",
    mb=(538.1, 428.4),
    hours=(0.31, 0.25),
    latencies_ms=(120.0, 101.0),
    usd=(1.2, 1.0),
    accuracies=(KNOWN, TRIED),
    fits=(True, True),
)
REASONS = (
    words.TooSlowHere(20_000_000, 31.4, 1.0),
    words.TooSlowHere(20_000_000, None, 1.0),
    words.TooBig("train", 112.34, "aws/us-east-1 p5", 640.0),
    words.TooSmall(869_504, 100_000_000, "high"),
    words.NoEngine((("vLLM", "a GPU"), ("transformers serve", "memory for the model"))),
    words.EngineLeftOut("llama.cpp", Because("It is not installed here.")),
    words.LosesTooMuch("stratos_1m", (("q4_k_m", 0.6), ("q8_0", 0.1)), 0.9),
    CUT,
    replace(CUT, usd=(0.0, 0.0), accuracies=(KNOWN, KNOWN), fits=(False, True)),
    words.RepeatsRows("gpt", 1200, 3.456),
    words.RepeatsRows("smollm2", 1, None),
    words.NodesUnknown("slurm", "aws", ("distill", "evaluate"), None),
    words.NodesUnknown("slurm", "aws", ("distill",), 2.5),
    words.TooManyRequests(1.0, 8, None, False),
    words.TooManyRequests(2000.0, 1, 5.0, True),
    words.AlmostNothing(KNOWN, "stratos_3m", 0.91),
    words.AlmostNothing(KNOWN, "smollm2", None),
    words.AlmostNothing(TRIED, "smollm2", None),
    words.AlmostNothing(UNKNOWN, "smollm2", None),
    words.HardlyLearnt("stratos_1m", KNOWN, None, "a larger student"),
    words.HardlyLearnt("stratos_1m", TRIED, 1200, "a larger student"),
)


def test_sentences(snapshot):
    assert [(type(reason).__name__, str(reason)) for reason in REASONS] == snapshot
