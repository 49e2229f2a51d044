"""Warn if a plan's teacher retires before its serving ends."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from stratos.plan.problem import Choice, Problem


def end_of(problem: Problem, chosen: Choice) -> str:
    """Return the day from which a plan's teacher answers no more, "" where none is known."""
    card = problem.teachers.get(chosen.candidate.teacher)
    return card.retires if card is not None else ""


def ending(problem: Problem, chosen: Choice, today: datetime.date | None = None) -> Iterator[str]:
    """Yield what is to be said of a teacher that ends before the student's serving does.

    Args:
        problem: what was chosen from, with the cards of its teachers.
        chosen: the plan.
        today: the day of the plan; None takes the date of this machine.
    """
    ends = end_of(problem, chosen)
    if not ends:
        return
    now = today or datetime.date.today()
    served = chosen.hours + problem.limits.serve_hours
    if datetime.date.fromisoformat(ends) > now + datetime.timedelta(hours=served):
        return
    name = chosen.candidate.teacher
    source = problem.teachers[name].retires_source
    others = [
        other
        for other, card in sorted(problem.teachers.items())
        if other != name and (not card.retires or card.retires > ends)
    ]
    then = (
        f"Teachers of this run that last longer: {', '.join(others)}"
        if others
        else ("Choose one that lasts longer with teacher=…")
    )
    yield (
        f"The teacher {name} ends on {ends}{f' ({source})' if source else ''}, within the "
        f"{served:,.0f} h until the serving of this plan ends: its answers are not available after "
        f"that. {then}."
    )
