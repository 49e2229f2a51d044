"""In which order workers get files of tests: the longest first, so that none waits at the end.

Files that share a cluster or a trained student go to one worker, which makes it once.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/contrib/slurm/", "tests/contrib/ray/", "tests/executors/")
"""Files that one worker gets, by how their paths begin."""
LONG = (
    "tests/contrib/slurm/", "tests/contrib/ray/", "tests/executors/", "tests/distill/",
    "tests/attack/", "tests/deploy/", "tests/test_", "tests/contrib/", "tests/synthesize/",
    "tests/probe/pilot/", "tests/evaluate/",
)  # fmt: skip
"""What takes longest, by how its path begins."""


class LongFirst(LoadFileScheduling):
    """Hands out whole files, or those of `TOGETHER`, in the order of `by_length`."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # files of many tests first, however short they are

    def _split_scope(self, nodeid: str) -> str:
        path: str = super()._split_scope(nodeid)
        return next((one for one in TOGETHER if path.startswith(one)), path)


def by_length(item: pytest.Item) -> int:
    """Return where a test stands among all."""
    ranks = (rank for rank, one in enumerate(LONG) if item.nodeid.startswith(one))
    return next(ranks, len(LONG))
