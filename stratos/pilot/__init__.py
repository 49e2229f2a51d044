"""Short trainings before the plan, by the real stages: what accuracies are extrapolated from."""

from stratos.pilot.stage import pilot

__all__ = ["pilot"]
