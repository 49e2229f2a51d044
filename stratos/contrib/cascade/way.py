"""A cascade as a way to have the requests answered, before there is a student to measure.

How many requests have to go to the teacher for a promised accuracy A depends on how well the
student knows what it does not know, which nobody knows before it is trained. So both ends are told,
with s and t the accuracies of student and teacher:

    e ≥ (A − s) / t          if the student is sure of all that it has right, and of nothing else
    e ≤ (A − s) / (t − s)    if its confidence tells nothing: then any request is as good as another
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stratos.contrib.cascade.words import OutOfReach, ShareUnmeasured, StudentUnknown
from stratos.records import Interval, Plan, Way


def cascade_way(accuracy: float | None, plan: Plan, hosted: Sequence[Way]) -> Way | None:
    """Return the cascade of a plan's student and teacher; None where none is asked for or priced.

    Args:
        accuracy: that is promised; None for no promise.
        plan: whose student and teacher they are.
        hosted: the priced models, the teacher among them or not.
    """
    teacher = next((way for way in hosted if way.name == plan.teacher), None)
    if accuracy is None or teacher is None or teacher.usd_per_answer is None:
        return None
    way = Way(
        name=f"cascade: {plan.student}, {plan.teacher} where it is unsure",
        is_student=False,
        accuracy=Interval(accuracy, accuracy, accuracy, "cascade.accuracy"),
        usd_per_answer=None,
        latency_ms=None,
        retires=teacher.retires,
        kind="promised",
    )
    student = plan.accuracy
    if not (student.is_known and student.is_share_known):
        return replace(way, why_not=str(StudentUnknown()))
    share = escalated(accuracy, student, teacher.accuracy)
    if share is None:
        best = student.mean + (1 - student.mean) * teacher.accuracy.mean
        return replace(way, why_not=str(OutOfReach(best)))
    price = teacher.usd_per_answer
    return replace(
        way,
        usd_per_answer=Interval(
            share.mean * price.mean, share.low * price.low, share.high * price.high, share.source
        ),
        latency_ms=None
        if teacher.latency_ms is None
        else plan.latency_ms + share.mean * teacher.latency_ms,
        usd_per_day=plan.servers_usd_per_day,
        why_not=str(ShareUnmeasured(share)),
    )


def escalated(accuracy: float, student: Interval, teacher: Interval) -> Interval | None:
    """Return the share of requests for the teacher; None where no share is enough as expected."""
    if accuracy <= student.mean:
        low, mean = 0.0, 0.0
    else:
        low = (accuracy - student.mean) / teacher.mean if teacher.mean else 2.0
        if low > 1 - student.mean:
            return None
        mean = _blind(accuracy, student.mean, teacher.mean)
        mean = (low + mean) / 2
    if accuracy > student.high and teacher.high:
        low = min(low, (accuracy - student.high) / teacher.high)
    else:
        low = 0.0
    high = _blind(accuracy, student.low, teacher.low)
    return Interval(mean, low, max(mean, high), "between a perfect confidence and a useless one")


def _blind(accuracy: float, student: float, teacher: float) -> float:
    """Return the share if it does not matter which requests go to the teacher."""
    if accuracy <= student:
        return 0.0
    return min(1.0, (accuracy - student) / (teacher - student)) if teacher > student else 1.0
