"""How a job on a cluster of SkyPilot stands, from its launch until the cluster is gone.

What the node says is appended to the same files here; what it writes is copied from time to time,
each file whole or not at all. The record is kept aside until the cluster is gone. So whatever is
cut short, the run folder holds a state to go on from.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import TypeAlias

from stratos.contrib.skypilot.cluster import (
    TIMED_OUT,
    Cluster,
    Unreachable,
    base_of,
    exit_code,
    last_words,
    log_name,
    plain,
)
from stratos.core.atomic_files import STAGED, remove, write_atomically
from stratos.core.errors import CapacityError, StratosError
from stratos.executors.job import JobSpec, State, Status, events_path, killed_by
from stratos.executors.job_costs import ByteCounter

_GONE = 24
"""Exit code of rsync where a file was gone before it was read: a checkpoint that made room."""
_NOT_WHOLE = tuple(f"--exclude={name}" for name in STAGED)
_WRITTEN = {
    "probe": ("/probe/***",),
    "synthesize": ("/corpus/***", "/rows_to_label.jsonl"),
    "distill": ("/distill/***",),
    "evaluate": ("/evaluate/***",),
    "deploy": ("/bundle/***", "/deploy/***"),
}
"""Stage to what it writes in a run folder. All else is the command's, which may have made it again
since it was sent."""


Copy: TypeAlias = tuple[subprocess.Popen[bytes], Path]
"""A copy under way, and the file in which rsync says how far it is."""


def rules(stage: str) -> list[str]:
    """Return what rsync is told to copy of a run folder.

    What the stage has deleted there is deleted here: of its checkpoints two are kept.
    """
    written = [f"--include={pattern}" for pattern in _WRITTEN[stage]]
    return ["--delete-after", *_NOT_WHOLE, *written, "--exclude=/*"]


class Copies:
    """Copies of what a job writes on its node to the same paths here."""

    def __init__(self, spec: JobSpec, cluster: Cluster, every_s: float) -> None:
        """Go on with what is here.

        Args:
            spec: the job.
            cluster: whose one job it is.
            every_s: seconds between two copies of the files that are under way.
        """
        self._spec, self._cluster, self._every_s = spec, cluster, every_s
        self._counter = ByteCounter(spec.folder, spec.stage)
        self._began_at = float("-inf")
        self._copy: Copy | None = None
        """Of files, that is under way."""

    @property
    def events(self) -> Path:
        """What the job has said, as far as it is here."""
        return events_path(self._spec.folder, self._spec.stage)

    @property
    def log(self) -> Path:
        """What the job has printed, as far as it is here."""
        return self.events.with_name(log_name(self._spec.stage))

    def texts(self) -> None:
        """Bring what the job has said and printed since the last call.

        Raises:
            Unreachable: the node does not answer.
        """
        log = f"{self._cluster.name}:{base_of(self._cluster.name)}/{self.log.name}"
        words = ["--append", "--ignore-missing-args", log, f":{self.events}"]
        self._end(self._begin([*words, f"{self.events.parent}/"]))

    def some(self) -> None:
        """Begin to copy what the stage has written, where that is due.

        Raises:
            Unreachable: it is not known how to reach the node.
        """
        is_copying = self._copy is not None and self._copy[0].poll() is None
        if not is_copying and time.monotonic() > self._began_at + self._every_s:
            self._end_last()
            self._began_at = time.monotonic()
            self._copy = self._begin(self._files)

    def all(self) -> None:
        """Copy what the stage has written.

        Raises:
            Unreachable: it is not all here.
        """
        self._end_last()
        self._end(self._begin(self._files))

    def record(self, path: Path) -> None:
        """Copy the record of the stage to a path.

        Raises:
            Unreachable: it is not here.
        """
        source = self._spec.folder / f"{self._spec.stage}.json"
        self._end(self._begin([f"{self._cluster.name}:{source}", str(path)]))

    def stop(self) -> None:
        """Copy no more."""
        if self._copy is not None:
            self._copy[0].kill()
        self._end_last()

    @property
    def _files(self) -> list[str]:
        folder = f"{self._spec.folder}/"
        return [*rules(self._spec.stage), f"{self._cluster.name}:{folder}", folder]

    def _begin(self, words: list[str]) -> Copy:
        progress = self._counter.new_copy()
        return self._cluster.copy(words, progress), progress

    def _end(self, copy: Copy) -> None:
        """Wait for a copy, and count its bytes.

        Raises:
            Unreachable: not all is here.
        """
        process, progress = copy
        _, errors = process.communicate()
        self._counter.end_copy(progress)
        if process.returncode not in (0, _GONE):
            raise Unreachable(last_words(errors.decode(errors="replace")))

    def _end_last(self) -> None:
        """Wait for the copy that is under way; where it fails, the next one brings the rest."""
        copy, self._copy = self._copy, None
        if copy is not None:
            with contextlib.suppress(Unreachable):
                self._end(copy)


_UNAVAILABLE = "ResourcesUnavailableError"
"""How SkyPilot calls a server that no zone of the region has, or for which there is no quota."""
_LOOK_S, _ASK_S = 2.0, 15.0
"""Seconds between two looks at a node, and between two questions to SkyPilot."""
_SAVES_S = 90.0
"""How long a stage may take to save what it has done when it is told to end."""
_STARTS_S = 600.0
"""How long a node may take to begin with a job that was submitted."""
_SILENT_S, _INIT_S = 900.0, 180.0
"""How long a node may be silent before it is given up: one that the cloud calls up, any other."""
_DOWNS, _DOWN_S = 3, 10.0
"""Times that a cluster is ended where that fails, and seconds between them."""
_MORE_MEMORY = "Where its memory was at its end, type executor.instance_type=<one with more>."
_TOLD = (130, 143)
"""Exit codes of a stage that was told to end."""
_PHASES = {
    "dead": (State.LOST, "it was killed on {}"),
    "new": (State.RUNNING, "the job on {} is about to begin"),
    "setup": (State.RUNNING, "{} installs Stratos"),
}
"""State of a job on its node to how it stands, before its stage runs."""


class Following:
    """One job on its cluster, as this process knows it."""

    def __init__(
        self,
        spec: JobSpec,
        cluster: Cluster,
        server: str,
        is_spot: bool,
        every_s: float,
        is_planned: bool = True,
    ) -> None:
        """Know nothing yet.

        Args:
            spec: the job.
            cluster: whose one job it is.
            server: its server, for messages.
            is_spot: whether the cloud may take the server back.
            every_s: seconds between two copies of what the stage has written.
            is_planned: whether the server is that of the plan, and not another of the user's.
        """
        self.spec, self.cluster, self.place = spec, cluster, f"server {cluster.name}"
        self._server, self._is_spot, self._is_planned = server, is_spot, is_planned
        self._copies = Copies(spec, cluster, every_s)
        self._state = ""
        """See `Cluster.state`; "" while the node does not answer."""
        self._since: float | None = None
        self._looked_at = self._asked_at = self._read_at = float("-inf")
        self._answered_at = self._began_at = time.monotonic()
        self._has_all = False
        """Whether all that the stage has written is here, its record aside."""
        self._is_new = False
        """Whether it is launched now, and what an earlier job has said may be here."""

    # --- files of here --------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        """What the job prints; until it is launched, what SkyPilot says."""
        if self.cluster.launched() == 0:
            return self._copies.log
        return self.cluster.folder.with_suffix(".log")

    @property
    def _record(self) -> Path:
        """Where the record lies until the cluster is gone: no command takes it for its own."""
        return self.cluster.folder / f"{self.spec.stage}.json"

    @property
    def _cancelled(self) -> Path:
        """File that says that the job was told to end, to whoever else follows it."""
        return self.cluster.folder.with_name(f"{self.spec.stage}.cancelled")

    # --- from the launch to the end -------------------------------------------------------------

    def is_there(self) -> bool:
        """Return whether an earlier command's job is launched, runs, or has ended well.

        Raises:
            StratosError: nobody knows.
        """
        if self._record.exists() or self.cluster.is_launching():
            return True
        if self.cluster.launched() != 0:
            return False
        try:
            return self.cluster.record() is not None
        except Unreachable as error:
            raise StratosError(
                f"{self.spec.stage}: SkyPilot does not answer ({error}), so that it is not known "
                f"what became of {self.place}. Try {self.cluster.program} status, and give the "
                "same command again."
            ) from error

    def launch(self, task: Path, secrets: list[str]) -> None:
        """Begin to launch the cluster with its job."""
        self._cancelled.unlink(missing_ok=True)
        self._is_new = True
        self.cluster.launch(task, secrets, self.log)

    def save(self) -> None:
        """Have the stage save what it has done, and bring it back; as far as it goes."""
        if self.cluster.launched() != 0 or not self.spec.folder.is_dir():
            return
        with contextlib.suppress(Unreachable):  # what was brought back before is what there is
            self.cluster.end_stage()
            until = time.monotonic() + _SAVES_S
            while time.monotonic() < until:
                state = self.cluster.state()
                if state == "dead" or exit_code(state) is not None:
                    break
                time.sleep(1.0)
            self._copies.all()

    def tell_others(self) -> None:
        """Let whoever else follows the job know that it is told to end."""
        if self.spec.folder.is_dir():
            self._cancelled.parent.mkdir(parents=True, exist_ok=True)
            self._cancelled.touch()

    def down(self) -> float | None:
        """End the cluster, and try again where that fails.

        Returns:
            When its server began to cost money, at the earliest; None where it had none.

        Raises:
            StratosError: it may still run, and cost money.
        """
        with contextlib.suppress(StratosError, OSError):  # a full disk: the server costs money yet
            self._copies.stop()
        why = ""
        for start in range(_DOWNS):
            if start:
                time.sleep(_DOWN_S)
            try:
                # One that did not end at once is not known to have had no server.
                has_server = self.cluster.down() or bool(why)
            except Unreachable as error:
                why = str(error)
            else:
                return self._since or (self.cluster.began_at() if has_server else None)
        name = self.cluster.name
        raise StratosError(
            f"{self.spec.stage}: THE SERVER {name} MAY STILL RUN AND COST MONEY: SkyPilot could "
            f"not end it ({why}). Type: {self.cluster.program} down {name}"
        )

    def finish(self) -> None:
        """Put the record in place, if there is one; forget the rest."""
        if self._record.exists():
            path = self.spec.folder / f"{self.spec.stage}.json"
            write_atomically(path, self._record.read_bytes())
        remove(self.cluster.folder)

    # --- how it stands --------------------------------------------------------------------------

    def status(self) -> Status:
        """Return how the job stands; changes no file."""
        if self._record.exists():
            return self._is(State.DONE, "it ended")
        if self._cancelled.exists():
            return self._is(State.CANCELLED, "it was told to end")
        if self.cluster.is_launching():
            return self._launching()
        if self.cluster.launched():
            return self._refused()
        if time.monotonic() < self._looked_at + _LOOK_S and self._state:
            return self._as_seen()
        self._looked_at = time.monotonic()
        try:
            self._state = self.cluster.state()
        except Unreachable as error:
            self._state = ""
            return self._silent(str(error))
        self._answered_at = time.monotonic()
        if self._state != "new":
            self._began_at = self._answered_at
        # It costs money from the launch on, at the earliest.
        self._since = self._since or self.cluster.began_at() or time.time()
        return self._as_seen()

    def _is(self, state: State, text: str) -> Status:
        return Status(state, text, self._since)

    def _launching(self) -> Status:
        """Return how the launch stands: the server is there as soon as the cloud names it."""
        self._answered_at = self._began_at = time.monotonic()
        if self._since is None and time.monotonic() > self._asked_at + _ASK_S:
            try:
                record = self.cluster.record()
            except Unreachable:
                record = None
            self._asked_at = time.monotonic()
            if record is not None and record.get("node_names"):
                self._since = self.cluster.began_at()
        state = State.PENDING if self._since is None else State.RUNNING
        last = _last_line(self.log)
        return self._is(state, f"{self.place} is launched{f': {last}' if last else ''}")

    def _refused(self) -> Status:
        """Return why the launch failed.

        Raises:
            CapacityError: the server of the plan cannot be had.
        """
        try:
            log = plain(self.log.read_text(errors="replace"))
        except OSError:
            log = ""
        if _UNAVAILABLE not in log:
            return self._is(State.FAILED, f"SkyPilot could not launch {self._server}")
        text = (
            f"SkyPilot gets no {self._server}: the cloud has none left now, or the account has no "
            f"quota for it. What each zone answered is in {self.log}."
        )
        offer = self.spec.offer
        if self._is_planned and offer is not None:
            key = f"{offer.cloud}/{offer.region}/{offer.instance_type}"
            raise CapacityError(f"{self.spec.stage}: {text}", key)
        return Status(State.STUCK, f"{text} Give the same command later, or name another server.")

    def _as_seen(self) -> Status:
        """Return how the job stood when the node was looked at last."""
        code = exit_code(self._state)
        if code is None:
            state, text = _PHASES.get(self._state, (State.RUNNING, "{}"))
            if self._state == "new" and time.monotonic() > self._began_at + _STARTS_S:
                state, text = State.LOST, "the job on {} was never begun"
            return self._is(state, text.format(self.place))
        if not self._has_all:
            text = f"the job on {self.place} has ended; its files are brought back"
            return self._is(State.RUNNING, text)
        if code == TIMED_OUT:
            return self._is(
                State.FAILED,
                "it reached its time limit. What it has done is kept; it goes on for longer with "
                "executor.hours=<hours>",
            )
        if code in _TOLD:
            return self._is(State.CANCELLED, "it was told to end")
        if (number := killed_by(code)) is not None:
            text = f"it was killed by signal {number} on {self.place}"
            return Status(State.LOST, text, self._since, _MORE_MEMORY)
        return self._is(State.FAILED, f"it ended with exit code {code}")

    def _silent(self, why: str) -> Status:
        """Return what SkyPilot knows of a node that does not answer."""
        unknown = self._is(State.UNKNOWN, f"{self.place} does not answer ({why})")
        if time.monotonic() < self._asked_at + _ASK_S:
            return unknown
        try:
            record = self.cluster.record(refresh=True)
        except Unreachable:
            return unknown
        finally:
            self._asked_at = time.monotonic()
        if record is None or record.get("status") == "STOPPED":
            what = "its spot server was taken back" if self._is_spot else "its server is gone"
            return self._is(State.LOST, f"{what} ({self.place})")
        patience = _SILENT_S if record.get("status") == "UP" else _INIT_S
        if time.monotonic() > self._answered_at + patience:
            return self._is(State.LOST, f"{self.place} does not answer any more ({why})")
        return unknown

    def bring(self, may_copy: bool = True) -> None:
        """Bring back what the job has said since the last look, and what is due of the rest.

        Args:
            may_copy: whether a copy of what it has done so far may begin.
        """
        if self._is_new:  # what an earlier job has cost is settled, by its last word, before this
            self._copies.events.unlink(missing_ok=True)
            self._copies.log.unlink(missing_ok=True)
            self._is_new = False
        if self._state in ("", "new") or self._read_at == self._looked_at:
            return
        try:
            self._copies.texts()  # all of them, where the last look has seen the end
            self._read_at = self._looked_at
            code = exit_code(self._state)
            if code is not None and not self._has_all:
                self._copies.all()
                if code == 0:
                    self._copies.record(self._record)
                self._has_all = True
            elif self._state == "stage" and may_copy:
                self._copies.some()
        except Unreachable:
            self._state = ""  # the next look tells what became of the node


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return last_words(file.read().decode(errors="replace"))
    except OSError:
        return ""
