"""Why an executor is none, and what a job lacks of the plan."""

from __future__ import annotations

from stratos.core.formats import counted
from stratos.core.reasons import Reason


class NoExecutor(Reason):
    """A class runs no jobs."""

    says = "is no executor."


class FewerNodes(Reason):
    """A job has fewer servers than the plan counts with."""

    executor: str
    """Choice of the group."""
    n_planned: int
    n_nodes: int

    def __str__(self) -> str:
        return (
            f"the plan counts with {counted(self.n_planned, 'server')}, and a job of executor="
            f"{self.executor} has {self.n_nodes}: it takes up to "
            f"{self.n_planned / self.n_nodes:g} times as long. Add plan to the stages to plan for "
            "what the job has."
        )
