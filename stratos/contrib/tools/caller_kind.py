"""The kind of student that calls tools; what computes is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratos.models.kinds.student_kinds import Kind

if TYPE_CHECKING:
    from stratos.models.kinds.base import Learner
    from stratos.tasks.base import Task


class CallerKind(Kind):
    """Calls of tools, with values that the conversation offers."""

    name = "caller"
    answers = "calls of tools"

    def does(self, task: Task) -> bool:
        """Return whether a task has calls of tools as answers."""
        return task.calls_tools and task.has_rows

    def learns(self) -> Learner:
        """Return what learns it."""
        from stratos.contrib.tools.call_learner import CallerLearner

        return CallerLearner()
