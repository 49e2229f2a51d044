"""What the stages of a run share: its folder, config, money, warnings, and the records by now.

What a run is doing right now is in a file of its folder, too: how far, the curve so far, samples.
Other processes read it: `stratos status`, and the page that shows a run while it works. Results
never depend on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stratos.config import Config
from stratos.core.atomic_files import never_made_again, write_atomically
from stratos.core.errors import StratosError
from stratos.core.redact import redact_text
from stratos.executors import submission
from stratos.executors.submission import Submission
from stratos.ledger import Ledger
from stratos.records import CurvePoint, Plan, from_json, to_json
from stratos.run import resume
from stratos.run.console import Console, Pace
from stratos.run.resume import Stage
from stratos.tracking.tracker import Tracker

LOCK = ".lock"


class FolderGoneError(StratosError):
    """The run folder was deleted, replaced or emptied while a command worked in it."""


class RunFolder:
    """A run folder as it was when a command took it.

    Its lock file stands for it: the command keeps that file open, so that no other file gets its
    inode, and a new folder of the same name holds another one or none. The inode of the folder
    itself is not compared: overlay and FUSE file systems may give a folder a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.how_to_go_on: Callable[[], str] = _begin_again
        """Says what to type once the folder is gone."""
        self._lock = folder / LOCK
        self._identity: tuple[int, int] | None = None
        """Of the lock file; None where there is none, as on Windows."""
        with contextlib.suppress(FileNotFoundError):
            self._identity = _identity(self._lock)
        self._records: set[str] = set()

    def add_record(self, name: str) -> None:
        """Remember a file directly below the folder that no command deletes."""
        self._records.add(name)

    def is_gone(self) -> bool:
        """Return whether the folder was deleted, replaced or emptied."""
        return bool(self._loss())

    def check(self) -> None:
        """Check that the folder is the one that was taken, with all records.

        Raises:
            FolderGoneError: it is not.
        """
        if loss := self._loss():
            raise self._error(loss)

    def _error(self, loss: str) -> FolderGoneError:
        return FolderGoneError(
            f"The run folder {self.folder} is gone or was emptied while the command worked "
            f"({loss}). {self.how_to_go_on()}"
        )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Check the folder at the end of the block, and before an error of the block is raised.

        Within it, nothing is written where the folder was.

        Raises:
            FolderGoneError: the folder is gone, and the error may be a result of that.
        """
        try:
            with never_made_again(self.folder):
                yield
        except Exception as error:
            if not isinstance(error, FolderGoneError) and (loss := self._loss()):
                raise self._error(loss) from error
            raise
        self.check()

    def _loss(self) -> str:
        """Return what is lost; "" where nothing is."""
        if self._identity is None:
            if not _is_there(self.folder):
                return "there is no such folder"
        elif not _is_there(self._lock):
            return f"{LOCK} is not there any more"
        else:
            with contextlib.suppress(OSError):
                if _identity(self._lock) != self._identity:
                    return "another folder is in its place"
        missing = (name for name in sorted(self._records) if not _is_there(self.folder / name))
        return next((f"{name} is not there any more" for name in missing), "")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_there(path: Path) -> bool:
    """Return False only if a path is gone: a disk that does not answer has lost nothing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _begin_again() -> str:
    return (
        "Put it back as it was, or give the same command again: it starts from the beginning, "
        "and takes the answers of teachers from the cache. To go on from another machine or "
        "after a loss, keep a copy with paths.mirror=<URL>."
    )


