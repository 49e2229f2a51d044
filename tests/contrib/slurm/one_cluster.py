"""The SLURM of slurm.sh, started by whoever runs the tests: no root, no systemd."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from job_processes import frozen, processes
from ports import free_ports

SCRIPT = Path(__file__).with_name("slurm.sh")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue")
N_PORTS = 3
"""Of the controller and of two nodes, one behind the other."""


def whats_lacking() -> str | None:
    """Return why there can be no cluster here."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    missing = [one for one in PROGRAMS if shutil.which(one, path=path) is None]
    if missing:
        return f"SLURM is not installed: {', '.join(missing)}"
    if importlib.util.find_spec("submitit") is None:
        return "submitit is not installed"
    return None


class Cluster:
    """Started once; its commands find it by `env`."""

    processes = staticmethod(processes)
    frozen = staticmethod(frozen)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = free_ports(N_PORTS)
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
        self.env = {
            **os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "SLURM_PORT": str(port),
            "PATH": path,
        }  # fmt: skip

    def up(self, nodes: int) -> str | None:
        """Start it; return why it does not."""
        done = self._script("up", str(nodes))
        return done.stdout if done.returncode else None

    def down(self) -> None:
        self._script("down")

    def lose(self, node: str) -> None:
        done = self._script("lose", node)
        assert done.returncode == 0, done.stdout + done.stderr

    def back(self, node: str) -> None:
        done = self._script("back", node)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextlib.contextmanager
    def drained(self) -> Iterator[None]:
        """Let no job start."""
        nodes = "nodename=n1,n2"
        self.run("scontrol", "update", nodes, "state=drain", "reason=busy")
        try:
            yield
        finally:
            self.run("scontrol", "update", nodes, "state=resume")
            deadline = time.monotonic() + 60
            while set(self.run("sinfo", "-N", "-h", "-o", "%t").split()) - {"idle", "mix", "alloc"}:
                assert time.monotonic() < deadline, self.run("sinfo", "-R")
                time.sleep(0.2)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Return the states of all jobs that wait or run."""
        return self.run("squeue", "-h", "-o", "%T").split()

    def node_of_the_job(self) -> str:
        return self.run("squeue", "-h", "-t", "R", "-o", "%N")

    def _script(self, what: str, *more: str) -> subprocess.CompletedProcess[str]:
        # Daemons keep what they are given open: files, and no pipes that would never end.
        with (self.folder / "script.log").open("w+") as log:
            done = subprocess.run(
                ["bash", str(SCRIPT), what, str(self.folder), *more],
                env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=180,
                check=False,
            )  # fmt: skip
            log.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, log.read(), "")
