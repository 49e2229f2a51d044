"""What comes back of a job on a node while it runs.

What the node says is appended to the same files here; what it writes is copied from time to time,
each file whole or not at all. The record is kept aside until the cluster is gone. So whatever is
cut short, the run folder holds a state to go on from.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from stratos.contrib.skypilot.cluster import Cluster
from stratos.contrib.skypilot.node import Unreachable, last_words
from stratos.core.atomic_files import STAGED, write_atomically
from stratos.executors import handed
from stratos.executors.job import JobSpec
from stratos.executors.received import Received

_GONE = 24
"""Exit code of rsync where a file was gone before it was read: a checkpoint that made room."""
_NOT_WHOLE = tuple(f"--exclude={one}" for one in STAGED)
_WRITTEN = {
    "probe": ("/probe/***",),
    "synthesize": ("/corpus/***", "/rows_to_label.jsonl"),
    "distill": ("/distill/***",),
    "evaluate": ("/evaluate/***",),
    "deploy": ("/bundle/***", "/deploy/***"),
}
"""Stage to what it writes in a run folder. All else is the command's, which may have made it again
since it was sent."""


class Fetched:
    """What is here by now of a job on a cluster."""

    def __init__(self, spec: JobSpec, cluster: Cluster, log: Path, every_s: float) -> None:
        """Go on with what is here.

        Args:
            spec: the job.
            cluster: whose one job it is.
            log: for what the job prints.
            every_s: seconds between two copies of what the stage has written.
        """
        self._spec = spec
        self._cluster = cluster
        self._log = log
        self._every_s = every_s
        self._copied_at = float("-inf")
        self._copying: subprocess.Popen[bytes] | None = None
        self._received = Received(spec.folder, spec.stage)
        self._said: Path | None = None
        """What rsync says of the copy under way."""

    def tails(self) -> str:
        """Append to the files of here what was appended to those of the node.

        Returns:
            How the job stands, as `Node.state` says it.

        Raises:
            Unreachable: the node does not answer.
        """
        # The same path here and there.
        events = handed.events_path(self._spec.folder, self._spec.stage)
        mark = self._cluster.folder / "log_at"
        while True:
            log_at, heard = _number(mark), events.stat().st_size if events.exists() else 0
            look = self._cluster.node.look(events, heard, log_at)
            self._received.add(look.n_bytes)
            for path, data in ((events, look.events), (self._log, look.log)):
                if data:
                    with path.open("ab") as file:
                        file.write(data)
            if look.log:
                write_atomically(mark, str(log_at + len(look.log)).encode())
            # A job that has ended has said all only where a look brings nothing more.
            if look.state == "new" or not (look.events or look.log):
                return look.state

    def some(self) -> None:
        """Begin to copy what the stage has written, where that is due.

        Raises:
            Unreachable: it is not known how to reach the node.
        """
        is_copying = self._copying is not None and self._copying.poll() is None
        if not is_copying and time.monotonic() > self._copied_at + self._every_s:
            self._ended()
            self._copy()

    def all(self) -> None:
        """Copy what the stage has written.

        Raises:
            Unreachable: it is not all here.
        """
        if self._copying is not None:
            self._copying.communicate()
            self._ended()
        self._wait(self._copy())

    def record(self, path: Path) -> None:
        """Copy the record of the stage to a path.

        Raises:
            Unreachable: it is not here.
        """
        source = self._spec.folder / f"{self._spec.stage}.json"
        self._wait(self._begin([f"{self._cluster.name}:{source}", str(path)]))

    def stop(self) -> None:
        """Copy no more."""
        if self._copying is not None and self._copying.poll() is None:
            self._copying.kill()
            self._copying.communicate()
        self._ended()

    def _copy(self) -> subprocess.Popen[bytes]:
        """Begin to copy what the stage writes."""
        self._copied_at = time.monotonic()
        folder = f"{self._spec.folder}/"
        place = f"{self._cluster.name}:{folder}"
        self._copying = self._begin([*rules(self._spec.stage), place, folder])
        return self._copying

    def _begin(self, words: list[str]) -> subprocess.Popen[bytes]:
        self._said = self._received.new_copy()
        return self._cluster.node.copy(words, self._said)

    def _wait(self, copying: subprocess.Popen[bytes]) -> None:
        """Wait for files.

        Raises:
            Unreachable: they are not all here.
        """
        _, said = copying.communicate()
        self._ended()
        if copying.returncode not in (0, _GONE):
            raise Unreachable(last_words(said.decode(errors="replace")))

    def _ended(self) -> None:
        """Count the bytes of a copy that has ended."""
        if self._said is not None:
            self._received.ended(self._said)
            self._said = None


def rules(stage: str) -> list[str]:
    """Return what rsync is told to copy of a run folder.

    What the stage has deleted there is deleted here: of its checkpoints two are kept.
    """
    written = [f"--include={one}" for one in _WRITTEN[stage]]
    return ["--delete-after", *_NOT_WHOLE, *written, "--exclude=/*"]


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
