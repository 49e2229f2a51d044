"""Count an item as the endpoint would answer it, which waits for the teacher for a while only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stratos.config import CascadeConfig
from stratos.contrib.cascade.answered import ByTeacher, KeptPair
from stratos.records import ModelCard
from stratos.teachers.call_budget import price


def pair_of(
    id: str,
    chooses: bool,
    confidence: float,
    student: bool,
    by_teacher: ByTeacher,
    options: CascadeConfig,
    card: ModelCard,
) -> KeptPair:
    """Return an item as the endpoint would answer it, which waits so long and no longer."""
    took, right = by_teacher.took, by_teacher.right
    if took.seconds > options.teacher_seconds:
        right = student and options.if_unavailable == "student"
    return KeptPair(
        id,
        chooses,
        None if confidence == -math.inf else confidence,
        student,
        right,
        price(card, took.input_tokens, took.output_tokens),
        took.seconds,
    )


def late_said(answers: Sequence[ByTeacher], options: CascadeConfig) -> str | None:
    """Say that the teacher takes longer than a request waits; None where it does not."""
    most = options.teacher_seconds
    n_late = sum(one.took.seconds > most for one in answers)
    if not n_late:
        return None
    gets = "the student's answer" if options.if_unavailable == "student" else "an error"
    return (
        f"cascade: the teacher took longer for {n_late:,} of {len(answers):,} answers than the "
        "endpoint waits, and these count as what is given then. "
        f"cascade.teacher_seconds={most:g} is all that a request waits, and then it gets {gets}."
    )
