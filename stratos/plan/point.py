"""A plan as a row: of the frontier, of the comparison of objectives, of what might be."""

from __future__ import annotations

from stratos.plan.objective import Linear
from stratos.plan.problem import Choice
from stratos.plan.words import by_role
from stratos.records import PlanPoint


def as_point(choice: Choice, loss: Linear) -> PlanPoint:
    """Return a plan as a row.

    Args:
        choice: the plan.
        loss: 1 minus the deployment score.
    """
    return PlanPoint(
        teacher=choice.candidate.teacher,
        student=choice.candidate.student,
        strategy=choice.candidate.strategy,
        accuracy=choice.accuracy,
        usd=choice.usd,
        hours=choice.hours,
        latency_ms=choice.latency_ms,
        score=1.0 - loss(choice),
        servers={role: " + ".join(names) for role, names in by_role(choice).items()},
        accuracy_known=choice.candidate.is_known,
    )
