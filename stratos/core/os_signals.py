"""How a process begins and ends: by a signal, or when its parent is gone, once it has settled."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from stratos.core.environment import JOB_SECONDS
from stratos.core.machine import is_limited, n_cores

_LOOK_S = 0.5
GRACE_S = 10.0
"""How long a process may take to end that is told to."""


class Terminated(KeyboardInterrupt):
    """A server that is taken away, a container that is stopped, a terminal that is closed.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_code(self) -> int:
        """Return what a shell expects of a process that such a signal ended."""
        return 128 + self.number


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP end the main thread as Ctrl-C does: what is finished is kept.

    Under `nohup`, where SIGHUP is ignored, it stays ignored.
    """
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    for number in (getattr(signal, name) for name in names):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


def end_at_limit() -> None:
    """End this process by SIGTERM when its time as a job is up, whoever follows it or nobody."""
    if (text := os.environ.pop(JOB_SECONDS, None)) is not None:
        timer = threading.Timer(float(text), os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()


def end_with_parent(*, at_once: bool = False) -> None:
    """End this process when the one that started it is gone, even where that one was killed.

    It is told by SIGTERM, and ended with its process group if it does not end within `GRACE_S`.

    Args:
        at_once: leave the process without being told.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        if not at_once:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_S)
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_group(pid: int, kill: Callable[[], None]) -> None:
    """End a process and its process group for good.

    Args:
        pid: of the process, the leader of the group if it has one of its own.
        kill: ends the process alone.
    """
    try:
        os.killpg(pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        kill()


def _terminate(number: int, _: object) -> None:
    raise Terminated(number)


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
