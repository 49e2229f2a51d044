"""Variables of the environment of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

JOB = "STRATOS_JOB"
"""Name of the job that this process is, where it is one."""
JOB_SECONDS = "STRATOS_JOB_SECONDS"
"""Seconds after which a job ends itself, where its engine has no time limit."""


@contextmanager
def without(names: Sequence[str]) -> Iterator[None]:
    """Let what is started in the block have none of some variables."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
