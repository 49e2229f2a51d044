"""Signals that stop a training: finish the step, save a checkpoint, exit."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Ctrl-C; a server that is taken away; a terminal that is closed."""
_LEAST_PATIENCE, _MOST_PATIENCE = 2.0, 10.0
"""Seconds that the step in hand gets to end behind Ctrl-C; one that takes more than the latter is
not waited for."""


class Interrupts:
    """Notes a signal for the end of the step; Ctrl-C again, or a step that is too long, ends it.

    A server that is taken away leaves time for a long step, a person at a keyboard does not.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patience_seconds = _LEAST_PATIENCE
        # Those of before the training: Lightning's own would hold its trainer for ever.
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._listens = False
        self._timer: threading.Timer | None = None

    def listen(self) -> None:
        """Take the signals over, if this thread may; what `nohup` ignores stays ignored."""
        if threading.current_thread() is threading.main_thread():
            self._listens = True
            for number, before in self._before.items():
                if before is not signal.SIG_IGN or number == signal.SIGINT:
                    signal.signal(number, self._note)

    def expect(self, step_seconds: float) -> None:
        """Take note of how long a step takes."""
        patience = max(_LEAST_PATIENCE, 2 * step_seconds)
        self.patience_seconds = patience if patience <= _MOST_PATIENCE else _LEAST_PATIENCE

    def expect_measurement(self) -> None:
        """Take note that the student is measured, which a signal ends behind a token or a row."""
        self.patience_seconds = _MOST_PATIENCE

    def close(self) -> None:
        """Give the signals back."""
        self.wait_for_end()
        if self._listens:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._listens = False

    def wait_for_end(self) -> None:
        """Let what is done now take its time: a checkpoint is being written."""
        if self._timer is not None:
            self._timer.cancel()

    def leave(self) -> None:
        """End as the signal wants it.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            SystemExit: it was another.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        # Another process that trains along may have been told, and not this one.
        raise SystemExit(128 + (self.received or signal.SIGTERM))

    def _note(self, number: int, _: Any) -> None:
        again = self.received is not None
        self.received = number if self.received is None else self.received
        if number != signal.SIGINT:
            return
        if again:
            self.wait_for_end()
            raise KeyboardInterrupt
        self._timer = threading.Timer(self.patience_seconds, os.kill, (os.getpid(), signal.SIGINT))
        self._timer.daemon = True
        self._timer.start()
