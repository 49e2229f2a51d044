"""What a cascade says."""

import math
from dataclasses import replace
from pathlib import Path

from stratos.contrib.cascade.record import Cascade, CascadeAt
from stratos.contrib.cascade.threshold import ALWAYS, UNREADABLE_ONLY
from stratos.contrib.cascade.words import (
    LateTeacher,
    MeasureUnknown,
    NoPromise,
    NothingServed,
    OutOfReach,
    ShareUnmeasured,
    StudentUnknown,
    TooFewItems,
    promised,
    refused,
)
from stratos.core.intervals import wilson
from stratos.records import Interval

PLAIN = Cascade(
    "", True, 0.95, 0.9, 300, 0.9, 0.97, probability=0.5, escalated=wilson(100, 300),
    measured=wilson(295, 300), n_measuring=300,
)  # fmt: skip
PRICED = replace(
    PLAIN, usd_per_1000=0.25, student_usd_per_1000=0.125, teacher_usd_per_1000=1.0,
    student_ms=10.0, teacher_ms=900.0, cascade_ms=310.0,
    month=CascadeAt(1000.0, 60.0, 30.0, 63.75), chosen_on="validation",
)  # fmt: skip
HALF = math.log(0.5)


def test_promises_in_words(snapshot):
    drawn = replace(PLAIN, n_answers=5, look=3, n_too_long=2, left_out=0.012)
    texts = {
        "plain": promised(PLAIN, HALF),
        "with all numbers": promised(PRICED, HALF),
        "by drawn answers, with all asides": promised(drawn, HALF),
        "always": promised(PLAIN, ALWAYS),
        "unreadable only": promised(PLAIN, UNREADABLE_ONLY),
        "nearly all": promised(replace(PLAIN, escalated=wilson(299, 300)), HALF),
        "all": promised(replace(PLAIN, escalated=Interval(1.0, 0.99, 1.0)), HALF),
    }
    assert texts == snapshot


def test_refusals_in_words(snapshot):
    few = replace(PLAIN, is_promised=False, n_choosing=20, n_measuring=20, n_needed=184)
    texts = {
        "too few": refused(few, None),
        "too few, of a run": refused(replace(few, most_promised=0.85), Path("my runs/one")),
        "fell short by chance": refused(replace(few, n_needed=30), None),
        "too few validation items": refused(replace(few, chosen_on="validation"), None),
        "no number is enough": refused(replace(few, n_needed=None), None),
    }
    assert texts == snapshot


def test_reasons_in_words(snapshot):
    reasons = (
        NoPromise("usd_per_day"), NothingServed(0.9), MeasureUnknown("agreement", "vLLM"),
        LateTeacher(3, 1000, 30.0, "student"), LateTeacher(1, 10, 0.1, "error"),
        StudentUnknown(), OutOfReach(0.93), ShareUnmeasured(Interval(0.2, 0.1, 0.4)),
        TooFewItems(46, 72), TooFewItems(46, None),
    )  # fmt: skip
    assert [f"{type(reason).__name__}: {reason}" for reason in reasons] == snapshot
