"""The nginx before a hosted student: its start and its stop.

nginx does the work: it is what many put before such servers, and slow clients, floods and broken
requests are its everyday. Ours is the file that it reads (`contrib.nginx_config`), and a process
that nginx does not outlive, which closes it when its server is gone (`door.watch`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stratos.core.atomic_files import replacing_file, write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import counted
from stratos.core.process import Process
from stratos.core.reasons import Because
from stratos.deploy.hosted_server import FrontStatus, Hosted, ServerFront
from stratos.deploy.server import last_lines


@dataclass(frozen=True)
class DoorStatus:
    """Whether a door is open, and what closed it."""

    listen: str
    """Where it was opened, as HOST:PORT; "" where that is not known."""
    pid: int | None
    """Of the nginx that runs."""
    left: tuple[int, ...]
    """Processes that let clients in, of an nginx that was killed."""
    closed_since: str
    """When it closed by itself, and why; "" where it did not."""
    log: Path
    bundle: str
    """Whose door it is; "" where that is not known any more."""

    @property
    def is_open(self) -> bool:
        """Whether clients are let in."""
        return self.pid is not None or bool(self.left)

    def __str__(self) -> str:
        if self.pid is not None:
            where = self.listen or "?"
            return f"Open at {where} (process {self.pid}). Requests: {self.log}"
        if self.left:
            n = len(self.left)
            let_in = counted(n, "process of it still lets", "processes of it still let")
            folder = shlex.quote(self.bundle) if self.bundle else "outputs/<run>"
            return (
                f"Not closed: nginx was killed, and {let_in} in who has a key "
                f"({', '.join(map(str, self.left))}). To end what is left, type: "
                f"stratos door stop {folder}"
            )
        if self.closed_since:
            why = f"Closed {self.closed_since}."
        elif self.listen:
            why = "Closed: nginx, or the process that watched it, was ended from outside."
        else:
            return "Closed."
        return f"{why} The command that opened it opens it again when the server runs."


_MASTER, _WORKER = b"nginx: master process ", b"nginx: worker"
_END_S = 15.0
_ENDING_LOOK_S = 0.01


def is_master(title: bytes, conf: Path) -> bool:
    """Return whether a process is the master of the nginx that has a config, by its title."""
    words = title.rstrip(b"\0 ")
    return words.startswith(_MASTER) and words.endswith(b"-c " + bytes(conf))


def workers_of(folder: Path, conf: Path) -> dict[int, bytes]:
    """Return the processes of a door that let clients in, with their titles.

    They are told from those of another nginx by the logs of this door, which they hold open: that
    needs no file with a process id, which may be an old one.
    """
    found = {}
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            title = (one / "cmdline").read_bytes()
            if title.startswith(_WORKER) and _has_worker(folder, conf, one):
                found[int(one.name)] = title
    return found


def _has_worker(folder: Path, conf: Path, process: Path) -> bool:
    inside = f"{folder.resolve()}{os.sep}"
    try:
        return any(os.readlink(one).startswith(inside) for one in (process / "fd").iterdir())
    except PermissionError:  # of root in a container, to whom workers of nobody are closed
        group = int((folder / "nginx.pid").read_text())
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        title = Path(f"/proc/{parent}/cmdline").read_bytes()
        is_other = title.startswith(_MASTER) and not is_master(title, conf)
        return os.getpgid(int(process.name)) == group and not is_other


def end(workers: Iterable[int]) -> bool:
    """End processes at once; return, when they are gone, whether there were any."""
    ended = [Process.of(pid) for pid in workers]
    for one in ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
    until = time.monotonic() + _END_S
    while not all(one.is_dead() for one in ended) and time.monotonic() < until:
        time.sleep(_ENDING_LOOK_S)
    return bool(ended)


def is_open(title: bytes) -> bool:
    """Return whether a worker takes new requests, by its title."""
    return b"shutting down" not in title


NOT_INSTALLED = (
    "nginx is not installed. Type: apt-get install nginx-light (or your system's own way); "
    "stratos serve alone serves this machine without it."
)
_STOP_S = 60.0
_START_S = 60.0
_LOOK_S = 0.1
_OPENED, _WHY = "opened.json", "closed"


@dataclass(frozen=True)
class Opened:
    """How a door was opened."""

    listen: str
    """Where it listens, as HOST:PORT."""
    port: int
    """Of the server behind it."""
    inner_port: int
    """Where it hands whole requests on to itself."""


@dataclass(frozen=True)
class Door:
    """One nginx, in a folder of its own."""

    folder: Path

    @property
    def conf(self) -> Path:
        """Its config."""
        return self.folder / "nginx.conf"

    @property
    def log(self) -> Path:
        """One line a request: when, whose key, status and seconds; never what was asked."""
        return self.folder / "access.log"

    @property
    def errors(self) -> Path:
        """What nginx says of itself."""
        return self.folder / "error.log"

    @property
    def process(self) -> Process | None:
        """The nginx that runs; None if there is none."""
        try:
            pid = int((self.folder / "nginx.pid").read_text())
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # The id may be another's by now, even that of another nginx: its title has its config.
        one = Process.of(pid)
        return one if is_master(title, self.conf) and not one.is_dead() else None

    @property
    def state(self) -> Path:
        """File of the `Hosted` behind it."""
        return self.folder.with_suffix(".json")

    @property
    def opened(self) -> Opened | None:
        """How it was opened; None if it never was, or was stopped since."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.folder / _OPENED).read_bytes(), type=Opened)
        return None

    def write_opened(self, opened: Opened | None) -> None:
        """Write down how it is opened; None for a door that is not."""
        if opened is None:
            (self.folder / _OPENED).unlink(missing_ok=True)
        else:
            write_atomically(self.folder / _OPENED, msgspec.json.encode(opened))

    @property
    def command(self) -> list[str]:
        """The command that runs nginx until it is told to end.

        Raises:
            StratosError: it is not installed.
        """
        return [*self._call(), "-g", "daemon off;", "-c", str(self.conf)]

    def _call(self) -> list[str]:
        return [program(), "-p", str(self.folder), "-e", str(self.errors)]

    @property
    def closed_since(self) -> str:
        """When it closed by itself, and why; "" where it did not, or that is not known."""
        with contextlib.suppress(OSError):
            return (self.folder / _WHY).read_text()
        return ""

    def status(self) -> DoorStatus:
        """Return whether it is open, and what closed it."""
        opened, running, hosted = self.opened, self.process, Hosted.read(self.state)
        return DoorStatus(
            listen="" if opened is None else opened.listen,
            pid=None if running is None else running.pid,
            left=() if running is not None else tuple(self.left),
            closed_since=self.closed_since,
            log=self.log,
            bundle="" if hosted is None else hosted.bundle,
        )

    def make_folder(self) -> None:
        """Make the folder, which nobody else reads: the config holds keys."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def start(self, text: str) -> bool:
        """Start nginx with a config, or have the one that runs take it; return whether it ran.

        Raises:
            StratosError: there is no nginx, or it refuses the config or does not start.
        """
        call = self._call()
        self.make_folder()
        (self.folder / _WHY).unlink(missing_ok=True)
        before = self.conf.read_bytes() if self.conf.exists() else None
        with replacing_file(self.conf) as new:
            new.write_text(text)
            if (why := _refused([*call, "-c", str(new), "-t", "-q"])) is not None:
                raise StratosError(f"nginx refuses its config: {why}")
        if (running := self.process) is not None:
            try:
                self._reload(running)
            except StratosError:
                if before is not None:  # what it goes on with
                    write_atomically(self.conf, before)
                raise
            return True
        end(self._workers())
        self._start_watched()
        return False

    def _start_watched(self) -> None:
        """Start what runs nginx and closes it when its server is gone; return when it is open."""
        said = self.folder / "watch.log"
        with said.open("wb") as log:
            watcher = subprocess.Popen(
                [sys.executable, "-P", "-m", "stratos.contrib.door.watch", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + _START_S
        while self.process is None or not self._workers():  # its id is written before they start
            if watcher.poll() is not None:
                raise StratosError(f"nginx does not start: {_first_error(said.read_text())}")
            if time.monotonic() > until:
                watcher.kill()
                watcher.wait()
                raise StratosError(
                    f"nginx does not start. The end of {self.errors}:\n{last_lines(self.errors)}"
                )
            time.sleep(_LOOK_S)

    def close(self, why: str) -> None:
        """Close it at once, without an end to what it answers, and write down why."""
        if (running := self.process) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        end(self._workers())
        self._write_why(why)

    def end_left(self, why: str) -> None:
        """End what an nginx that is gone has left, and write down why; "" writes nothing.

        Nothing is done where it was opened again since, and no reason is written down where it
        was stopped.
        """
        workers = self._workers()
        if self.process is not None:  # its id is written before it has workers
            return
        end(workers)
        if why and self.opened is not None:
            self._write_why(why)

    def _write_why(self, why: str) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        write_atomically(self.folder / _WHY, f"at {now}, since {why}".encode())

    def _reload(self, running: Process) -> None:
        """Have nginx take a new config, and wait until nobody is let in by the old one."""
        before = self._workers()
        os.kill(running.pid, signal.SIGHUP)
        until = time.monotonic() + _START_S
        while any(is_open(title) for pid, title in self._workers().items() if pid in before):
            if time.monotonic() > until:
                raise StratosError(
                    "nginx does not take its new config. The end of "
                    f"{self.errors}:\n{last_lines(self.errors)}"
                )
            time.sleep(_LOOK_S)

    @property
    def left(self) -> list[int]:
        """Processes that let clients in where the nginx was killed that had started them."""
        workers = self._workers()
        return sorted(workers) if self.process is None else []

    def _workers(self) -> dict[int, bytes]:
        return workers_of(self.folder, self.conf)

    def stop(self) -> bool:
        """Let nginx end what it answers, take nothing new, and end; return whether it was open.

        Raises:
            StratosError: it does not end.
        """
        running = self.process
        (self.folder / _WHY).unlink(missing_ok=True)
        self.write_opened(None)
        if running is None:
            return end(self._workers())
        for number in (signal.SIGQUIT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, number)
            until = time.monotonic() + _STOP_S
            while time.monotonic() < until:
                if running.is_dead():
                    end(self._workers())  # of one that was killed meanwhile
                    return True
                time.sleep(_LOOK_S)
        raise StratosError(f"nginx does not end. Type: kill -9 {running.pid}")


def program() -> str:
    """Return nginx.

    Raises:
        StratosError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which("nginx", path=path)
    if found is None:
        raise StratosError(NOT_INSTALLED)
    return found


