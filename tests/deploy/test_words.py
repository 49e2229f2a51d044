"""What serving says."""

from __future__ import annotations

from typing import Any

from stratos.deploy.words import (
    AnswersDiffer,
    FormatBreaksLimit,
    FormatLosesTooMuch,
    FormatNotMade,
    KnownAnswers,
    LatencyMissed,
    OtherFormat,
)
from stratos.records import Export, Interval


def test_reasons_in_words(snapshot: Any) -> None:
    export = Export(
        "q8_0", 1, 1000, 990, Interval(0.941, 0.92, 0.95), Interval(0.95, 0.93, 0.97),
        Interval(0.9, 0.1, 1.7), 0.2, 1.0, 1.0, 1.0, 8, 1.0, 1.0,
    )  # fmt: skip
    lossy = FormatLosesTooMuch("q8_0", "llama.cpp")
    reasons = (
        FormatNotMade("q4_k_m", "llama.cpp"), lossy, FormatBreaksLimit(export, 0.945),
        OtherFormat(lossy, "f32"), OtherFormat(lossy, ""), AnswersDiffer(1, 12),
        AnswersDiffer(3, 12), LatencyMissed(812.4, 800.0),
        KnownAnswers("/my runs/bundle", 0, 0, 0), KnownAnswers("/my runs/bundle", 3, 1, 2),
        KnownAnswers("/my runs/bundle", 3, 2, 1, "q8_0"), KnownAnswers("/a/bundle", 3, 0, 3),
        KnownAnswers("/a/bundle", 3, 0, 1, "q8_0"), KnownAnswers("/a/bundle", 3, 0, 2, "q8_0"),
    )  # fmt: skip
    assert [f"{type(reason).__name__}: {reason}" for reason in reasons] == snapshot
