"""The planner: choose teacher, student, strategy and servers together (PuLP)."""

from stratos.plan.explain.show import frontier_table
from stratos.plan.stage import plan

__all__ = ["frontier_table", "plan"]
