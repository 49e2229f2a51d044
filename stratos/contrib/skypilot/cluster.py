"""A cluster of SkyPilot: launched, asked for and ended by its program, `sky`.

SkyPilot is a program here, and not a library: what it needs may differ from what Stratos needs, so
it may live in an environment of its own.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.contrib.skypilot.task import base_of
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import visible
from stratos.core.process import Process

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
        answer = self._ssh(
            (_LOOK + _TAILS).format(
                base=self.base, events=shlex.quote(str(events)), events_at=events_at + 1,
                log_at=log_at + 1, most=_AT_ONCE,
            )
        )  # fmt: skip
        state, new_events, log, *_ = [*answer.splitlines(), "", ""]
        return Look(
            state.strip(), base64.b64decode(new_events), base64.b64decode(log), len(answer.encode())
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
        config = re.sub(r"(?m)^(\s*IdentityFile )~/", rf"\1{home}/", text)
        path = self.folder / "ssh_config"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != config:
            write_atomically(path, config.encode())
        return [
            "-F", str(path), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4",
            "-o", "ControlMaster=auto", "-o", "ControlPersist=60",
            "-o", f"ControlPath={_sockets()}/%C",
        ]  # fmt: skip


def exit_code(state: str) -> int | None:
    """Return the exit code of a stage, or of what installs it; None where it has not ended."""
    match = re.fullmatch(r"exit (\d+)", state)
    return None if match is None else int(match[1])


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


_ANSWERS_S = 300.0
"""How long `sky` may take to answer: it starts its own server, and asks clouds."""


@dataclass(frozen=True)
class Cluster:
    """One cluster, known by its name."""

    name: str
    sky: str
    """The program."""
    folder: Path
    """Of this machine, for what launching it leaves."""
    withheld: tuple[str, ...] = ()
    """Variables of the environment that no program gets."""

    @property
    def node(self) -> Node:
        """Its one node."""
        return Node(self.name, self.folder, base_of(self.name))

    def launch(self, task: Path, secrets: Sequence[str], log: Path) -> None:
        """Begin to launch a task, in a process that outlives this one.

        Args:
            task: its YAML.
            secrets: variables of the environment that the task gets.
            log: for what SkyPilot says.
        """
        (self.folder / "launched").unlink(missing_ok=True)
        given = [word for name in secrets for word in ("--secret", name)]
        words = [self.sky, "launch", "--cluster", self.name, "--yes", "--detach-run", *given]
        # The exit code is kept for whoever follows.
        script = '"$@"; echo $? >"$0.new" && mv "$0.new" "$0"'
        with log.open("ab") as file:
            process = subprocess.Popen(
                ["sh", "-c", script, str(self.folder / "launched"), *words, str(task)],
                env=self._env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        _children.append(process)
        launcher = Process.of(process.pid)
        facts = {
            "host": launcher.host,
            "pid": launcher.pid,
            "boot": launcher.boot,
            "started": launcher.started,
        }
        write_atomically(self.folder / "launch.json", json.dumps(facts).encode())

    def launched(self) -> int | None:
        """Return the exit code of the launch; None where it was none, or has not ended."""
        try:
            return int((self.folder / "launched").read_text())
        except (OSError, ValueError):
            return None

    def is_launching(self) -> bool:
        """Return whether the process that launches it runs."""
        for child in _children:
            child.poll()  # else it stays as a zombie
        try:
            facts = json.loads((self.folder / "launch.json").read_bytes())
            return self.launched() is None and not Process(**facts).is_dead()
        except (OSError, ValueError, TypeError):
            return False

    def began_at(self) -> float | None:
        """Return when the launch began, in seconds since the epoch."""
        try:
            return (self.folder / "launch.json").stat().st_mtime
        except OSError:
            return None

    def launched_at(self) -> float | None:
        """Return when the launch ended, in seconds since the epoch."""
        try:
            return (self.folder / "launched").stat().st_mtime
        except OSError:
            return None

    def record(self, *, refresh: bool = False) -> dict[str, Any] | None:
        """Return what SkyPilot knows of it; None where there is no such cluster.

        Args:
            refresh: ask the cloud itself.

        Raises:
            Unreachable: SkyPilot does not answer, or cannot ask the cloud.
        """
        more = ("--refresh",) if refresh else ()
        clusters = self._listed("status", self.name, *more)
        return next((record for record in clusters if record.get("name") == self.name), None)

    def down(self) -> None:
        """End it, and return when it is gone.

        Raises:
            Unreachable: it may still be there.
        """
        self.node.disconnect()
        if self.is_launching():
            self._stop_launching()
        if self.record() is None:
            return
        answer = self._sky("down", "--yes", self.name)
        if self.record() is not None:
            raise Unreachable(last_words(answer.stdout + answer.stderr))

    def _stop_launching(self) -> None:
        """End the launch, of which there may be no cluster yet; SkyPilot's server goes on else."""
        facts = json.loads((self.folder / "launch.json").read_bytes())
        with contextlib.suppress(OSError):
            os.killpg(facts["pid"], signal.SIGTERM)
        requests = self._listed("api", "status", "--cluster", self.name)
        if ids := [
            request["request_id"]
            for request in requests
            if request.get("cluster_name") == self.name
        ]:
            self._sky("api", "cancel", "--yes", *ids)

    def _listed(self, *words: str) -> list[dict[str, Any]]:
        """Return a list that `sky` tells as JSON.

        Raises:
            Unreachable: it tells none.
        """
        answer = self._sky(*words, "--output", "json")
        _, start, rest = f"\n{answer.stdout}".rpartition("\n[")  # behind what else it says
        with contextlib.suppress(ValueError):
            if start and not answer.returncode:
                return json.loads(f"[{rest}")
        raise Unreachable(last_words(answer.stderr or answer.stdout))

    def _sky(self, *words: str) -> subprocess.CompletedProcess[str]:
        return sky(self.sky, *words, env=self._env)

    @property
    def _env(self) -> dict[str, str]:
        return {name: os.environ[name] for name in os.environ if name not in self.withheld}


_children: list[subprocess.Popen[bytes]] = []
"""Launches of this process."""


def sky(program: str, *words: str, env: dict[str, str] | None = None,
        seconds: float = _ANSWERS_S) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run SkyPilot's program; one that does not answer in time has exit code 124."""
    env = {**(os.environ if env is None else env), "NO_COLOR": "1"}
    try:
        # Ctrl-C is for Stratos: what it asks of SkyPilot is done.
        return subprocess.run(
            [program, *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        why = f"sky {words[0]} does not answer within {seconds:.0f} s"
        return subprocess.CompletedProcess(words, 124, "", why)
    except OSError as error:
        raise StratosError(f"{program} cannot be run ({error}).") from error
