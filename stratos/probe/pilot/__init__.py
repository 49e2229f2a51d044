"""Pilot trainings before the plan, with the real stages, to extrapolate accuracy."""

from stratos.probe.pilot.stage import pilot

__all__ = ["pilot"]
