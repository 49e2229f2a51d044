"""How a process of Stratos begins and ends."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

from stratos.core.machine import is_limited, n_cores
from stratos.core.os_signals import end_as_by_ctrl_c


def prepare() -> None:
    """Set what is read when torch loads, and let every signal to end be one to settle first.

    OpenMP's threads wait for each other some thousand times a step; those that spin meanwhile take
    the cores from whoever they wait for, wherever another process wants them too. So they look
    1,000 times (about 25 microseconds) and then sleep; where torch comes with LLVM's or Intel's
    OpenMP, at once. In a container that may use less than it sees, there are no more threads than
    it may use cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    if is_limited():
        os.environ.setdefault("OMP_NUM_THREADS", str(n_cores()))
    # What is under way is settled, and what is finished kept, as behind Ctrl-C.
    end_as_by_ctrl_c()


def leave(code: int) -> NoReturn:
    """End at once: what is under way is settled, and nobody waits for threads and uploads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    logging.shutdown()
    os._exit(code)
