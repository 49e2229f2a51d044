"""Verified training data, made by the strategy that the plan chose."""

from stratos.synthesize.stage import synthesize

__all__ = ["synthesize"]
