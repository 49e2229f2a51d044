"""Count an item as the endpoint would answer it, which waits for the teacher for a while only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stratos.config import CascadeConfig
from stratos.contrib.cascade.answered import ByTeacher, KeptPair
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


def late_said(
    answers: Sequence[ByTeacher], options: CascadeConfig, scorecard: Scorecard
) -> str | None:
    """Say that the teacher takes longer than a request waits; None where it does not."""
    most = options.teacher_seconds
    known = [one.took.seconds for one in answers if one.took is not None]
    n_late = sum(one > most for one in known)
    gets = "the student's answer" if options.if_unavailable == "student" else "an error"
    more = f"cascade.teacher_seconds={most:g} is all that a request waits, and then it gets {gets}."
    if n_late:
        return (
            f"cascade: the teacher took longer for {n_late:,} of {len(known):,} answers than the "
            f"endpoint waits, and these count as what is given then. {more}"
        )
    teacher = scorecard.score("teacher")
    if len(known) == len(answers) or teacher is None:
        return None
    mean = teacher.seconds / max(1, teacher.slice().n_items)
    if mean <= most:
        return None
    return f"cascade: the teacher takes {mean:.1f} s for an answer on average. {more}"
