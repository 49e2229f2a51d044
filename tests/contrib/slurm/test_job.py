"""What runs on a node of SLURM, without SLURM: how it ends a stage when the time is over."""

from __future__ import annotations

import subprocess
import sys

import pytest

WARNED = """
import signal, sys
from stratos.contrib.slurm.queue import Work
work = Work((sys.executable, "-c", "import time; time.sleep(60)"), {})
def warn(*_):
    print(work.checkpoint().function.command[0] == sys.executable)
signal.signal(signal.SIGALRM, warn)
signal.setitimer(signal.ITIMER_REAL, 0.5)
print(work._run())
"""


def test_a_warning_reaches_a_stage_that_is_waited_for() -> None:
    """The handler runs in the midst of waiting for the process that it ends."""
    pytest.importorskip("submitit")
    done = subprocess.run(
        [sys.executable, "-c", WARNED], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.split() == ["True", "-15"]
