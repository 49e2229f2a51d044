"""Measure each reachable teacher on labelled validation items."""

from stratos.probe.stage import probe

__all__ = ["probe"]
