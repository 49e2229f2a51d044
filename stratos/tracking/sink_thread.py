"""A thread for each tracking service: what hangs or fails there never holds the run back."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

from stratos.core.redact import redact_text
from stratos.tracking.sink import Sink, Start

_MOST_WAITING = 20_000
"""Calls that wait at most; further ones are dropped."""
_FREE_BYTES = 2**20
"""Below that the disk counts as full, and nothing is written to it."""


class SinkThread:
    """Hands calls on to one sink, in order. The first trouble is told, and the work goes on."""

    def __init__(self, sink: Sink, start: Start) -> None:
        self._sink = sink
        self._folder = start.folder
        self._waiting: Queue[tuple[str, Callable[[Sink], Any]] | None] = Queue(_MOST_WAITING)
        self._complaints: Queue[str] = Queue()
        self._has_complained = False
        self._n_dropped = 0
        self._is_open = True
        self._thread = threading.Thread(
            target=self._run, args=(start,), name=f"tracking {sink.title}", daemon=True
        )
        self._thread.start()

    def do(self, what: str, act: Callable[[Sink], Any]) -> None:
        """Have the sink do something soon; `what` says it in a complaint."""
        if not self._is_open:
            return
        try:
            self._waiting.put_nowait((what, act))
        except Full:
            self._n_dropped += 1

    def complaints(self) -> list[str]:
        """Return what there is to warn of since the last call."""
        found = []
        with suppress(Empty):
            while True:
                found.append(self._complaints.get_nowait())
        return found

    def finish(self, exit_code: int, longest_s: float) -> None:
        """End the run there, and wait for it for a while."""
        with suppress(Full):
            self._waiting.put_nowait(("finish the run", lambda sink: sink.finish(exit_code)))
            self._waiting.put_nowait(None)
        self._thread.join(longest_s)
        if self._thread.is_alive():
            self._complain(
                f"{self._sink.title} does not answer: part of what was tracked was not sent."
            )
        elif self._n_dropped:
            self._complain(
                f"{self._sink.title} was too slow: {self._n_dropped:,} calls were left out."
            )

    def _run(self, start: Start) -> None:
        try:
            self._sink.open(start, self._complaints.put)
        except Exception as error:  # a service raises whatever its host, the disk or the net does
            self._is_open = False
            self._complain(
                f"{self._sink.title} could not start ({one_line(error)}). Nothing is tracked "
                "there; logger=none asks for that."
            )
            return
        while (waiting := self._waiting.get()) is not None:
            what, act = waiting
            try:
                self._check_disk()
                act(self._sink)
            except Exception as error:
                self._complain(
                    f"{self._sink.title} could not {what} ({one_line(error)}); the run continues "
                    "without it."
                )

    def _check_disk(self) -> None:
        with suppress(FileNotFoundError):
            if shutil.disk_usage(self._folder).free < _FREE_BYTES:
                raise OSError(f"the disk of {self._folder} is full")

    def _complain(self, text: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._complaints.put(text)


def one_line(error: BaseException) -> str:
    """Return an error as one line without secrets."""
    return redact_text(" ".join(f"{type(error).__name__}: {error}".split()))[:200]


def in_sinks_folder(folder: Path) -> Path:
    """Return the folder below a run's where sinks without a service of their own write."""
    made = folder / "tracking"
    made.mkdir(parents=True, exist_ok=True)
    return made
