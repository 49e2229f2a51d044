"""Processes that are number 1, as the first one of a container is."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

_UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@functools.cache
def _may() -> bool:
    try:
        return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a script as process 1 of its own; skip the test where that is not permitted."""
    if not _may():
        pytest.skip("unshare --pid is not permitted here")
    return subprocess.Popen(
        [*_UNSHARE, sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
