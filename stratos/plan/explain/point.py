"""A plan as a table row."""

from __future__ import annotations

from stratos.plan.explain.in_words import by_role
from stratos.plan.objective import Linear
from stratos.plan.problem import Choice
from stratos.records import PlanPoint


def as_point(choice: Choice, net: Linear) -> PlanPoint:
    """Return a plan as a row.

    Args:
        choice: the plan.
        net: what its net cost is.
    """
    predicted = choice.candidate.accuracy
    return PlanPoint(
        teacher=choice.candidate.teacher,
        student=choice.candidate.student,
        strategy=choice.candidate.strategy,
        accuracy=predicted.mean if predicted.is_known else 0.0,
        usd=choice.usd,
        hours=choice.hours,
        latency_ms=choice.latency_ms,
        servers={role: " + ".join(names) for role, names in by_role(choice).items()},
        accuracy_known=predicted.is_known,
        accuracy_low=predicted.low,
        accuracy_high=predicted.high,
        net_usd=net(choice),
        accuracy_tried=predicted.tried,
    )
