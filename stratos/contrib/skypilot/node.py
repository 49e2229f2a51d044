"""The node of a cluster of SkyPilot: looked at by ssh, read by rsync, as SkyPilot's users do it."""

from __future__ import annotations

import base64
import functools
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stratos.core.atomic_files import write_atomically
from stratos.core.printable import visible

_LOOKS_S = 40.0
_AT_ONCE = 1_000_000
"""Bytes of a file that one look brings back."""
_LOOK = """\
cd {base} 2>/dev/null || {{ echo new; exit; }}
state=$(cat state 2>/dev/null || echo new)
[ "${{state#exit}}" = "$state" ] && [ -s pid ] && ! kill -0 "$(cat pid)" 2>/dev/null && state=dead
echo "$state"
"""
_TAILS = """\
tail -c +{events_at} {events} 2>/dev/null | head -c {most} | base64 -w0; echo
tail -c +{log_at} log 2>/dev/null | head -c {most} | base64 -w0; echo
"""
_END = "cd {base} && [ -s stage.pid ] && kill -TERM $(cat stage.pid)"


class Unreachable(Exception):
    """A node that does not answer, or whose files cannot be read."""


@dataclass(frozen=True)
class Look:
    """How a job stands on its node, and what it has written since it was asked last."""

    state: str
    """See `Node.state`."""
    events: bytes
    log: bytes
    n_bytes: int
    """That the node sent to say so."""


@dataclass(frozen=True)
class Node:
    """The one node of a cluster, by the name of the cluster."""

    name: str
    folder: Path
    """Of this machine, for how it is reached."""
    base: str
    """Folder of the job there, from the home."""

    def state(self) -> str:
        """Ask the node how its job stands: new, setup, stage, dead, or exit with a code.

        Raises:
            Unreachable: it does not answer.
        """
        return self._ssh(_LOOK.format(base=self.base)).strip()

    def look(self, events: Path, events_at: int, log_at: int) -> Look:
        """Ask the node how its job stands, and what it has written.

        Args:
            events: path there of what the job says.
            events_at: bytes of it that are known.
            log_at: bytes of its log that are known.

        Raises:
            Unreachable: it does not answer.
        """
        asked = self._ssh(
            (_LOOK + _TAILS).format(
                base=self.base, events=shlex.quote(str(events)), events_at=events_at + 1,
                log_at=log_at + 1, most=_AT_ONCE,
            )
        )  # fmt: skip
        state, said, log, *_ = [*asked.splitlines(), "", ""]
        return Look(
            state.strip(), base64.b64decode(said), base64.b64decode(log), len(asked.encode())
        )

    def tell_to_end(self) -> None:
        """Have the stage save what it has done and end.

        Raises:
            Unreachable: there is no stage that can be told so.
        """
        self._ssh(_END.format(base=self.base))

    def copy(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Begin to bring files back.

        Args:
            words: of rsync; a source begins with the name of the cluster and a colon.
            log: where rsync says how many bytes have come.

        Raises:
            Unreachable: it is not known how to reach the node.
        """
        shell = shlex.join(["ssh", *self._options()])
        with log.open("wb") as file:
            return subprocess.Popen(
                ["rsync", "--archive", "--no-owner", "--no-group", "--protect-args", "--timeout=60",
                 "--stats", "--info=progress2", "--outbuf=N", "--rsh", shell, *words],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip

    def disconnect(self) -> None:
        """Close the connection that looks share."""
        try:
            words = ["ssh", *self._options(), "-O", "exit", self.name]
            subprocess.run(words, capture_output=True, timeout=_LOOKS_S, check=False)
        except (Unreachable, subprocess.TimeoutExpired):
            pass

    def _ssh(self, script: str) -> str:
        try:
            done = subprocess.run(
                ["ssh", *self._options(), self.name, script],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOOKS_S, check=False,
                start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self.disconnect()
            raise Unreachable(f"it does not answer within {_LOOKS_S:.0f} s") from None
        if done.returncode:
            raise Unreachable(last_words(done.stderr.decode(errors="replace")))
        return done.stdout.decode(errors="replace")

    def _options(self) -> list[str]:
        """Return how ssh reaches the node: as SkyPilot has written down."""
        home = Path.home()
        try:
            text = (home / ".sky" / "generated" / "ssh" / self.name).read_text()
        except OSError:
            raise Unreachable("SkyPilot has not written down how to reach it") from None
        # ssh takes ~ for the home of the account, SkyPilot for $HOME.
        told = re.sub(r"(?m)^(\s*IdentityFile )~/", rf"\1{home}/", text)
        path = self.folder / "ssh_config"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != told:
            write_atomically(path, told.encode())
        return [
            "-F", str(path), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4",
            "-o", "ControlMaster=auto", "-o", "ControlPersist=60",
            "-o", f"ControlPath={_sockets()}/%C",
        ]  # fmt: skip


def exit_code(state: str) -> int | None:
    """Return the exit code of a stage, or of what installs it; None where it has not ended."""
    found = re.fullmatch(r"exit (\d+)", state)
    return None if found is None else int(found[1])


def last_words(text: str) -> str:
    """Return the last line of what a program says, without colours."""
    lines = [line.strip() for line in plain(text).splitlines() if line.strip(" │├└─")]
    return lines[-1].strip(" │├└─") if lines else ""


def plain(text: str) -> str:
    """Return a text without what only a terminal understands."""
    return visible(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n"))


@functools.cache
def _sockets() -> str:
    """Return a folder of this user alone, whose name is short: a socket's path is."""
    folder = Path(tempfile.gettempdir()) / f"stratos-ssh-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        return tempfile.mkdtemp(prefix="stratos-ssh-")
    return str(folder)
