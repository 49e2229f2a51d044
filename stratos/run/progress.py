"""What a run is doing right now, in a file of its folder: how far, the curve so far, samples.

Other processes read it: `stratos status`, and the page that shows a run while it works. Results
never depend on it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.redact import redact_text
from stratos.records import CurvePoint, from_json, to_json

NAME = "progress.json"
_WRITE_S = 1.0
"""Seconds between two writes."""
_MOST_SAMPLES = 12
_MOST_POINTS = 400
"""Of the curve; of more, every second one is left out."""
_LONGEST = 300
"""Characters of a question or an answer."""


@dataclass(frozen=True)
class Sample:
    """One question, and what was answered to it just now."""

    stage: str
    model: str
    """Who answered: a teacher, a student; "" where the answer is the task's own."""
    question: str
    gold: str
    answer: str
    is_right: bool | None
    """None where nobody has scored it."""


@dataclass
class Progress:
    """How far a run is."""

    stage: str = ""
    """That works now; "" before the first."""
    share: float | None = None
    """Of the stage; None where that is not known."""
    text: str = ""
    began_s: float = 0.0
    """When the stage began, in seconds since the epoch."""
    written_s: float = 0.0
    """When this was written."""
    curve: list[CurvePoint] = field(default_factory=list)
    """Of the training."""
    samples: list[Sample] = field(default_factory=list)
    """The newest last."""
    left_s: float | None = None
    """Seconds that the part of the stage takes yet if it goes on as it went; None before that is
    known."""


class Pace:
    """How fast a stage goes on, part by part.

    A stage begins a new part of its work with a share of 0, or with a smaller one than before. What
    its earlier parts took, or what was prepared before the first item, is no part of its pace.
    """

    def __init__(self, now: float) -> None:
        """Begin with a stage.

        Args:
            now: a clock's seconds, as everywhere here.
        """
        self._share, self._is_prepared = 0.0, True
        self._first_share, self._began = 0.0, now

    def tick(self, share: float, now: float) -> None:
        """Take the share that is done."""
        if not share:
            self._is_prepared = False
        elif share < self._share or not self._is_prepared:
            self._first_share, self._began, self._is_prepared = share, now, True
        self._share = share

    def left_s(self, now: float) -> float | None:
        """Return the seconds that the part takes yet; None before its pace is known."""
        done = self._share - self._first_share
        if not 0 < self._share < 1 or done <= 0:
            return None
        return (now - self._began) / done * (1 - self._share)


def read_progress(folder: Path) -> Progress | None:
    """Return how far a run is; None where it keeps no such file."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return from_json((folder / NAME).read_bytes(), Progress)
    return None


class ProgressFile:
    """Keeps the file, at most once a second."""

    def __init__(self, folder: Path, is_gone: Callable[[], bool] = lambda: False) -> None:
        """Write into a run folder, unless that is gone."""
        self._path = folder / NAME
        self._is_gone = is_gone
        self._progress = Progress()
        self._pace = Pace(time.time())
        self._samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self._lock = threading.Lock()

    def begin(self, stage: str) -> None:
        """Turn to a stage."""
        now = time.time()
        curve = [] if stage == "distill" else self._progress.curve
        self._progress = Progress(stage, began_s=now, curve=curve)
        self._pace = Pace(now)
        self._write(now)

    def tick(self, done: float, total: float, text: str = "") -> None:
        """Say how far the stage is."""
        self._progress.share = min(1.0, done / total) if total else None
        self._pace.tick(self._progress.share or 0.0, time.time())
        self._progress.text = redact_text(text)
        self._write_soon()

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take a point of the training's curve out of its metrics."""
        values = {name.removeprefix("distill/"): value for name, value in metrics.items()}
        if self._progress.stage != "distill" or step is None or "loss" not in values:
            return
        curve = self._progress.curve
        curve.append(
            CurvePoint(
                step,
                int(values.get("tokens", 0)),
                values["loss"],
                values.get("validation_exact"),
                values.get("validation_loss"),
                values.get("learning_rate"),
                values.get("grad_norm"),
                values.get("tokens_per_s"),
            )
        )
        if len(curve) > _MOST_POINTS:
            is_kept = [i % 2 == 0 or point.exact is not None for i, point in enumerate(curve)]
            curve[:] = [point for point, keep in zip(curve, is_kept, strict=True) if keep]
        self._write_soon()

    def sample(
        self, model: str, question: str, gold: str, answer: str, is_right: bool | None = None
    ) -> None:
        """Show an answer that was just given."""
        question, gold, answer = map(_shortened, (question, gold, answer))
        stage = self._progress.stage
        self._samples.append(Sample(stage, model, question, gold, answer, is_right))
        self._write_soon()

    def remove(self) -> None:
        """Take the file away, behind a run that has ended well."""
        self._path.unlink(missing_ok=True)

    def _write_soon(self) -> None:
        if (now := time.time()) - self._progress.written_s >= _WRITE_S:
            self._write(now)

    def _write(self, now: float) -> None:
        if not self._lock.acquire(blocking=False):  # another thread is at it
            return
        try:
            self._progress.written_s, self._progress.left_s = now, self._pace.left_s(now)
            self._progress.samples = list(self._samples)
            if not self._is_gone():
                with contextlib.suppress(OSError):  # of a full disk the stages tell
                    write_atomically(self._path, to_json(self._progress), flushed=False)
        finally:
            self._lock.release()


def _shortened(text: str) -> str:
    line = redact_text(" ".join(text.split())).encode(errors="replace").decode()
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