def requested_stages(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those that come with one of them."""
    return frozenset(
        stage.name
        for stage in stages
        if stage.is_on(config) and {stage.name, stage.is_part_of} & {*config.stages}
    )


def needed_stages(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those whose records they take."""
    needed = set(requested_stages(config, stages))
    for stage in reversed(stages):
        if stage.name in needed:
            needed |= {*stage.after, *stage.uses}
    return frozenset(needed - {stage.name for stage in stages if not stage.is_on(config)})


class Warnings:
    """What the user should read: said once, and kept by stage for the report and a resumed run."""

    def __init__(
        self, path: Path, say: Callable[[str], None], folder: RunFolder | None = None
    ) -> None:
        """Go on with the warnings that an earlier run left at `path`.

        Args:
            path: of the file.
            say: shows a warning.
            folder: the run folder; nothing is written once it is gone.
        """
        self.path = path
        self._folder = folder
        self.stage = "start"
        self._say = say
        self._by_stage: dict[str, list[str]] = {}
        # A file that was cut short holds nothing worth stopping for.
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self._by_stage = from_json(path.read_bytes(), dict[str, list[str]])
        self._by_stage.pop("start", None)

    def begin(self, stage: str) -> None:
        """Forget what the last run of a stage warned of."""
        self.stage = stage
        self._by_stage.pop(stage, None)

    def add(self, text: str) -> None:
        """Say a warning, unless this stage said it already."""
        texts = self._by_stage.setdefault(self.stage, [])
        if text not in texts:
            texts.append(text)
            self._say(text)
            if self._folder is None or not self._folder.is_gone():
                write_atomically(self.path, to_json(self._by_stage))

    def all(self) -> list[str]:
        """Return every warning of the run, each once."""
        return list(dict.fromkeys(text for texts in self._by_stage.values() for text in texts))


@dataclass
class RunState:
    """A run in this process."""

    config: Config
    stages: Sequence[Stage[Any]]
    """All that there are, in order."""
    console: Console
    """Says what happens."""
    tracker: Tracker
    """Keeps metrics."""
    warnings: Warnings
    """Keeps what the user should read."""
    job: Submission | None = None
    """What this process was handed, where another one holds the run."""
    progress: ProgressFile | None = None
    """What others read while the run works; None in a job, whose run keeps it."""
    requested: frozenset[str] = field(init=False)
    """Stages that are asked for, and those that come with one of them."""
    ledger: Ledger = field(init=False)
    records: dict[str, Any] = field(default_factory=dict)
    """By stage: made now, or read."""
    marks: dict[str, str] = field(default_factory=dict)
    """Fingerprints of the records, by stage."""

    def __post_init__(self) -> None:
        folder = self.config.run_dir
        self.requested = requested_stages(self.config, self.stages)
        is_alone = self.job is None and not submission.has_any(folder)
        budget_usd = self.config.limits.budget_usd
        self.ledger = Ledger(folder / "ledger.jsonl", budget_usd, is_alone=is_alone)

    @property
    def plan(self) -> Plan | None:
        """The plan, once there is one."""
        return self.records.get("plan")

    def fingerprint(self, stage: Stage[Any], own: Any) -> str:
        """Return the fingerprint of all that a stage's record rests on.

        Args:
            stage: whose record it is.
            own: that record, where there is one.
        """
        return resume.fingerprint(stage, self.config, self.records, self.marks, own)

    def inputs(self, stage: Stage[Any], own: Any) -> dict[str, str]:
        """Return the same by key, so that a difference can be named."""
        return resume.named(resume.inputs_of(stage, self.config, self.records, self.marks, own))

    def inputs_now(self, stage: Stage[Any]) -> dict[str, str]:
        """Return them for the record that lies in the run folder."""
        stored = resume.find(stage, self.config.run_dir)
        return self.inputs(stage, None if stored is None else stored.record)


PROGRESS = "progress.json"
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


def read_progress(folder: Path) -> Progress | None:
    """Return how far a run is; None where it keeps no such file."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return from_json((folder / PROGRESS).read_bytes(), Progress)
    return None


class ProgressFile:
    """Keeps the file, at most once a second."""

    def __init__(self, folder: Path, is_gone: Callable[[], bool] = lambda: False) -> None:
        """Write into a run folder, unless that is gone."""
        self._path = folder / PROGRESS
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