def _refused(call: list[str]) -> Because | None:
    """Let nginx test a config; return why it does not take it."""
    done = subprocess.run(
        call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", check=False,
    )  # fmt: skip
    return Because(_first_error(done.stdout)) if done.returncode else None


def _first_error(said: str) -> str:
    """Return the error in what nginx says."""
    lines = said.splitlines()
    first = next((one for one in lines if "[emerg]" in one), "".join(lines[-1:]))
    return re.sub(r"^.*\[emerg\] (\d+#\d+: )?", "", first).strip() or "it says nothing"


class DoorFront(ServerFront):
    """nginx before a student, which `stratos door` opens."""

    def status(self, state: Path, hosted: Hosted, answers: bool) -> FrontStatus:
        """Return whether it is open; no facts where none was opened, or it was stopped."""
        door = Door(state.with_suffix(".door"))
        status = door.status()
        if door.opened is None and not status.is_open:
            return FrontStatus("", {"door": None})
        facts = {
            "is_open": status.is_open,
            "listen": status.listen if status.is_open else "",
            "pid": status.pid if status.pid is not None else next(iter(status.left), None),
            "text": str(status),
        }
        return FrontStatus(f"door: {status}", {"door": facts})

    def stop(self, state: Path) -> str:
        """Close it."""
        return "its door is closed" if Door(state.with_suffix(".door")).stop() else ""

    def hint(self, folder: str) -> str:
        """Return how others are let in."""
        return f"To let others reach it: stratos door {folder}"
