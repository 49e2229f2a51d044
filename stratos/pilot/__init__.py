"""Pilot trainings before the plan, with the real stages, to extrapolate accuracy."""

from stratos.pilot.stage import pilot

__all__ = ["pilot"]
