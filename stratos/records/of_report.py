"""Where the report lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """Where the page of the run lies."""

    path: str
    n_bytes: int
    seconds: float
