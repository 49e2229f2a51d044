"""Where the servers of one training meet: the first one names it in a file that all of them see.

`python -m stratos.distill.meeting <file> <node>` is one of the other servers: it waits for that
file, and becomes the launcher of its own processes.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import msgspec

from stratos.core.atomic_files import write_atomically

VARIABLE = "STRATOS_MEETING"
"""Variable with the file, in the environment of the first server."""
_LOOK_S = 0.5


class Meeting(msgspec.Struct, frozen=True):
    """What every server has to know."""

    host: str
    port: int
    folder: str
    """In which the training's job lies."""
    n_nodes: int
    n_devices: int
    """Processes of each server."""

    def words(self, node: int) -> list[str]:
        """Return the command of a server behind `torch.distributed.run`."""
        return [
            f"--nnodes={self.n_nodes}",
            f"--nproc-per-node={self.n_devices}",
            f"--node-rank={node}",
            f"--master-addr={self.host}",
            f"--master-port={self.port}",
            "-m",
            "stratos.distill.worker",
            self.folder,
        ]


def called() -> Path | None:
    """Return the file in which this server is to call the others; None where there are none."""
    path = os.environ.get(VARIABLE)
    return None if path is None else Path(path)


def call(path: Path, folder: Path, n_nodes: int, n_devices: int) -> Meeting:
    """Have the other servers come to this one."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    made = Meeting(socket.gethostname(), port, str(folder), n_nodes, n_devices)
    write_atomically(path, msgspec.json.encode(made))
    return made


def await_call(path: Path) -> Meeting | None:
    """Return where the first server is; None once it has ended, and called nobody."""
    while not path.exists():
        if has_ended(path):
            return None
        time.sleep(_LOOK_S)
    return msgspec.json.decode(path.read_bytes(), type=Meeting)


def end(path: Path) -> None:
    """Take notice that the first server has ended."""
    _end(path).touch()


def has_ended(path: Path) -> bool:
    """Return whether the first server has ended."""
    return _end(path).exists()


def _end(path: Path) -> Path:
    return path.with_suffix(".end")


def main() -> None:
    """Wait for the first server, and become the launcher of this one."""
    meeting = await_call(Path(sys.argv[1]))
    if meeting is None:
        return
    command = [sys.executable, "-m", "torch.distributed.run", *meeting.words(int(sys.argv[2]))]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
