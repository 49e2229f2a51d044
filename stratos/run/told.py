"""What a stage says that runs for another process: printed here, and told there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import override

from stratos.executors.events import LOG, NOTE, TICK, WARN
from stratos.run.console import Console
from stratos.tracking.tracker import Tracker


class ToldConsole(Console):
    """A console whose words about the running stage reach the process that shows the run."""

    def __init__(self, say: Callable[..., None], folder: Path) -> None:
        """Print as others do, and hand what is said on to `say`."""
        super().__init__(folder=folder)
        self._say = say
        self.is_at_work = False
        """Whether the stage runs: what is said of records before it, the other one says itself."""

    @contextmanager
    @override
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        with super().stage(name) as tick:

            def both(done: float, total: float, text: str = "") -> None:
                tick(done, total, text)
                self._say(TICK, done, total, text)

            self.is_at_work = True
            try:
                yield both
            finally:
                self.is_at_work = False

    @override
    def note(self, text: str) -> None:
        super().note(text)
        if self.is_at_work:
            self._say(NOTE, text)

    @override
    def warn(self, text: str) -> None:
        super().warn(text)
        if self.is_at_work:
            self._say(WARN, text)


class ToldTracker(Tracker):
    """Hands metrics of the running stage on to the process that has the W&B run."""

    def __init__(self, say: Callable[..., None], console: ToldConsole) -> None:
        """Hand metrics on to `say` while the stage of `console` runs."""
        super().__init__((), console.warn)
        self._say = say
        self._console = console

    @override
    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._console.is_at_work:
            self._say(LOG, dict(metrics), step)
