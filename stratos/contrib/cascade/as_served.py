"""Count an item as the endpoint would answer it, which waits for the teacher for a while only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stratos.contrib.cascade.answered import ByTeacher, KeptPair
from stratos.contrib.cascade.config import CascadeConfig
from stratos.contrib.cascade.words import LateTeacher
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


def slowness(answers: Sequence[ByTeacher], options: CascadeConfig) -> LateTeacher | None:
    """Return that the teacher takes longer than a request waits; None where it does not."""
    most = options.teacher_seconds
    n_late = sum(answer.took.seconds > most for answer in answers)
    return LateTeacher(n_late, len(answers), most, options.if_unavailable) if n_late else None
