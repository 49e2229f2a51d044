"""Count an item as the endpoint would answer it, which waits for the teacher for a while only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stratos.contrib.cascade.answered import ByTeacher, KeptPair
from stratos.contrib.cascade.config import CascadeConfig
from stratos.contrib.cascade.words import LateTeacher, SlowTeacher
from stratos.core.reasons import Reason
from stratos.records import ModelCard, Scorecard
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
    if took is not None and took.seconds > options.teacher_seconds:
        right = student and options.if_unavailable == "student"
    return KeptPair(
        id,
        chooses,
        None if confidence == -math.inf else confidence,
        student,
        right,
        None if took is None else price(card, took.input_tokens, took.output_tokens),
        None if took is None else took.seconds,
    )


def slowness(
    answers: Sequence[ByTeacher], options: CascadeConfig, scorecard: Scorecard
) -> Reason | None:
    """Return that the teacher takes longer than a request waits; None where it does not."""
    most = options.teacher_seconds
    seconds = [answer.took.seconds for answer in answers if answer.took is not None]
    n_late = sum(time > most for time in seconds)
    if n_late:
        return LateTeacher(n_late, len(seconds), most, options.if_unavailable)
    teacher = scorecard.score("teacher")
    if len(seconds) == len(answers) or teacher is None:
        return None
    mean = teacher.seconds / max(1, teacher.slice().n_items)
    return SlowTeacher(mean, most, options.if_unavailable) if mean > most else None
