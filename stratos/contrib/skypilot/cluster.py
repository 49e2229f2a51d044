"""A cluster of SkyPilot: launched, asked for and ended by its program, `sky`.

SkyPilot is a program here, and not a library: what it needs may differ from what Stratos needs, so
it may live in an environment of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.contrib.skypilot.node import Node, Unreachable, last_words
from stratos.contrib.skypilot.task import base_of
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.process import Process

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
        one = Process.of(process.pid)
        told = {"host": one.host, "pid": one.pid, "boot": one.boot, "started": one.started}
        write_atomically(self.folder / "launch.json", json.dumps(told).encode())

    def launched(self) -> int | None:
        """Return the exit code of the launch; None where it was none, or has not ended."""
        try:
            return int((self.folder / "launched").read_text())
        except (OSError, ValueError):
            return None

    def is_launching(self) -> bool:
        """Return whether the process that launches it runs."""
        for one in _children:
            one.poll()  # else it stays as a zombie
        try:
            told = json.loads((self.folder / "launch.json").read_bytes())
            return self.launched() is None and not Process(**told).is_dead()
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
        found = self._listed("status", self.name, *more)
        return next((one for one in found if one.get("name") == self.name), None)

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
        asked = self._sky("down", "--yes", self.name)
        if self.record() is not None:
            raise Unreachable(last_words(asked.stdout + asked.stderr))

    def _stop_launching(self) -> None:
        """End the launch, of which there may be no cluster yet; SkyPilot's server goes on else."""
        told = json.loads((self.folder / "launch.json").read_bytes())
        with contextlib.suppress(OSError):
            os.killpg(told["pid"], signal.SIGTERM)
        found = self._listed("api", "status", "--cluster", self.name)
        if ids := [one["request_id"] for one in found if one.get("cluster_name") == self.name]:
            self._sky("api", "cancel", "--yes", *ids)

    def _listed(self, *words: str) -> list[dict[str, Any]]:
        """Return a list that `sky` tells as JSON.

        Raises:
            Unreachable: it tells none.
        """
        asked = self._sky(*words, "--output", "json")
        _, start, rest = f"\n{asked.stdout}".rpartition("\n[")  # behind what else it says
        with contextlib.suppress(ValueError):
            if start and not asked.returncode:
                found: list[dict[str, Any]] = json.loads(f"[{rest}")
                return found
        raise Unreachable(last_words(asked.stderr or asked.stdout))

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
