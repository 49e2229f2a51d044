"""Make verified training data with the planned strategy."""

from stratos.synthesize.stage import synthesize

__all__ = ["synthesize"]
