"""What each reachable teacher can do, measured on labelled validation items."""

from stratos.probe.stage import probe

__all__ = ["probe"]
